"""Calibration: from logits to log odds that come true, learned after training."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

Method = Literal["none", "temperature", "platt", "isotonic"]

_MAX_KNOTS = 512
_SMALLEST = 1e-7


class Calibrator(keras.layers.Layer):
    """A rising function of logits, given by weights that `fit` sets; at first the identity.

    A logit may come as the terms that it is the sum of.

    * temperature: logit / T.
    * platt: the sum of slope * term, plus an offset. Each term gets a slope of its own: a part of
      the model that learned its training rows by heart is trusted less than one that did not.
    * isotonic: the rising step function of the logit that is closest to the labels, with lines
      between its steps, in probabilities from 1e-7 to 1 - 1e-7.

    Args:
        method: One of them, or ``none``.
        num_terms: How many terms a logit has.

    Sources: Guo et al., On Calibration of Modern Neural Networks (2017), section 4.2, for the
        temperature. Platt, Probabilistic Outputs for Support Vector Machines (1999), without the
        smoothed targets. Zadrozny & Elkan, Transforming Classifier Scores into Accurate Multiclass
        Probability Estimates (2002), section 3, for isotonic regression.
    Deviates: Of more than 512 knots of an isotonic function, 512 evenly spaced ones are kept.
        Terms whose slope would not be above 0 are left out.
    """

    def __init__(self, method: Method = "platt", num_terms: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.method = method
        self.slopes = self.add_weight(
            shape=(num_terms,), initializer="ones", trainable=False, name="slopes"
        )
        self.offset = self.add_weight(shape=(), initializer="zeros", trainable=False, name="offset")
        self.num_knots = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="num_knots"
        )
        num_rows = _MAX_KNOTS if method == "isotonic" else 0
        self.knots = self.add_weight(
            shape=(2, num_rows), initializer="zeros", trainable=False, name="knots"
        )
        self.built = True

    def call(self, terms: tf.Tensor) -> tf.Tensor:
        """Calibrates; float32 [..., num_terms] to log odds [...]."""
        if self.method != "isotonic":
            return tf.reduce_sum(self.slopes * terms, axis=-1) + self.offset
        logits = tf.reduce_sum(terms, axis=-1)
        return tf.cond(self.num_knots > 0, lambda: self._interpolate(logits), lambda: logits)

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
        self._reset()
        if self.method == "none" or len(np.unique(labels)) < 2:
            return False
        terms = np.asarray(terms, np.float64)
        if self.method == "isotonic":
            return self._fit_isotonic(terms.sum(axis=-1), labels, weights)
        if self.method == "temperature":
            terms = terms.sum(axis=-1, keepdims=True)
        has_offset = self.method == "platt"
        used = np.flatnonzero(np.ptp(terms, axis=0) > 0)  # a constant is the offset's
        while len(used):
            fitted = LogisticRegression(C=np.inf, fit_intercept=has_offset)
            fitted.fit(terms[:, used], labels, weights)
            if (fitted.coef_[0] > 0).all():
                break
            used = used[fitted.coef_[0] > 0]
        else:
            return False
        if has_offset:
            slopes = np.zeros(self.slopes.shape)
            slopes[used] = fitted.coef_[0]
            self.offset.assign(_rounded(fitted.intercept_[0]))
        else:
            slopes = np.full(self.slopes.shape, fitted.coef_[0, 0])
        self.slopes.assign(_rounded(slopes))
        return True

    def _fit_isotonic(
        self, logits: np.ndarray, labels: np.ndarray, weights: np.ndarray | None
    ) -> bool:
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

    def _reset(self) -> None:
        self.slopes.assign(tf.ones_like(self.slopes))
        self.offset.assign(0.0)
        self.num_knots.assign(0)


def _rounded(values: np.ndarray) -> np.ndarray:
    """Rounds to about six digits: a solver's last ones differ from run to run."""
    return np.round(values, 6)
