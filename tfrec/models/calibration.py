"""Calibration: from logits to log odds that come true, learned after training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from tfrec.errors import ConfigError, place_of, reason_of
from tfrec.layer_trial import try_layer

_MAX_KNOTS = 512
_SMALLEST = 1e-7


class Calibrator(keras.layers.Layer, ABC):
    """The contract of all calibrators: a rising function of logits, set by `fit`.

    A logit comes as the terms that it is the sum of. Before `fit`, and where there is nothing to
    learn, the function is the identity: their sum. What `fit` learns stands in weights that are not
    trained, so that it is saved and exported with the model.

    Example:
        >>> import keras, numpy as np, tensorflow as tf
        >>> from tfrec.models.calibration import Calibrator
        >>> @keras.saving.register_keras_serializable("example")
        ... class Shift(Calibrator):
        ...     def __init__(self, num_terms=1, **kwargs):
        ...         super().__init__(num_terms, **kwargs)
        ...         self.shift = self.add_weight(shape=(), initializer="zeros", trainable=False)
        ...     def fit(self, terms, labels, weights=None):
        ...         share = np.average(labels, weights=weights)
        ...         self.shift.assign(np.log(share / (1 - share)) - terms.sum(axis=-1).mean())
        ...         return True
        ...     def call(self, terms):
        ...         return tf.reduce_sum(terms, axis=-1) + self.shift
        >>> shift = Shift()
        >>> shift.fit(np.array([[1.0], [3.0]]), np.array([0, 1]))
        True
        >>> shift(np.array([[2.5]])).numpy()
        array([0.5], dtype=float32)

    Args:
        num_terms: How many terms a logit has.
    """

    has_ties = False
    """Whether different logits may get one probability."""

    def __init__(self, num_terms: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_terms = num_terms

    @abstractmethod
    def fit(self, terms: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> bool:
        """Sets the function so that the probabilities fit the labels.

        Args:
            terms: float [n, num_terms].
            labels: float [n], 0 or 1.
            weights: float [n]: how many rows each stands for; None: one.

        Returns:
            Whether it learned something. Labels of one class teach nothing, nor do logits that
            order the labels backwards: the function is the identity then.
        """

    @abstractmethod
    def call(self, terms: tf.Tensor) -> tf.Tensor:
        """Calibrates; float32 [..., num_terms] to log odds [...]."""

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` needs."""
        return {**super().get_config(), "num_terms": self.num_terms}


@keras.saving.register_keras_serializable("tfrec")
class NoCalibration(Calibrator):
    """The identity: the sum of the terms."""

    def fit(self, terms: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> bool:
        return False

    def call(self, terms: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(terms, axis=-1)


@keras.saving.register_keras_serializable("tfrec")
class PlattCalibrator(Calibrator):
    """The sum of slope * term, plus an offset.

    Each term gets a slope of its own: a part of the model that learned its training rows by heart
    is trusted less than one that did not.

    Source: Platt, Probabilistic Outputs for Support Vector Machines (1999), without the smoothed
        targets.
    Deviates: Terms whose slope would not be above 0 are left out.
    """

    def __init__(self, num_terms: int = 1, **kwargs: Any) -> None:
        super().__init__(num_terms, **kwargs)
        self.slopes = self.add_weight(
            shape=(num_terms,), initializer="ones", trainable=False, name="slopes"
        )
        self.offset = self.add_weight(shape=(), initializer="zeros", trainable=False, name="offset")
        self.built = True

    def fit(self, terms: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> bool:
        slopes, offset = _fit_slopes(terms, labels, weights, has_offset=True)
        self.slopes.assign(tf.ones_like(self.slopes) if slopes is None else slopes)
        self.offset.assign(offset)
        return slopes is not None

    def call(self, terms: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(self.slopes * terms, axis=-1) + self.offset


@keras.saving.register_keras_serializable("tfrec")
class TemperatureCalibrator(Calibrator):
    """logit / T.

    Source: Guo et al., On Calibration of Modern Neural Networks (2017), section 4.2.
    """

    def __init__(self, num_terms: int = 1, **kwargs: Any) -> None:
        super().__init__(num_terms, **kwargs)
        self.slope = self.add_weight(shape=(), initializer="ones", trainable=False, name="slope")
        self.built = True

    def fit(self, terms: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> bool:
        logits = np.asarray(terms, np.float64).sum(axis=-1, keepdims=True)
        slopes, _ = _fit_slopes(logits, labels, weights, has_offset=False)
        self.slope.assign(1.0 if slopes is None else slopes[0])
        return slopes is not None

    def call(self, terms: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(self.slope * terms, axis=-1)


@keras.saving.register_keras_serializable("tfrec")
class IsotonicCalibrator(Calibrator):
    """The rising step function of the logit that is closest to the labels.

    With lines between its steps, in probabilities from 1e-7 to 1 - 1e-7.

    Source: Zadrozny & Elkan, Transforming Classifier Scores into Accurate Multiclass Probability
        Estimates (2002), section 3.
    Deviates: Of more than 512 knots, 512 evenly spaced ones are kept.
    """

    has_ties = True

    def __init__(self, num_terms: int = 1, **kwargs: Any) -> None:
        super().__init__(num_terms, **kwargs)
        self.num_knots = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="num_knots"
        )
        self.knots = self.add_weight(
            shape=(2, _MAX_KNOTS), initializer="zeros", trainable=False, name="knots"
        )
        self.built = True

    def fit(self, terms: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> bool:
        self.num_knots.assign(0)
        if len(np.unique(labels)) < 2:
            return False
        logits = np.asarray(terms, np.float64).sum(axis=-1)
        fitted = IsotonicRegression(out_of_bounds="clip").fit(logits, labels, weights)
        at, values = fitted.X_thresholds_, fitted.y_thresholds_
        if values[0] == values[-1]:  # flat: the best rising function knows no order
            return False
        if len(at) > _MAX_KNOTS:
            kept = np.linspace(0, len(at) - 1, _MAX_KNOTS).round().astype(np.int64)
            at, values = at[kept], values[kept]
        self.num_knots.assign(len(at))
        padded = np.zeros((2, _MAX_KNOTS), np.float32)
        padded[0], padded[1] = at[-1], values[-1]
        padded[:, : len(at)] = at, values
        self.knots.assign(padded)
        return True

    def call(self, terms: tf.Tensor) -> tf.Tensor:
        logits = tf.reduce_sum(terms, axis=-1)
        return tf.cond(self.num_knots > 0, lambda: self._interpolate(logits), lambda: logits)

    def _interpolate(self, logits: tf.Tensor) -> tf.Tensor:
        at, values = self.knots[0], self.knots[1]
        flat = tf.reshape(logits, [-1])
        right = tf.clip_by_value(tf.searchsorted(at, flat), 1, tf.maximum(self.num_knots - 1, 1))
        x0, x1, y0, y1 = (
            tf.gather(table, place)
            for table, place in ((at, right - 1), (at, right), (values, right - 1), (values, right))
        )
        share = tf.clip_by_value(tf.math.divide_no_nan(flat - x0, x1 - x0), 0.0, 1.0)
        probability = tf.clip_by_value(y0 + share * (y1 - y0), _SMALLEST, 1.0 - _SMALLEST)
        log_odds = tf.math.log(probability) - tf.math.log1p(-probability)
        return tf.reshape(log_odds, tf.shape(logits))


def check_calibrator(calibrator: Calibrator, key: str) -> None:
    """Tries a calibrator on two tiny batches, before and after `fit`; see `try_layer`.

    Raises:
        ConfigError: It breaks the contract.
    """
    rows = np.linspace(-2, 2, 4 * calibrator.num_terms, dtype=np.float32).reshape(4, -1)
    batches = [([rows[:count]], (count,)) for count in (2, 3)]
    try_layer(calibrator, key, batches, "float32")
    part = f"{key}: {place_of(calibrator)}"
    try:
        came = calibrator.fit(rows, np.array([0, 1, 0, 1], np.float32), np.ones(4))
    except Exception as error:  # a calibrator of somebody else raises whatever it raises
        reason = reason_of(error)
        raise ConfigError(f"{part}: `fit` failed on four rows: {reason}") from error
    if not isinstance(came, bool | np.bool_):
        raise ConfigError(
            f"{part}: wanted from `fit` whether it learned something, a bool, got {came!r}."
        )
    try_layer(calibrator, key, batches, "float32")


def _fit_slopes(
    terms: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, *, has_offset: bool
) -> tuple[np.ndarray | None, float]:
    """Fits a slope above 0 for each term, 0 for one left out, and an offset; None: no such fit."""
    if len(np.unique(labels)) < 2:
        return None, 0.0
    terms = np.asarray(terms, np.float64)
    used = np.flatnonzero(np.ptp(terms, axis=0) > 0)  # a constant is the offset's
    while len(used):
        fitted = LogisticRegression(C=np.inf, fit_intercept=has_offset)
        fitted.fit(terms[:, used], labels, weights)
        if (fitted.coef_[0] > 0).all():
            break
        used = used[fitted.coef_[0] > 0]
    else:
        return None, 0.0
    slopes = np.zeros(terms.shape[1])
    slopes[used] = fitted.coef_[0]
    return _rounded(slopes), float(_rounded(fitted.intercept_[0])) if has_offset else 0.0


def _rounded(values: np.ndarray) -> np.ndarray:
    """Rounds to about six digits: a solver's last ones differ from run to run."""
    return np.round(values, 6)
