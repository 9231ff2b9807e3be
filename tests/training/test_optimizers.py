import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrec.config.retrieval import Optimizer, Schedule
from tfrec.errors import ConfigError
from tfrec.registry import OPTIMIZERS
from tfrec.training import optimizers
from tfrec.training.optimizers import (
    Group,
    OptimizerGroups,
    growing_sparsity,
    learning_rate,
    without_smallest,
)
from tfrec.training.parts import new_optimizer


def constant(rate: float) -> optimizers.Rate:
    return learning_rate(Schedule(kind="constant", warmup=0.0), rate, 10)


def rates(kind: str, warmup: float, num_steps: int = 10) -> list[float]:
    rate = learning_rate(Schedule(kind=kind, warmup=warmup), 2.0, num_steps)
    return [float(rate(tf.constant(step, tf.int64))) for step in range(num_steps + 2)]


# Rates


def test_linear_rate_rises_to_the_peak_and_falls_to_zero():
    # Two of ten steps rise: 1, 2. The other eight fall by 2 / 8 each, and end at 10.
    assert rates("linear", 0.2) == pytest.approx(
        [1, 2, 2, 1.75, 1.5, 1.25, 1, 0.75, 0.5, 0.25, 0, 0], abs=1e-6
    )


def test_cosine_rate_follows_half_a_cosine():
    wanted = [0.5, 1.0, 1.5, 2.0, *(1 + math.cos(math.pi * k / 6) for k in range(7)), 0.0]
    got = rates("cosine", 0.4)
    assert got == pytest.approx([*wanted[:4], *wanted[4:11], 0.0], abs=1e-6)


def test_constant_rate_stays_at_the_peak():
    assert rates("constant", 0.3) == pytest.approx([2 / 3, 4 / 3] + [2.0] * 10)


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5, 0.9])
@pytest.mark.parametrize("num_steps", [1, 2, 30])
def test_rate_lies_above_zero_and_reaches_the_peak(kind, warmup, num_steps):
    got = rates(kind, warmup, num_steps)[:num_steps]
    assert min(got) > 0
    assert max(got) == pytest.approx(2.0)


# Steps


class Oracle:
    """AdamW in numpy, written from the papers: one list of weights, rates and decays."""

    def __init__(self, weights, rates, decays, clip):
        self.weights = [w.astype(np.float64) for w in weights]
        self.rates, self.decays, self.clip = rates, decays, clip
        self.means = [np.zeros_like(w) for w in self.weights]
        self.squares = [np.zeros_like(w) for w in self.weights]
        self.step = 0

    def apply(self, gradients) -> float:
        self.step += 1
        norm = math.sqrt(sum((g**2).sum() for g in gradients if g is not None))
        factor = min(1.0, self.clip / norm)
        for n, gradient in enumerate(gradients):
            if gradient is None:
                continue
            g = gradient * factor
            self.means[n] = 0.9 * self.means[n] + 0.1 * g
            self.squares[n] = 0.999 * self.squares[n] + 0.001 * g**2
            mean = self.means[n] / (1 - 0.9**self.step)
            # Epsilon stands beside the uncorrected root.
            root_correction = math.sqrt(1 - 0.999**self.step)
            root = (np.sqrt(self.squares[n]) + 1e-7) / root_correction
            decayed = self.weights[n] * (1 - self.rates[n] * self.decays[n])
            self.weights[n] = decayed - self.rates[n] * mean / root
        return norm


def some_weights(seed: int) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.normal(size=size).astype(np.float32) for size in [(6, 3), (4,), (2, 5)]]


def grouped(values: list[np.ndarray], **settings) -> tuple[OptimizerGroups, list[keras.Variable]]:
    """The first weight is a table without decay, the next has decay, the last its own rate."""
    weights = [keras.Variable(value) for value in values]
    table, tower, encoder = weights
    groups = [
        Group([tower], constant(0.1), 0.3),
        Group([table], constant(0.1)),
        Group([encoder], constant(0.02), 0.3),
    ]
    return OptimizerGroups(groups, **settings), [tower, table, encoder]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("clip", [0.5, 1e6])
def test_steps_equal_the_definition_with_repeated_rows_and_missing_gradients(seed, clip):
    draw = np.random.default_rng(seed + 100)
    values = some_weights(seed)
    groups, weights = grouped(values, clip_norm=clip)
    table, tower, encoder = values
    oracle = Oracle([tower, table, encoder], [0.1, 0.1, 0.02], [0.3, 0.0, 0.3], clip)
    apply = tf.function(groups.apply, autograph=False)
    for step in range(6):
        rows = draw.integers(0, 6, 5)  # five draws of six rows repeat some nearly always
        parts = draw.normal(size=(5, 3)).astype(np.float32)
        of_table = np.zeros((6, 3))
        for row, part in zip(rows, parts, strict=True):
            of_table[row] += part
        of_tower = draw.normal(size=4).astype(np.float32)
        of_encoder = draw.normal(size=(2, 5)).astype(np.float32) if step % 2 else None
        sparse = tf.IndexedSlices(tf.constant(parts), tf.constant(rows), tf.constant([6, 3]))
        norm = apply([of_tower, sparse, of_encoder])
        assert float(norm) == pytest.approx(
            oracle.apply([of_tower, of_table, of_encoder]), rel=1e-5
        )
    for weight, wanted in zip(weights, oracle.weights, strict=True):
        np.testing.assert_allclose(weight.numpy(), wanted, atol=2e-5)


def test_steps_equal_those_of_keras_where_gradients_are_dense():
    values = some_weights(7)
    ours = [keras.Variable(value) for value in values]
    theirs = [keras.Variable(value) for value in values]
    schedule = learning_rate(Schedule(kind="cosine", warmup=0.25), 0.05, 8)
    groups = OptimizerGroups([Group(ours, schedule, 0.1)], clip_norm=1.0)
    optimizer = keras.optimizers.AdamW(0.05, weight_decay=0.1, global_clipnorm=1.0)
    optimizer.build(theirs)
    draw = np.random.default_rng(0)
    for step in range(8):
        gradients = [tf.constant(draw.normal(size=v.shape).astype(np.float32)) for v in values]
        groups.apply(gradients)
        optimizer.learning_rate = float(schedule(tf.constant(step)))
        optimizer.apply_gradients(zip(gradients, theirs, strict=True))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.numpy(), other.numpy(), atol=1e-5)


def test_weight_without_gradient_stays_as_it_is():
    values = some_weights(1)
    groups, (tower, table, encoder) = grouped(values)
    groups.apply([None, tf.ones((6, 3)), None])
    np.testing.assert_array_equal(tower.numpy(), values[1])
    np.testing.assert_array_equal(encoder.numpy(), values[2])
    assert (table.numpy() != values[0]).all()


def test_zeros_grow_to_their_share_and_are_the_smallest_numbers():
    weight = keras.Variable(np.linspace(-1.0, 1.0, 12, dtype=np.float32).reshape(3, 4))
    before = weight.numpy()
    sparsity = growing_sparsity(0.5, 4)
    optimizer = OptimizerGroups([Group([weight], constant(1e-6), sparsity=sparsity)])
    shares = []
    for _ in range(6):
        optimizer.apply([tf.ones([3, 4])])
        shares.append(int((weight.numpy() == 0).sum()))
    # 0.5 (1 - (1 - t / 4)^3) of 12, rounded down.
    assert shares == [3, 5, 5, 6, 6, 6]
    assert (np.abs(before[weight.numpy() != 0]) > 0.5).all()
    np.testing.assert_allclose(weight.numpy()[np.abs(before) > 0.5], before[np.abs(before) > 0.5],
                               atol=1e-4)  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
def test_without_smallest_keeps_signs_and_rounds_down(share):
    values = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    got = without_smallest(tf.constant(values), tf.constant(share)).numpy()
    count = int(share * values.size)
    smallest = np.argsort(np.abs(values), axis=None)[:count]
    wanted = values.copy().ravel()
    wanted[smallest] = 0
    np.testing.assert_array_equal(got.ravel(), wanted)


def test_weight_in_two_groups_is_refused():
    weight = keras.Variable(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="one group"):
        OptimizerGroups([Group([weight], constant(0.1)), Group([weight], constant(0.2))])


# Averages


def test_averages_follow_the_weights_and_change_places_with_them():
    values = some_weights(2)
    groups, weights = grouped(values, ema_decay=0.8, clip_norm=1e6)
    wanted = [w.numpy().astype(np.float64) for w in weights]
    draw = np.random.default_rng(2)
    for step in range(1, 60):
        groups.apply([tf.constant(draw.normal(size=w.shape).astype(np.float32)) for w in weights])
        decay = min(0.8, (1 + step) / (10 + step))
        wanted = [decay * a + (1 - decay) * w.numpy() for a, w in zip(wanted, weights, strict=True)]
    trained = [w.numpy() for w in weights]
    with groups.averaged():
        for weight, average in zip(weights, wanted, strict=True):
            np.testing.assert_allclose(weight.numpy(), average, atol=1e-5)
    for weight, value in zip(weights, trained, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_averaged_without_averages_changes_nothing():
    values = some_weights(2)
    groups, (_, table, _) = grouped(values)
    with groups.averaged():
        np.testing.assert_array_equal(table.numpy(), values[0])


# Optimisers of Keras and of somebody else


class Signs(keras.optimizers.Optimizer):
    """Steps by the sign of each gradient, and counts its steps."""

    def __init__(self, learning_rate: float, power: float = 1.0):
        super().__init__(learning_rate, name="signs")
        self.power = power

    def update_step(self, gradient, variable, learning_rate):
        step = keras.ops.sign(gradient) * self.power * keras.ops.cast(learning_rate, "float32")
        self.assign_sub(variable, step)


class Asleep(Signs):
    def update_step(self, gradient, variable, learning_rate):
        pass


class Explodes(Signs):
    def update_step(self, gradient, variable, learning_rate):
        self.assign(variable, variable * float("nan"))


class Reshapes(Signs):
    def update_step(self, gradient, variable, learning_rate):
        self.assign(variable, keras.ops.sum(gradient, axis=0, keepdims=True))


class Eager(Signs):
    def update_step(self, gradient, variable, learning_rate):
        gradient.numpy()


class Scheduled(Signs):
    def __init__(self, learning_rate: float):
        super().__init__(learning_rate)
        self._learning_rate = keras.optimizers.schedules.CosineDecay(0.1, 10)


HERE = __name__


def test_own_optimizer_steps_at_the_rate_of_each_group_and_decays():
    make = new_optimizer(Optimizer(kind=f"{HERE}:Signs", options={"power": 2.0}), "a")
    values = some_weights(3)
    groups, (tower, table, encoder) = grouped(values, make=make)
    apply = tf.function(groups.apply, autograph=False)
    apply([tf.ones(4), -tf.ones((6, 3)), None])
    np.testing.assert_allclose(tower.numpy(), values[1] * (1 - 0.1 * 0.3) - 0.2, atol=1e-6)
    np.testing.assert_allclose(table.numpy(), values[0] + 0.2, atol=1e-6)
    np.testing.assert_array_equal(encoder.numpy(), values[2])


def test_optimizer_of_keras_follows_the_schedule_and_goes_on_from_its_variables():
    settings = Optimizer(kind="sgd", options={"momentum": 0.9})
    schedule = learning_rate(Schedule(kind="linear", warmup=0.25), 0.1, 8)
    draw = np.random.default_rng(0)
    gradients = [draw.normal(size=3).astype(np.float32) for _ in range(8)]

    def start() -> tuple[OptimizerGroups, keras.Variable]:
        weight = keras.Variable(np.ones(3, np.float32))
        make = new_optimizer(settings, "a")
        return OptimizerGroups([Group([weight], schedule)], clip_norm=1e6, make=make), weight

    whole, wanted = start()
    first, halfway = start()
    velocity, by_hand = np.zeros(3), np.ones(3)
    for step, gradient in enumerate(gradients):
        whole.apply([tf.constant(gradient)])
        velocity = 0.9 * velocity - float(schedule(tf.constant(step))) * gradient
        by_hand = by_hand + velocity
        if step < 4:
            first.apply([tf.constant(gradient)])
    np.testing.assert_allclose(wanted.numpy(), by_hand, atol=1e-6)

    resumed, weight = start()
    weight.assign(halfway)
    for variable, saved in zip(resumed.variables, first.variables, strict=True):
        variable.assign(saved)
    for gradient in gradients[4:]:
        resumed.apply([tf.constant(gradient)])
    np.testing.assert_array_equal(weight.numpy(), wanted.numpy())


@pytest.mark.parametrize("kind", [kind for kind in OPTIMIZERS.ours if kind != "adamw"])
def test_every_optimizer_of_ours_passes_the_trial(kind: str):
    assert new_optimizer(Optimizer(kind=kind), "a") is not None


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (f"{HERE}:Asleep", f"a.kind: {HERE}:Asleep: wanted every weight moved to a finite value, "),
        (f"{HERE}:Explodes", f"a.kind: {HERE}:Explodes: wanted every weight moved to a finite "),
        (f"{HERE}:Reshapes", "a.kind: the optimiser cannot take a step: "),
        (f"{HERE}:Eager", "a.kind: the optimiser cannot take a step: "),
        (f"{HERE}:Scheduled", "a.kind: the optimiser cannot take a step: "),
        ("no_such_package.x:Y", "a.kind: no_such_package.x:Y: cannot be imported: "),
        ("pathlib:Path", "a.kind: pathlib:Path: wanted an optimiser, a class that extends "),
    ],
    ids=lambda text: text.rpartition(":")[2].strip(),
)
def test_optimizer_that_breaks_the_contract_is_refused_in_one_line(kind: str, expected: str):
    with pytest.raises(ConfigError) as caught:
        new_optimizer(Optimizer(kind=kind), "a")
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_options_beside_our_adamw_are_refused():
    with pytest.raises(ValueError, match="another optimiser than `kind: adamw`"):
        Optimizer(options={"beta_1": 0.5})
