import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from tfrec.models.calibration import Calibrator
from tfrec.registry import CALIBRATORS

METHODS = ("temperature", "platt", "isotonic")


def make_calibrator(kind: str = "platt", num_terms: int = 1) -> Calibrator:
    return CALIBRATORS.make(kind, "ranking.calibration.kind", {}, num_terms=num_terms)


def draw(count: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits of one term that are too large by half and shifted, with labels and weights."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1, 1.5, count)
    labels = (rng.random(count) < expit(truth)).astype(np.float32)
    return (1.5 * truth + 0.7).astype(np.float32)[:, None], labels, rng.uniform(0.5, 3, count)


def probabilities(calibrator: Calibrator, terms: np.ndarray) -> np.ndarray:
    compiled = tf.function(calibrator, autograph=False)
    return expit(compiled(tf.constant(terms)).numpy().astype(np.float64))


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_calibration_equals_scikit_learn(method, is_weighted):
    logits, labels, weights = draw()
    weights = weights if is_weighted else None
    calibrator = make_calibrator(method)
    assert calibrator.fit(logits, labels, weights)
    asked = np.linspace(-9, 9, 200).astype(np.float32)[:, None]
    if method == "isotonic":
        oracle = IsotonicRegression(out_of_bounds="clip").fit(logits[:, 0], labels, weights)
        wanted = np.clip(oracle.predict(asked[:, 0]), 1e-7, 1 - 1e-7)
    else:
        oracle = LogisticRegression(C=np.inf, fit_intercept=method == "platt")
        wanted = oracle.fit(logits, labels, weights).predict_proba(asked)[:, 1]
    np.testing.assert_allclose(probabilities(calibrator, asked), wanted, atol=2e-5)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_calibrated_probabilities_have_the_mean_of_the_labels(method):
    logits, labels, weights = draw()
    calibrator = make_calibrator(method)
    calibrator.fit(logits, labels, weights)
    mean = np.average(probabilities(calibrator, logits), weights=weights)
    assert mean == pytest.approx(np.average(labels, weights=weights), abs=1e-4)


@pytest.mark.parametrize("method", [*METHODS, "none"])
def test_labels_of_one_class_and_backward_logits_teach_nothing(method):
    logits, labels, _ = draw(500)
    calibrator = make_calibrator(method)
    for one_class in (np.zeros_like(labels), np.ones_like(labels)):
        assert not calibrator.fit(logits, one_class)
    assert not calibrator.fit(-np.where(labels == 1, 2.0, -2.0)[:, None], labels)
    np.testing.assert_array_equal(calibrator(tf.constant(logits)), logits[:, 0])


def test_calibration_fitted_again_forgets_the_first_fit():
    logits, labels, _ = draw()
    once, twice = make_calibrator("isotonic"), make_calibrator("isotonic")
    once.fit(logits, labels)
    twice.fit(*draw(seed=1)[:2])
    twice.fit(logits, labels)
    for one, other in zip(once.variables, twice.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_more_steps_than_the_table_holds_are_thinned_out():
    count = 3000
    logits = np.linspace(-4, 4, count).astype(np.float32)
    labels = expit(logits)  # rising shares: every row is a step
    calibrator = make_calibrator("isotonic")
    assert calibrator.fit(np.repeat(logits, 2)[:, None], np.stack([labels, labels], 1).ravel())
    np.testing.assert_allclose(probabilities(calibrator, logits[:, None]), labels, atol=1e-3)


def test_isotonic_log_odds_are_finite_and_rise_at_the_ends():
    logits = np.array([-3, -2, 2, 3], np.float32)
    calibrator = make_calibrator("isotonic")
    calibrator.fit(logits[:, None], np.array([0, 0, 1, 1]))
    ends = calibrator(tf.constant([[-50.0], [0.0], [50.0]])).numpy()
    assert np.isfinite(ends).all()
    assert (np.diff(ends) > 0).all()


def test_copied_variables_are_the_same_function():
    logits, labels, _ = draw()
    for method in METHODS:
        fitted, copy = make_calibrator(method), make_calibrator(method)
        fitted.fit(logits, labels)
        for variable, value in zip(copy.variables, fitted.variables, strict=True):
            variable.assign(value)
        np.testing.assert_array_equal(copy(tf.constant(logits)), fitted(tf.constant(logits)))


def test_each_term_gets_the_slope_that_logistic_regression_gives_it():
    rng = np.random.default_rng(3)
    terms = rng.normal(0, [2.0, 0.5, 1.0], (5000, 3)).astype(np.float32)
    labels = (rng.random(5000) < expit(terms @ [0.3, 1.0, 2.0] - 0.5)).astype(np.float32)
    calibrator = make_calibrator(num_terms=3)
    assert calibrator.fit(terms, labels)
    oracle = LogisticRegression(C=np.inf).fit(terms, labels)
    np.testing.assert_allclose(calibrator.slopes, oracle.coef_[0], atol=1e-5)
    np.testing.assert_allclose(calibrator.slopes, [0.3, 1.0, 2.0], atol=0.2)
    np.testing.assert_allclose(
        probabilities(calibrator, terms), oracle.predict_proba(terms)[:, 1], atol=1e-5
    )


def test_terms_that_are_constant_or_order_backwards_are_left_out():
    logits, labels, _ = draw()
    rng = np.random.default_rng(4)
    backwards = -labels[:, None] + rng.normal(0, 1, logits.shape)
    terms = np.concatenate([backwards, logits, np.full_like(logits, 7)], axis=-1)
    calibrator, alone = make_calibrator(num_terms=3), make_calibrator()
    assert calibrator.fit(terms, labels)
    assert alone.fit(logits, labels)
    np.testing.assert_array_equal(calibrator.slopes, [0, alone.slopes[0], 0])
    assert calibrator.offset == alone.offset


@pytest.mark.parametrize("method", ["temperature", "isotonic", "none"])
def test_other_methods_read_the_sum_of_the_terms(method):
    logits, labels, _ = draw()
    split, alone = make_calibrator(method, num_terms=2), make_calibrator(method)
    half = np.concatenate([logits / 2, logits / 2], axis=-1)
    assert split.fit(half, labels) == alone.fit(logits, labels)
    np.testing.assert_allclose(probabilities(split, half), probabilities(alone, logits), atol=1e-6)
