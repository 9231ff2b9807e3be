import numpy as np
import pytest
import tensorflow as tf

from tfrec.losses.masked_lm import mask_tokens

MASK, NUM_SPECIAL, VOCABULARY = 4, 5, 50_000
RATE = 0.15


def hide(token_ids: np.ndarray, seed: tuple[int, int] = (1, 2)) -> tuple[np.ndarray, np.ndarray]:
    changed, to_guess = mask_tokens(
        tf.constant(token_ids, tf.int32),
        tf.constant(seed, tf.int32),
        mask_rate=RATE,
        mask_token_id=MASK,
        num_special=NUM_SPECIAL,
        vocabulary_size=VOCABULARY,
    )
    return changed.numpy(), to_guess.numpy()


@pytest.fixture(scope="module")
def tokens() -> np.ndarray:
    return np.random.default_rng(0).integers(NUM_SPECIAL, VOCABULARY, (2000, 100), np.int32)


@pytest.fixture(scope="module")
def hidden(tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return hide(tokens)


def assert_share(hits: int, trials: int, wanted: float) -> None:
    """A share of a fair draw lies within five standard deviations."""
    deviation = np.sqrt(wanted * (1 - wanted) / trials)
    assert abs(hits / trials - wanted) < 5 * deviation


def test_mask_with_same_seed_is_the_same(tokens):
    for first, second in zip(hide(tokens, (3, 9)), hide(tokens, (3, 9)), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("other", [(3, 10), (4, 9), (9, 3)])
def test_mask_with_other_seed_is_another(tokens, other):
    _, first = hide(tokens, (3, 9))
    _, second = hide(tokens, other)
    # Independent masks agree on being true with probability RATE * RATE.
    assert_share(int((first & second).sum()), first.size, RATE * RATE)


def test_mask_of_special_and_padding_never_hides_them():
    special = np.tile(np.arange(NUM_SPECIAL, dtype=np.int32), (200, 20))
    changed, to_guess = hide(special)
    assert not to_guess.any()
    np.testing.assert_array_equal(changed, special)


def test_mask_beside_special_tokens_hides_the_first_ordinary_id():
    changed, to_guess = hide(np.full((100, 20), NUM_SPECIAL, np.int32))
    assert to_guess.any()
    assert (changed[to_guess] == MASK).any()


def test_share_to_guess_is_the_mask_rate(tokens, hidden):
    assert_share(int(hidden[1].sum()), tokens.size, RATE)


def test_shares_of_mask_random_and_kept_are_80_10_10(tokens, hidden):
    changed, to_guess = hidden
    now, before = changed[to_guess], tokens[to_guess]
    is_mask, is_kept = now == MASK, now == before
    assert_share(int(is_mask.sum()), now.size, 0.8)
    assert_share(int(is_kept.sum()), now.size, 0.1)  # a random token is the old one 1 in 50,000
    assert_share(int((~is_mask & ~is_kept).sum()), now.size, 0.1)


def test_random_tokens_are_ordinary_and_spread_over_the_vocabulary(tokens, hidden):
    changed, to_guess = hidden
    now, before = changed[to_guess], tokens[to_guess]
    drawn = now[(now != MASK) & (now != before)]
    assert drawn.min() >= NUM_SPECIAL
    assert drawn.max() < VOCABULARY
    # Uniform over [5, 50000): mean 25002, standard deviation 49995 / sqrt(12) = 14432.
    assert abs(drawn.mean() - 25_002) < 5 * 14_432 / np.sqrt(drawn.size)


def test_tokens_that_are_not_to_guess_stay(tokens, hidden):
    changed, to_guess = hidden
    np.testing.assert_array_equal(changed[~to_guess], tokens[~to_guess])


def test_way_of_hiding_does_not_depend_on_being_chosen(tokens, hidden):
    # If choice and way shared their random numbers, all chosen tokens would take one way in each
    # half of the text. Even and odd columns must show the same mixture.
    changed, to_guess = hidden
    for columns in (slice(0, None, 2), slice(1, None, 2)):
        now = changed[:, columns][to_guess[:, columns]]
        assert_share(int((now == MASK).sum()), now.size, 0.8)
