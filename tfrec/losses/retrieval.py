"""The contract of retrieval losses, and the trial that one of somebody else has to pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import tensorflow as tf

from tfrec.errors import ConfigError, place_of, reason_of


class Sampled(NamedTuple):
    """Targets and the candidates that they have to win against; n may differ between steps.

    Attributes:
        users: float32 [rows, embedding_dim], of length 1 with `similarity: cosine`.
        items: float32 [rows, embedding_dim], the items of the targets.
        weight: float32 [rows], what a target counts, >= 0.
        temperature: float32 [], above 0.
        target_logits: float32 [rows], score of the target, divided by the temperature.
        logits: float32 [rows, n], the same of the candidates.
        is_negative: bool [rows, n], which candidates are negatives of the row; the others are its
            own item, a known positive or padding.
        log_expected: float32 [rows, n], what `log_q` takes from the logits: log of the expected
            count of each candidate among the candidates of a step.
        target_log_expected: float32 [rows], the same of the target; zeros with `log_q: none`.
    """

    users: tf.Tensor
    items: tf.Tensor
    weight: tf.Tensor
    temperature: tf.Tensor
    target_logits: tf.Tensor
    logits: tf.Tensor
    is_negative: tf.Tensor
    log_expected: tf.Tensor
    target_log_expected: tf.Tensor


class Pairs(NamedTuple):
    """Targets that have to win against each other; nothing is drawn beside them.

    Attributes:
        users: float32 [rows, embedding_dim].
        items: float32 [rows, embedding_dim]; row r belongs to row r of `users`.
        item_index: int32 [rows].
        weight: float32 [rows], what a pair counts, >= 0.
        temperature: float32 [], above 0.
        is_negative: bool [rows, rows], which items are negatives of which row; not the row's own.
        probability: float32 [rows], share of the item among training targets; ones with
            `log_q: none`.
        log_expected: float32 [rows], log of the expected count of the item in the batch; zeros
            with `log_q: none`.
    """

    users: tf.Tensor
    items: tf.Tensor
    item_index: tf.Tensor
    weight: tf.Tensor
    temperature: tf.Tensor
    is_negative: tf.Tensor
    probability: tf.Tensor
    log_expected: tf.Tensor


class Catalogue(NamedTuple):
    """Targets that have to win against every item; see `full_softmax`."""

    users: tf.Tensor
    items: tf.Tensor
    item_index: tf.Tensor
    weight: tf.Tensor
    temperature: tf.Tensor
    request: tf.Tensor | None


class Rated(NamedTuple):
    """Ratings and what the model predicts of them; see `rating_loss`."""

    predictions: tf.Tensor
    ratings: tf.Tensor
    weight: tf.Tensor


class RetrievalLoss(ABC):
    """What retrieval training makes small, from one replica's part of a batch.

    Attributes:
        reads: What the loss is called with: `Sampled`, or `Pairs` for one that draws its negatives
            from the batch alone.

    Example:
        >>> import tensorflow as tf
        >>> class Hinge(RetrievalLoss):
        ...     def __init__(self, margin: float = 1.0):
        ...         self.margin = margin
        ...     def __call__(self, given: Sampled) -> tf.Tensor:
        ...         behind = self.margin + given.logits - given.target_logits[:, None]
        ...         losses = tf.where(given.is_negative, tf.nn.relu(behind), 0.0)
        ...         rows = tf.reduce_sum(losses, axis=1)
        ...         total = tf.reduce_sum(given.weight)
        ...         return tf.math.divide_no_nan(tf.reduce_sum(given.weight * rows), total)
        ...     def get_config(self) -> dict[str, float]:
        ...         return {"margin": self.margin}
        >>> check_retrieval_loss(Hinge(), "retrieval.loss.kind")
    """

    reads: ClassVar[type] = Sampled

    @abstractmethod
    def __call__(self, given: Any) -> tf.Tensor:
        """Computes the mean over the rows, each counted by its weight.

        Args:
            given: Of the type `reads`.

        Returns:
            float32 [], with a gradient for the embeddings; 0 where all weights are.
        """

    def get_config(self) -> dict[str, Any]:
        """Returns the keywords that make the loss again."""
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RetrievalLoss:
        """Makes the loss that `get_config` describes."""
        return cls(**config)


def check_retrieval_loss(loss: RetrievalLoss, key: str) -> None:
    """Tries a loss on two tiny batches in a graph.

    Args:
        loss: Of somebody else.
        key: Of the configuration, for messages.

    Raises:
        ConfigError: It breaks the contract.
    """
    place = f"{key}: {place_of(loss)}"
    if loss.reads not in _TRIALS:
        wanted = " or ".join(kind.__name__ for kind in _TRIALS)
        raise ConfigError(f"{place}: wanted `reads` to be {wanted}, got {loss.reads!r}.")

    @tf.function(autograph=False, reduce_retracing=True)
    def step(users: tf.Tensor, items: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
        with tf.GradientTape() as tape:
            tape.watch((users, items))
            value = tf.convert_to_tensor(loss(_TRIALS[loss.reads](users, items)))
        if value.dtype != tf.float32 or value.shape.rank != 0:
            raise ConfigError(
                f"{place}: wanted a loss float32 [], got {value.dtype.name} {value.shape}."
            )
        gradient = tape.gradient(value, (users, items), unconnected_gradients="none")
        return value, next((g for g in gradient if g is not None), None)

    try:
        loss.from_config(loss.get_config())
        for rows in (3, 2):
            drawn = tf.random.stateless_normal([2, rows, 4], [7, rows])
            value, gradient = step(drawn[0], drawn[1])
            if not bool(tf.math.is_finite(value)):
                raise ConfigError(f"{place}: wanted a finite loss, got {float(value)}.")
            if gradient is None:
                raise ConfigError(f"{place}: the loss has no gradient for the embeddings.")
    except ConfigError:
        raise
    except Exception as error:  # somebody else's code raises whatever it raises
        reason = reason_of(error)
        raise ConfigError(f"{place}: fails on a batch of the contract: {reason}") from error


def _tiny_sampled(users: tf.Tensor, items: tf.Tensor) -> Sampled:
    logits = tf.matmul(users, items, transpose_b=True)
    num_rows = tf.shape(users)[0]
    return Sampled(
        users,
        items,
        weight=tf.ones([num_rows]),
        temperature=tf.constant(1.0),
        target_logits=tf.linalg.diag_part(logits),
        logits=logits,
        is_negative=~tf.eye(num_rows, dtype=tf.bool),
        log_expected=tf.zeros_like(logits),
        target_log_expected=tf.zeros([num_rows]),
    )


def _tiny_pairs(users: tf.Tensor, items: tf.Tensor) -> Pairs:
    num_rows = tf.shape(users)[0]
    return Pairs(
        users,
        items,
        item_index=1 + tf.range(num_rows),
        weight=tf.ones([num_rows]),
        temperature=tf.constant(1.0),
        is_negative=~tf.eye(num_rows, dtype=tf.bool),
        probability=tf.fill([num_rows], 0.1),
        log_expected=tf.zeros([num_rows]),
    )


_TRIALS: dict[type, Any] = {Sampled: _tiny_sampled, Pairs: _tiny_pairs}
