import math
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrec.training.loop import History, Run, TrainingError, fit, shuffled_batches

ROUNDS, STEPS = 5, 3


def make_counter_run(
    metrics: list[float], monitor: str | None, losses: dict[int, float] | None = None
) -> Run:
    """A run whose only weight counts steps and whose round r validates as `metrics[r]`."""
    weight = keras.Variable(np.float32(0.0))

    def step(batch: int) -> dict[str, tf.Tensor]:
        weight.assign_add(1.0)
        return {"loss": tf.constant((losses or {}).get(batch, float(batch)))}

    return Run(
        name="counter",
        rounds=len(metrics),
        steps_per_round=2,
        batches=lambda number: [10 * number, 10 * number + 1],
        step=step,
        variables=[weight],
        weights=[weight],
        validate=lambda: {"metric": metrics[round(float(weight)) // 2 - 1]},
        monitor=monitor,
    )


@pytest.mark.parametrize(
    ("metrics", "monitor", "best"),
    [
        ([0.1, 0.5, 0.3], "metric", 1),
        ([0.1, 0.5, 0.3], "-metric", 0),
        ([0.4, 0.2, 0.6], "metric", 2),
        ([0.4, 0.2, 0.6], "-metric", 1),
        ([-3.0, -1.0, -2.0], "metric", 1),
        ([0.5, 0.5, 0.5], "metric", 0),
        ([0.9], "-metric", 0),
    ],
)
def test_fit_with_monitor_restores_the_best_round(tmp_path, metrics, monitor, best):
    run = make_counter_run(metrics, monitor)
    history = fit(run, tmp_path)
    assert history.best_round == best
    assert float(run.weights[0]) == 2 * (best + 1)


def test_fit_without_monitor_keeps_the_last_round(tmp_path):
    run = make_counter_run([0.9, 0.1, 0.5], None)
    assert fit(run, tmp_path).best_round == -1
    assert float(run.weights[0]) == 6


def test_history_holds_mean_losses_and_metrics_of_each_round(tmp_path):
    history = fit(make_counter_run([0.9, 0.1], "metric"), tmp_path)
    # Batches 0 and 1, then 10 and 11: mean losses 0.5 and 10.5.
    assert history.rounds == [{"loss": 0.5, "metric": 0.9}, {"loss": 10.5, "metric": 0.1}]


def test_fit_of_no_rounds_changes_nothing(tmp_path):
    run = make_counter_run([], "metric")
    assert fit(run, tmp_path) == History()
    assert float(run.weights[0]) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_loss_that_is_no_number_names_run_round_and_step(tmp_path, bad):
    run = make_counter_run([0.1, 0.2, 0.3], "metric", losses={11: bad})
    with pytest.raises(TrainingError, match=rf"^counter: .*{bad}.* round 2, step 2\."):
        fit(run, tmp_path)
    assert float(run.weights[0]) == 4  # no step after the bad one


def test_fit_after_the_end_gives_the_same_answer_without_training(tmp_path):
    history = fit(make_counter_run([0.1, 0.5, 0.3], "metric"), tmp_path)
    again = make_counter_run([9.0, 9.0, 9.0], "metric")
    assert fit(again, tmp_path) == history
    assert float(again.weights[0]) == 4


# Resuming a real model


class SmallModel:
    """Two dense layers with dropout, Adam with a schedule: every kind of state a run has."""

    def __init__(self, init_seed: int = 3) -> None:
        keras.utils.set_random_seed(init_seed)
        self.hidden = keras.layers.Dense(8, activation="relu")
        self.hidden.build((None, 4))
        self.dropout = keras.layers.Dropout(0.5)
        self.output = keras.layers.Dense(1)
        self.output.build((None, 8))
        schedule = keras.optimizers.schedules.CosineDecay(0.05, ROUNDS * STEPS)
        self.optimizer = keras.optimizers.Adam(schedule)
        self.weights = [*self.hidden.variables, *self.output.variables]
        self.optimizer.build(self.weights)

    def step(self, batch: np.ndarray) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            hidden = self.dropout(self.hidden(batch), training=True)
            loss = tf.reduce_mean(tf.square(self.output(hidden)[:, 0] - batch[:, 0]))
        gradients = tape.gradient(loss, self.weights)
        self.optimizer.apply_gradients(zip(gradients, self.weights, strict=True))
        return {"loss": loss}

    def run(self, validate: Callable[[], dict[str, float]], monitor: str | None) -> Run:
        data = np.random.default_rng(0).normal(size=(STEPS * 16, 4)).astype(np.float32)
        return Run(
            name="small",
            rounds=ROUNDS,
            steps_per_round=STEPS,
            batches=lambda number: [
                data[rows] for rows in shuffled_batches(np.arange(len(data)), 16, 5, number)
            ],
            step=tf.function(self.step, autograph=False),
            variables=[*self.weights, *self.dropout.variables, *self.optimizer.variables],
            weights=self.weights,
            validate=validate,
            monitor=monitor,
        )

    def values(self) -> list[np.ndarray]:
        return [keras.ops.convert_to_numpy(weight) for weight in self.weights]


class StopError(Exception):
    pass


def train(folder: Path, monitor: str | None, stop_after: int | None = None) -> SmallModel:
    """Trains; with `stop_after`, dies while round `stop_after` is being validated."""
    model = SmallModel()

    def validate() -> dict[str, float]:
        done = int(model.optimizer.iterations.numpy()) // STEPS
        if stop_after is not None and done == stop_after + 1:
            raise StopError
        return {"metric": float(np.abs(model.values()[0]).sum())}

    fit(model.run(validate, monitor), folder)
    return model


@pytest.mark.parametrize("monitor", [None, "metric", "-metric"])
def test_run_killed_and_resumed_ends_bit_equal(tmp_path, monitor):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    wanted = train(whole, monitor)
    for stop_after in (0, 2, ROUNDS - 1):  # before any checkpoint, in the middle, at the end
        with pytest.raises(StopError):
            train(parts, monitor, stop_after)
    resumed = train(parts, monitor)
    for one, other in zip(wanted.values(), resumed.values(), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(wanted.optimizer.variables, resumed.optimizer.variables, strict=True):
        np.testing.assert_array_equal(
            keras.ops.convert_to_numpy(one), keras.ops.convert_to_numpy(other)
        )


def test_dropout_state_matters_for_the_result(tmp_path):
    # The test above could pass without restoring random states, did dropout not change the weights.
    model = SmallModel()
    keras.utils.set_random_seed(99)
    model.dropout = keras.layers.Dropout(0.5)
    fit(model.run(lambda: {}, None), tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    assert (model.values()[0] != train(other, None).values()[0]).any()


# Batches


def test_shuffled_batches_are_a_permutation_without_the_rest():
    rows = np.arange(100, 203)
    batches = shuffled_batches(rows, 10, seed=1, round_number=0)
    assert [len(batch) for batch in batches] == [10] * 10
    taken = np.concatenate(batches)
    assert len(np.unique(taken)) == 100
    assert np.isin(taken, rows).all()
    assert (np.sort(taken) != taken).any()


def test_shuffled_batches_depend_on_seed_and_round_alone():
    rows = np.arange(50)

    def order(seed: int, number: int) -> list[int]:
        return np.concatenate(shuffled_batches(rows, 10, seed, number)).tolist()

    assert order(1, 0) == order(1, 0)
    assert len({tuple(order(seed, number)) for seed in range(3) for number in range(3)}) == 9
    assert rows.tolist() == list(range(50))


@pytest.mark.parametrize("count", [1, 9, 10])
def test_shuffled_batches_of_few_rows_are_one_batch(count):
    (batch,) = shuffled_batches(np.arange(count), 10, seed=0, round_number=0)
    assert sorted(batch.tolist()) == list(range(count))


def test_every_row_is_seen_over_rounds():
    seen = [np.concatenate(shuffled_batches(np.arange(19), 10, 0, number)) for number in range(9)]
    assert len(np.unique(np.concatenate(seen))) == 19
