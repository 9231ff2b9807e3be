import numpy as np
import pytest
import tensorflow as tf

from tfrec.losses.log_q import log_expected_counts

NUM_ITEMS = 12


def test_expected_counts_of_several_sources_equal_those_of_a_simulation():
    rng = np.random.default_rng(0)
    unigram = rng.dirichlet(np.ones(NUM_ITEMS))
    popular = unigram**0.75 / (unigram**0.75).sum()
    uniform = np.full(NUM_ITEMS, 1 / NUM_ITEMS)
    sources = [(8, unigram), (5, uniform), (3, popular), (20, unigram)]
    trials = 4000
    counts = np.zeros(NUM_ITEMS)
    for number, share in sources:
        drawn = rng.choice(NUM_ITEMS, (trials, number), p=share)
        counts += np.bincount(drawn.ravel(), minlength=NUM_ITEMS)
    expected = np.exp(
        log_expected_counts([(n, tf.constant(q.astype(np.float32))) for n, q in sources])
    )
    # A count is a sum of draws; its variance is at most its mean.
    deviation = np.sqrt(expected / trials)
    assert (np.abs(counts / trials - expected) < 5 * deviation).all()
    assert expected.sum() == pytest.approx(8 + 5 + 3 + 20, rel=1e-5)


def test_expected_count_golden_numbers():
    # 10 draws at 0.2 and 4 at 0.25: 2 + 1 = 3. 10 at 0.05 and 4 at 0.25: 0.5 + 1 = 1.5.
    number = tf.constant(10)
    found = log_expected_counts([(number, tf.constant([0.2, 0.05])), (4, tf.constant(0.25))])
    np.testing.assert_allclose(np.exp(found), [3.0, 1.5], rtol=1e-6)


def test_item_that_no_source_draws_counts_once():
    found = log_expected_counts([(10, tf.constant([0.0, 0.5]))])
    np.testing.assert_allclose(found, [0.0, np.log(5)], rtol=1e-6)


def test_no_source_is_refused():
    with pytest.raises(ValueError, match="at least one source"):
        log_expected_counts([])
