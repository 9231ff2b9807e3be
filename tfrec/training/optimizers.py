"""One optimiser over groups of weights, each with its own rate and decay: AdamW, or one of Keras.

Keras' own AdamW does not fit here for three reasons. Given the gradient of an embedding table whose
rows repeat in a batch, its Adam squares each repeated part by itself, not their sum. Clipping sees
one optimiser's weights only. And within `tf.distribute` they clip each replica's part by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from tfrec.config.retrieval import Schedule
from tfrec.errors import ConfigError, place_of, reason_of

Rate = Callable[[tf.Tensor], tf.Tensor]
"""From the number of steps done, a scalar, to the learning rate of the next; float32."""

Gradient: TypeAlias = "tf.Tensor | tf.IndexedSlices | None"

MakeOptimizer = Callable[[], keras.optimizers.Optimizer]

_BETA_1, _EPSILON = 0.9, 1e-7


def learning_rate(schedule: Schedule, peak: float, num_steps: int) -> Rate:
    """Returns the rate over a training of `num_steps` steps.

    It rises in equal parts to `peak` over the first `schedule.warmup` of the steps, then falls to
    zero at `num_steps` as half a cosine or a line, or stays.

    Args:
        schedule: Form and share of the warm-up.
        peak: The highest rate.
        num_steps: Of the whole training.

    Source: Loshchilov & Hutter, SGDR (2017), equation 5 with one period, for the cosine.
    """
    warmup = max(1, round(schedule.warmup * num_steps))
    rest = max(1, num_steps - warmup)

    def rate(step: tf.Tensor) -> tf.Tensor:
        done = tf.cast(step, tf.float32)
        rise = tf.minimum((done + 1.0) / warmup, 1.0)
        progress = tf.clip_by_value((done - warmup) / rest, 0.0, 1.0)
        if schedule.kind == "cosine":
            fall = 0.5 * (1.0 + tf.cos(np.pi * progress))
        elif schedule.kind == "linear":
            fall = 1.0 - progress
        else:
            fall = tf.ones_like(progress)
        return peak * rise * fall

    return rate


def growing_sparsity(final: float, num_steps: int) -> Rate:
    """Returns the share of zeros over a training: from none to `final` within `num_steps` steps.

    It grows fast at first, while there are many small weights to do without.

    Source: Zhu & Gupta, To prune, or not to prune (2017), equation 1.
    """

    def sparsity(step: tf.Tensor) -> tf.Tensor:
        progress = tf.clip_by_value(tf.cast(step, tf.float32) / max(1, num_steps), 0.0, 1.0)
        return final * (1.0 - tf.pow(1.0 - progress, 3))

    return sparsity


@dataclass(frozen=True)
class Group:
    """Weights that are trained alike.

    Attributes:
        weights: The weights; none is in two groups.
        rate: Their learning rate.
        weight_decay: Share of a weight, times the rate, that each step takes away. 0 suits tables
            of ids: a step decays all rows, and those of rare ids are hardly ever pulled back.
        sparsity: From the number of steps done, a scalar, to the share of each weight's numbers
            that are zero from then on: those smallest in absolute value; None: all stay.
    """

    weights: Sequence[keras.Variable]
    rate: Rate
    weight_decay: float = 0.0
    sparsity: Rate | None = None


class OptimizerGroups:
    """AdamW, or an optimiser of Keras, with one clip over all gradients.

    Args:
        groups: Weights, rates, decays.
        clip_norm: Gradients longer than this, all taken as one vector, are shortened to it.
        beta_2: How long the squares of gradients are remembered.
        ema_decay: Where given, a moving average of the weights is kept; see `averaged`.
        make: Makes the optimiser of a group, whose rate is set before each step; None: AdamW.

    Attributes:
        weights: Of all groups, in their order.
        variables: What a checkpoint must hold.

    Source: Loshchilov & Hutter, Decoupled Weight Decay Regularization (2019), algorithm 2, with
        Kingma & Ba, Adam (2015), in the form at the end of section 2.
    Deviates: Epsilon is added to the uncorrected root, as in that form and in Keras.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        *,
        clip_norm: float = 1.0,
        beta_2: float = 0.999,
        ema_decay: float | None = None,
        make: MakeOptimizer | None = None,
    ) -> None:
        self.weights = [weight for group in groups for weight in group.weights]
        if len({id(weight) for weight in self.weights}) < len(self.weights):
            raise ValueError("Wanted each weight in one group, got one in two.")
        self._group_of = [group for group in groups for _ in group.weights]
        self._groups = list(groups)
        self._clip_norm = clip_norm
        self._ema_decay = ema_decay
        self._step = _state(np.int64(0), "step")
        self._rule = _AdamRule(self.weights, beta_2) if make is None else _KerasRule(groups, make)
        self._averages = (
            []
            if ema_decay is None
            else [_state(keras.ops.convert_to_numpy(w), "average") for w in self.weights]
        )
        self.variables: list[keras.Variable] = [
            self._step,
            *self._rule.variables,
            *self._averages,
        ]

    def apply(self, gradients: Sequence[Gradient]) -> tf.Tensor:
        """Takes one step.

        Args:
            gradients: Of `weights`, in their order; None leaves a weight as it is. Rows of
                `IndexedSlices` may repeat.

        Returns:
            float32 scalar, the length of all gradients as one vector, before the clip.
        """
        dense = [
            None if g is None else tf.cast(tf.convert_to_tensor(g), tf.float32) for g in gradients
        ]
        norm = tf.linalg.global_norm(dense)
        self._update(dense, norm)
        return norm

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Puts the averages in the weights' place, and at the end the weights back.

        Without `ema_decay` it does nothing.
        """
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _update(self, gradients: list[tf.Tensor | None], norm: tf.Tensor) -> None:
        clip = self._clip_norm / tf.maximum(norm, self._clip_norm)
        rates = {id(group): group.rate(self._step.value) for group in self._groups}
        self._step.assign_add(1)
        count = tf.cast(self._step.value, tf.float32)
        steps = [
            _Step(weight, gradient * clip, rates[id(group)], group)
            for weight, gradient, group in zip(self.weights, gradients, self._group_of, strict=True)
            if gradient is not None
        ]
        for step in steps:
            if step.group.weight_decay:
                decay = step.rate * step.group.weight_decay
                step.weight.assign_sub(step.weight.value * decay)
        self._rule.apply(steps, count)
        for step in steps:
            if step.group.sparsity is not None:
                share = step.group.sparsity(self._step.value)
                step.weight.assign(without_smallest(step.weight.value, share))
        if self._ema_decay is not None:
            self._update_averages(count)

    def _update_averages(self, count: tf.Tensor) -> None:
        """Moves the averages; early ones forget faster, else the first weights would linger.

        Source: tf.train.ExponentialMovingAverage with `num_updates`.
        """
        decay = tf.minimum(self._ema_decay, (1.0 + count) / (10.0 + count))
        for weight, average in zip(self.weights, self._averages, strict=True):
            average.assign_add((weight.value - average.value) * (1.0 - decay))

    def _swap(self) -> None:
        for weight, average in zip(self.weights, self._averages, strict=False):
            kept = keras.ops.convert_to_numpy(weight)
            weight.assign(average.value)
            average.assign(kept)


class _Step(NamedTuple):
    """What one weight is to do."""

    weight: keras.Variable
    gradient: tf.Tensor
    rate: tf.Tensor
    group: Group


class _AdamRule:
    """Adam, one pass over memory a weight: twice as fast on large tables as a dozen."""

    def __init__(self, weights: Sequence[keras.Variable], beta_2: float) -> None:
        self._beta_2 = beta_2
        self._means = {id(w): _state(np.zeros(w.shape, np.float32), "mean") for w in weights}
        self._squares = {id(w): _state(np.zeros(w.shape, np.float32), "square") for w in weights}
        self.variables = [*self._means.values(), *self._squares.values()]

    def apply(self, steps: Sequence[_Step], count: tf.Tensor) -> None:
        power_1, power_2 = tf.pow(_BETA_1, count), tf.pow(self._beta_2, count)
        for step in steps:
            tf.raw_ops.ResourceApplyAdam(
                var=step.weight.value.handle,
                m=self._means[id(step.weight)].value.handle,
                v=self._squares[id(step.weight)].value.handle,
                beta1_power=power_1,
                beta2_power=power_2,
                lr=step.rate,
                beta1=_BETA_1,
                beta2=self._beta_2,
                epsilon=_EPSILON,
                grad=step.gradient,
            )


class _KerasRule:
    """One optimiser of Keras a group."""

    def __init__(self, groups: Sequence[Group], make: MakeOptimizer) -> None:
        self._groups = [(group, make()) for group in groups if group.weights]
        for group, optimizer in self._groups:
            optimizer.build(list(group.weights))
        self.variables = [v for _, optimizer in self._groups for v in optimizer.variables]

    def apply(self, steps: Sequence[_Step], count: tf.Tensor) -> None:
        for group, optimizer in self._groups:
            own = [step for step in steps if step.group is group]
            if own:
                optimizer.learning_rate.assign(own[0].rate)
                optimizer.apply_gradients([(step.gradient, step.weight) for step in own])


def check_optimizer(make: MakeOptimizer, key: str) -> None:
    """Lets an optimiser take two steps in a graph.

    Args:
        make: Makes it.
        key: Of the configuration, for messages.

    Raises:
        ConfigError: It cannot be stepped, its rate cannot be set, or weights become no numbers.
    """
    weights = [keras.Variable(np.ones((3, 2), np.float32)), keras.Variable(np.ones(4, np.float32))]
    try:
        place = f"{key}: {place_of(make())}"
        groups = OptimizerGroups([Group(weights, lambda step: tf.constant(0.01))], make=make)
        step = tf.function(groups.apply, autograph=False)
        for _ in range(2):
            step([tf.ones([3, 2]), tf.ones([4])])
    except ConfigError:
        raise
    except Exception as error:  # somebody else's code raises whatever it raises
        reason = reason_of(error)
        raise ConfigError(f"{key}: the optimiser cannot take a step: {reason}") from error
    for weight in weights:
        value = keras.ops.convert_to_numpy(weight)
        if not np.isfinite(value).all() or (value == 1).all():
            raise ConfigError(
                f"{place}: wanted every weight moved to a finite value, got {value.flat[0]} from 1."
            )


def without_smallest(values: tf.Tensor, share: tf.Tensor) -> tf.Tensor:
    """Sets the share of numbers that are smallest in absolute value, rounded down, to zero."""
    sizes = tf.reshape(tf.abs(values), [-1])
    count = tf.cast(share * tf.cast(tf.size(sizes), tf.float32) + 1e-3, tf.int32)
    order = tf.argsort(sizes, stable=True)
    is_kept = tf.tensor_scatter_nd_update(
        tf.ones_like(sizes), order[:count, None], tf.zeros([count], sizes.dtype)
    )
    return values * tf.reshape(is_kept, tf.shape(values))


def _state(value: np.generic | np.ndarray, name: str) -> keras.Variable:
    return keras.Variable(value, trainable=False, dtype=value.dtype.name, name=name)
