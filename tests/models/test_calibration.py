import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from tfrec.models.calibration import Calibrator

METHODS = ("temperature", "platt", "isotonic")


def draw(count: int = 4000, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits that are too large by half and shifted, with labels and weights."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1, 1.5, count)
    labels = (rng.random(count) < expit(truth)).astype(np.float32)
    return (1.5 * truth + 0.7).astype(np.float32), labels, rng.uniform(0.5, 3, count)


def probabilities(calibrator: Calibrator, logits: np.ndarray) -> np.ndarray:
    compiled = tf.function(calibrator, autograph=False)
    return expit(compiled(tf.constant(logits)).numpy().astype(np.float64))


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_calibration_equals_scikit_learn(method, is_weighted):
    logits, labels, weights = draw()
    weights = weights if is_weighted else None
    calibrator = Calibrator(method)
    assert calibrator.fit(logits, labels, weights)
    asked = np.linspace(-9, 9, 200).astype(np.float32)
    if method == "isotonic":
        oracle = IsotonicRegression(out_of_bounds="clip").fit(logits, labels, weights)
        wanted = np.clip(oracle.predict(asked), 1e-7, 1 - 1e-7)
    else:
        oracle = LogisticRegression(C=np.inf, fit_intercept=method == "platt")
        wanted = oracle.fit(logits[:, None], labels, weights).predict_proba(asked[:, None])[:, 1]
    np.testing.assert_allclose(probabilities(calibrator, asked), wanted, atol=2e-5)


@pytest.mark.parametrize("method", ["platt", "isotonic"])
def test_calibrated_probabilities_have_the_mean_of_the_labels(method):
    logits, labels, weights = draw()
    calibrator = Calibrator(method)
    calibrator.fit(logits, labels, weights)
    mean = np.average(probabilities(calibrator, logits), weights=weights)
    assert mean == pytest.approx(np.average(labels, weights=weights), abs=1e-4)


@pytest.mark.parametrize("method", [*METHODS, "none"])
def test_labels_of_one_class_and_backward_logits_teach_nothing(method):
    logits, labels, _ = draw(500)
    calibrator = Calibrator(method)
    for one_class in (np.zeros_like(labels), np.ones_like(labels)):
        assert not calibrator.fit(logits, one_class)
    assert not calibrator.fit(-np.where(labels == 1, 2.0, -2.0), labels)
    np.testing.assert_array_equal(calibrator(tf.constant(logits)), logits)


def test_calibration_fitted_again_forgets_the_first_fit():
    logits, labels, _ = draw()
    once, twice = Calibrator("isotonic"), Calibrator("isotonic")
    once.fit(logits, labels)
    twice.fit(*draw(seed=1)[:2])
    twice.fit(logits, labels)
    for one, other in zip(once.variables, twice.variables, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_more_steps_than_the_table_holds_are_thinned_out():
    count = 3000
    logits = np.linspace(-4, 4, count).astype(np.float32)
    labels = expit(logits)  # rising shares: every row is a step
    calibrator = Calibrator("isotonic")
    assert calibrator.fit(np.repeat(logits, 2), np.stack([labels, labels], 1).ravel())
    np.testing.assert_allclose(probabilities(calibrator, logits), labels, atol=1e-3)


def test_isotonic_log_odds_are_finite_and_rise_at_the_ends():
    logits = np.array([-3, -2, 2, 3], np.float32)
    calibrator = Calibrator("isotonic")
    calibrator.fit(logits, np.array([0, 0, 1, 1]))
    ends = calibrator(tf.constant([-50.0, 0.0, 50.0])).numpy()
    assert np.isfinite(ends).all()
    assert (np.diff(ends) > 0).all()


def test_copied_variables_are_the_same_function():
    logits, labels, _ = draw()
    for method in METHODS:
        fitted, copy = Calibrator(method), Calibrator(method)
        fitted.fit(logits, labels)
        for variable, value in zip(copy.variables, fitted.variables, strict=True):
            variable.assign(value)
        np.testing.assert_array_equal(copy(tf.constant(logits)), fitted(tf.constant(logits)))
