"""What the ranking model predicts beside the click: contract of heads, ours, and their trial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from tfrec.errors import ConfigError, place_of, reason_of
from tfrec.schema import CLICK

_SMALLEST = 1e-7


class RankingHead(ABC):
    """The contract of all heads; one of `ranking.heads` is made with its options.

    Args:
        event: A kind of event; the label is 1 where it followed the shown item, else 0.
        value: ``rating`` or ``watch_time``; the label is this number of the log, see `labels`.
            A head has either an event or a value.
        weight: Of its loss beside that of the click.

    Attributes:
        num_outputs: How many numbers of the model the head reads for a pair, 1 or more.
        is_probability: Whether the answer lies in [0, 1]. Such a head has an event, and what it
            answers is calibrated on validation.
        is_standardised: Whether the mean of the training labels is taken off the labels, which are
            then divided by their deviation; `predict` gets logits for which this is undone.

    Example:
        >>> import tensorflow as tf
        >>> from tfrec.models.ranking_head import RankingHead, check_ranking_head
        >>> class Count(RankingHead):
        ...     def loss(self, logit: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        ...         return tf.nn.log_poisson_loss(label, logit[:, 0])
        ...     def predict(self, logit: tf.Tensor) -> tf.Tensor:
        ...         return tf.exp(logit[:, 0])
        >>> check_ranking_head(Count(value="watch_time"), "ranking.heads.seconds.kind")
    """

    num_outputs: int = 1
    is_probability: ClassVar[bool] = False
    is_standardised: ClassVar[bool] = False

    def __init__(
        self, *, event: str | None = None, value: str | None = None, weight: float = 1.0
    ) -> None:
        self.event, self.value, self.weight = event, value, weight

    @abstractmethod
    def loss(self, logit: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        """Computes the loss of n pairs.

        Args:
            logit: float32 [n, num_outputs].
            label: float32 [n]; 0 where it is unknown, which counts nothing but must be finite.

        Returns:
            float32 [n], with a gradient for the logit.
        """

    @abstractmethod
    def predict(self, logit: tf.Tensor) -> tf.Tensor:
        """Answers n pairs; float32 [n, num_outputs] to [n]."""

    def log_odds(self, logit: tf.Tensor) -> tf.Tensor:
        """Returns what calibration reads of a probability; float32 [n, num_outputs] to [n]."""
        probability = tf.clip_by_value(self.predict(logit), _SMALLEST, 1.0 - _SMALLEST)
        return tf.math.log(probability) - tf.math.log1p(-probability)

    def labels(self, values: np.ndarray) -> np.ndarray:
        """Turns numbers of the log into labels; float32 [n], NaN where unknown, to the same."""
        return values

    def get_config(self) -> dict[str, Any]:
        """Returns the keywords that make the head again."""
        return {"event": self.event, "value": self.value, "weight": self.weight}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RankingHead:
        """Makes the head that `get_config` describes."""
        return cls(**config)


@keras.saving.register_keras_serializable("tfrec")
class ProbabilityHead(RankingHead):
    """The probability that the event follows: a sigmoid and cross-entropy.

    Before training it answers the share of the training rows that the event follows.

    >>> import tensorflow as tf
    >>> ProbabilityHead(event="cart").predict(tf.zeros([1, 1])).numpy()
    array([0.5], dtype=float32)
    """

    is_probability = True

    def loss(self, logit: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        """See `RankingHead`."""
        return tf.nn.sigmoid_cross_entropy_with_logits(label, logit[:, 0])

    def predict(self, logit: tf.Tensor) -> tf.Tensor:
        """See `RankingHead`."""
        return tf.sigmoid(logit[:, 0])

    def log_odds(self, logit: tf.Tensor) -> tf.Tensor:
        """See `RankingHead`."""
        return logit[:, 0]


@keras.saving.register_keras_serializable("tfrec")
class NumberHead(RankingHead):
    """The expected number: half the squared error of its standardised value.

    >>> import tensorflow as tf
    >>> NumberHead(value="rating").loss(tf.constant([[3.0]]), tf.constant([1.0])).numpy()
    array([2.], dtype=float32)
    """

    is_standardised = True

    def loss(self, logit: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        """See `RankingHead`."""
        return 0.5 * tf.square(label - logit[:, 0])

    def predict(self, logit: tf.Tensor) -> tf.Tensor:
        """See `RankingHead`."""
        return logit[:, 0]


@keras.saving.register_keras_serializable("tfrec")
class LogNumberHead(NumberHead):
    """As `NumberHead`, of log(1 + number); it answers the number. Numbers below 0 count as 0.

    >>> import numpy as np
    >>> LogNumberHead(value="watch_time").labels(np.float32([0.0, -5.0])).tolist()
    [0.0, 0.0]
    """

    def predict(self, logit: tf.Tensor) -> tf.Tensor:
        """See `RankingHead`."""
        return tf.math.expm1(logit[:, 0])

    def labels(self, values: np.ndarray) -> np.ndarray:
        """See `RankingHead`."""
        return np.log1p(np.maximum(values, 0))


def head_columns(heads: Mapping[str, RankingHead]) -> dict[str, slice]:
    """Returns which logits of the model are whose, the click's first.

    >>> head_columns({"stars": NumberHead(value="rating")})["stars"]
    slice(1, 2, None)
    """
    columns, start = {CLICK: slice(0, 1)}, 1
    for name, head in heads.items():
        columns[name] = slice(start, start + head.num_outputs)
        start += head.num_outputs
    return columns


def check_ranking_head(head: RankingHead, key: str) -> None:
    """Tries a head on two tiny batches in a graph, and once more built from its `get_config`.

    Args:
        head: Of somebody else.
        key: Of the configuration, for messages.

    Raises:
        ConfigError: It breaks the contract.
    """
    place = f"{key}: {place_of(head)}"
    size = head.num_outputs
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ConfigError(f"{place}: wanted `num_outputs` to be 1 or more, got {size!r}.")
    if head.is_probability and head.event is None:
        raise ConfigError(f"{place}: a head that answers a probability needs `event`, got `value`.")
    try:
        answers = _try_head(head, place)
    except ConfigError:
        raise
    except Exception as error:  # somebody else's code raises whatever it raises
        raise ConfigError(f"{place}: fails on a small batch: {reason_of(error)}") from error
    try:
        again = _try_head(type(head).from_config(head.get_config()), place)
    except Exception as error:
        raise ConfigError(
            f"{place}: cannot be built again from `get_config`: {reason_of(error)}"
        ) from error
    for wanted, came in zip(answers, again, strict=True):
        if not np.array_equal(wanted, came):
            raise ConfigError(
                f"{place}: built again from `get_config`, wanted the same losses and answers, got "
                f"{came.tolist()} for {wanted.tolist()}."
            )


def _try_head(head: RankingHead, place: str) -> list[np.ndarray]:
    """Returns losses and answers of two batches."""
    numbers = np.array([1, 0, 5], np.float32)
    labels = numbers.clip(0, 1) if head.value is None else np.asarray(head.labels(numbers))
    if labels.dtype != np.float32 or labels.shape != (3,) or not np.isfinite(labels).all():
        raise ConfigError(
            f"{place}: wanted finite `labels` float32 (3,), got {labels.dtype} {labels.shape}: "
            f"{labels.tolist()}."
        )

    @tf.function(
        autograph=False,
        input_signature=[
            tf.TensorSpec([None, head.num_outputs]),
            tf.TensorSpec([None]),
        ],
    )
    def step(logit: tf.Tensor, label: tf.Tensor) -> tuple[dict[str, Any], tf.Tensor | None]:
        with tf.GradientTape() as tape:
            tape.watch(logit)
            loss = head.loss(logit, label)
        answers = {"loss": loss, "predict": head.predict(logit)}
        if head.is_probability:
            answers["log_odds"] = head.log_odds(logit)
        # A loss of another dtype has no gradient; it is refused for its dtype.
        is_float = tf.is_tensor(loss) and loss.dtype.is_floating
        return answers, tape.gradient(loss, logit) if is_float else None

    found = []
    for count in (3, 2):
        logit = np.linspace(-1, 2, count * head.num_outputs, dtype=np.float32)
        answers, gradient = step(logit.reshape(count, -1), labels[:count])
        for method, answer in answers.items():
            _check_answer(answer, count, f"{place}: `{method}`")
            found.append(answer.numpy())
        if gradient is None or not np.any(gradient):
            raise ConfigError(f"{place}: `loss` has no gradient for the logit.")
        if not np.isfinite(gradient).all():
            raise ConfigError(f"{place}: wanted a finite gradient of `loss`, got {gradient}.")
        answer = answers["predict"].numpy()
        if head.is_probability and not ((answer >= 0) & (answer <= 1)).all():
            raise ConfigError(
                f"{place}: `predict`: wanted probabilities in [0, 1], got {answer.tolist()}."
            )
    return found


def _check_answer(answer: Any, count: int, part: str) -> None:
    wanted, came = f"float32 [{count}]", f"a {type(answer).__name__}"
    if tf.is_tensor(answer):
        came = f"{answer.dtype.name} {list(answer.shape)}"
    if came != wanted:
        raise ConfigError(f"{part}: wanted {wanted}, got {came}.")
    if not np.isfinite(answer.numpy()).all():
        raise ConfigError(f"{part}: wanted finite numbers, got {answer.numpy().tolist()}.")
