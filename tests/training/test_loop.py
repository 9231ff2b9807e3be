import contextlib
import dataclasses
import math
import os
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrec.inputs.batches import epoch_batches
from tfrec.training import loop
from tfrec.training.loop import History, Observer, Run, TrainingError, fit

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
        batches=lambda number, first: [10 * number, 10 * number + 1][first:],
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


# When training stops early


@pytest.mark.parametrize(
    ("metrics", "monitor", "patience", "num_rounds"),
    [
        ([5, 4, 3, 2], "metric", 0, 4),
        ([5, 4, 3, 2], "metric", 1, 2),
        ([5, 4, 3, 2], "metric", 2, 3),
        ([5, 4, 3, 2], "-metric", 1, 4),
        ([1, 3, 2, 3, 4, 5], "metric", 2, 4),  # an equal value is no better one
        ([1, 3, 2, 4, 3, 5, 6], "metric", 2, 7),
        ([math.nan, math.nan, 1], "metric", 2, 2),
        ([5, 4, 3, 2], None, 1, 4),
    ],
)
def test_fit_with_patience_stops_when_no_round_gets_better(
    tmp_path, metrics, monitor, patience, num_rounds
):
    run = dataclasses.replace(make_counter_run(metrics, monitor), patience=patience)
    assert len(fit(run, tmp_path).rounds) == num_rounds


@pytest.mark.parametrize("kill", [2, 5, 6, 7, 9])
def test_fit_with_patience_killed_and_resumed_stops_in_the_same_round(tmp_path, killed_at, kill):
    def make() -> Run:
        run = make_counter_run([0.2, 0.5, 0.4, 0.3, 0.9], "metric")
        return dataclasses.replace(run, patience=2)

    with killed_at(kill):
        fit(make(), tmp_path)
    run = make()
    history = fit(run, tmp_path)
    assert (len(history.rounds), history.best_round, float(run.weights[0])) == (4, 1, 4)
    again = make()  # and once it is over it stays over
    assert fit(again, tmp_path) == history
    assert float(again.weights[0]) == 4


# What is told of a run


class Diary(Observer):
    """Writes down all it hears."""

    def __init__(self) -> None:
        self.lines: list[tuple] = []

    def on_start(self, step: int, round_number: int) -> None:
        self.lines.append(("start", step, round_number))

    def on_step(self, step: int, measured: dict[str, float]) -> None:
        self.lines.append(("step", step, measured["loss"]))

    def on_round(self, round_number: int, measured: dict[str, float]) -> None:
        self.lines.append(("round", round_number, measured["metric"]))

    def on_checkpoint(self) -> None:
        self.lines.append(("checkpoint",))


def test_observer_hears_of_steps_rounds_and_checkpoints(tmp_path):
    diary = Diary()
    fit(make_counter_run([0.9, 0.1], "metric"), tmp_path, observer=diary)
    assert diary.lines == [
        ("start", 0, 0),
        ("step", 1, 0.0),
        ("step", 2, 1.0),
        ("round", 1, 0.9),
        ("checkpoint",),
        ("step", 3, 10.0),
        ("step", 4, 11.0),
        ("round", 2, 0.1),
        ("checkpoint",),
    ]


def test_observer_of_a_resumed_run_hears_where_it_goes_on(tmp_path, killed_at):
    with killed_at(6):  # the second step of the second round is lost
        fit(make_counter_run([0.9, 0.1], None), tmp_path)
    diary = Diary()
    fit(make_counter_run([0.9, 0.1], None), tmp_path, observer=diary)
    assert diary.lines[:2] == [("start", 4, 1), ("round", 2, 0.1)]


def test_described_rounds_are_told_in_the_log(tmp_path, caplog):
    def describe(measured: dict[str, float]) -> str | None:
        return None if measured["metric"] < 0.2 else f"metric {measured['metric']:.2f}"

    run = dataclasses.replace(make_counter_run([0.5, 0.1, 0.9], "metric"), describe=describe)
    with caplog.at_level("INFO", "tfrec"):
        fit(run, tmp_path)
    assert caplog.messages == ["counter epoch 1/3: metric 0.50", "counter epoch 3/3: metric 0.90"]


# Averaged weights


@pytest.mark.parametrize("monitor", [None, "metric"])
def test_averaged_weights_are_validated_and_given_back(tmp_path, monitor):
    def make() -> tuple[Run, list[float]]:
        run = make_counter_run([0.0, 0.0, 0.0], monitor)
        weight, seen = run.weights[0], []

        @contextlib.contextmanager
        def averaged():
            weight.assign_add(0.5)
            yield
            weight.assign_sub(0.5)

        def validate() -> dict[str, float]:
            seen.append(float(weight))
            return {"metric": float(weight)}

        return dataclasses.replace(run, averaged=averaged, validate=validate), seen

    run, seen = make()
    fit(run, tmp_path)
    assert seen == [2.5, 4.5, 6.5]
    assert float(run.weights[0]) == 6.5
    again, _ = make()
    fit(again, tmp_path)
    assert float(again.weights[0]) == 6.5


# When checkpoints are written


class Clock:
    """Time that passes by a second a step, and by `writing` seconds for a checkpoint."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, writing: float = 0.0) -> None:
        self.now = 100.0
        self.saved_at: list[float] = []
        save = loop.Checkpoint.save

        def slow_save(checkpoint: loop.Checkpoint, state: dict) -> None:
            save(checkpoint, state)
            if state:  # the best weights are saved without a state
                self.saved_at.append(self.now - 100)
                self.now += writing

        monkeypatch.setattr(loop, "monotonic", lambda: self.now)
        monkeypatch.setattr(loop.Checkpoint, "save", slow_save)

    def run(self, steps: int, rounds: int = 1) -> Run:
        weight = keras.Variable(np.float32(0.0))

        def step(batch: int) -> dict[str, tf.Tensor]:
            del batch
            self.now += 1
            return {"loss": tf.constant(0.5)}

        return Run(
            name="timed",
            rounds=rounds,
            steps_per_round=steps,
            batches=lambda number, first: range(first, steps),
            step=step,
            variables=[weight],
            weights=[weight],
        )


def test_checkpoints_are_written_when_due_and_at_the_end_of_rounds(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    fit(clock.run(steps=25, rounds=2), tmp_path, checkpoint_seconds=10)
    # Due 10 seconds after the one before, whatever wrote that; rounds end at 25 and 50.
    assert clock.saved_at == [10, 20, 25, 35, 45, 50]


def test_slow_checkpoints_are_written_less_often(tmp_path, monkeypatch):
    clock = Clock(monkeypatch, writing=2.0)
    fit(clock.run(steps=100), tmp_path, checkpoint_seconds=10)
    # Writing takes 2 seconds, so the next is due 40 seconds later.
    assert clock.saved_at == [10, 52, 94, 106]


def test_checkpoints_are_a_minute_apart_by_default(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    fit(clock.run(steps=130), tmp_path)
    assert clock.saved_at == [60, 120, 130]


def test_resumed_round_is_asked_for_from_the_step_after_the_checkpoint(tmp_path, killed_at):
    asked: list[tuple[int, int]] = []
    run = make_counter_run([0.1, 0.2, 0.3], None)

    def batches(number: int, first: int) -> list[int]:
        asked.append((number, first))
        return run.batches(number, first)

    recorded = dataclasses.replace(run, batches=batches)
    # Two steps and the round's end make three checkpoints a round; the fifth is the second of
    # round 1.
    with killed_at(5):
        fit(recorded, tmp_path)
    assert asked == [(0, 0), (1, 0)]
    asked.clear()
    fit(recorded, tmp_path)
    assert asked == [(1, 1), (2, 0)]


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
        self.variables = [*self.weights, *self.dropout.variables, *self.optimizer.variables]
        self.num_steps = 0

    def step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        rows = batch["rows"]
        with tf.GradientTape() as tape:
            hidden = self.dropout(self.hidden(rows), training=True)
            error = self.output(hidden)[:, 0] - rows[:, 0]
            loss = tf.reduce_mean(tf.square(error))
        gradients = tape.gradient(loss, self.weights)
        self.optimizer.apply_gradients(zip(gradients, self.weights, strict=True))
        return {"loss": loss, "error": tf.reduce_max(tf.abs(error))}

    def run(self, monitor: str | None) -> Run:
        data = np.random.default_rng(0).normal(size=(STEPS * 16 + 5, 4)).astype(np.float32)
        every = np.arange(len(data))
        step = tf.function(self.step, autograph=False)

        def counted_step(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            self.num_steps += 1
            return step(batch)

        return Run(
            name="small",
            rounds=ROUNDS,
            steps_per_round=STEPS,
            batches=lambda number, first: epoch_batches(
                lambda rows: {"rows": data[rows]}, every, 16, 5, number, first
            ),
            step=counted_step,
            variables=self.variables,
            weights=self.weights,
            validate=lambda: {"metric": float(np.abs(self.values()[0]).sum())},
            monitor=monitor,
        )

    def values(self) -> list[np.ndarray]:
        return [keras.ops.convert_to_numpy(variable) for variable in self.variables]


def assert_bit_equal(got: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    for one, other in zip(got, wanted, strict=True):
        assert (one.dtype, one.shape) == (other.dtype, other.shape)
        assert one.tobytes() == other.tobytes()


def whole_run(folder: Path, monitor: str | None) -> tuple[History, list[np.ndarray]]:
    """Trains without a stop, as an oracle."""
    folder.mkdir()
    model = SmallModel()
    return fit(model.run(monitor), folder), model.values()


@pytest.mark.parametrize("monitor", [None, "metric", "-metric"])
# A round writes four checkpoints: after each of its three steps and at its end.
@pytest.mark.parametrize(
    "kills",
    [
        pytest.param([1], id="before any checkpoint"),
        pytest.param([2], id="after the first step"),
        pytest.param([4], id="after the last step of a round"),
        pytest.param([5], id="in the first step of a round"),
        pytest.param([7], id="inside the second round"),
        pytest.param([20], id="at the very end"),
        pytest.param([1, 3, 2, 4, 6, 1, 3], id="again and again"),
    ],
)
def test_run_killed_at_a_step_and_resumed_ends_bit_equal(tmp_path, killed_at, kills, monitor):
    wanted_history, wanted = whole_run(tmp_path / "whole", monitor)
    parts = tmp_path / "parts"
    parts.mkdir()
    for number in kills:
        with killed_at(number):
            fit(SmallModel().run(monitor), parts)
    model = SmallModel()
    history = fit(model.run(monitor), parts)
    assert history == wanted_history
    assert repr(history) == repr(wanted_history)  # the order of the figures too
    assert_bit_equal(model.values(), wanted)


@pytest.mark.parametrize("seed", range(5))
def test_run_with_checkpoints_at_any_time_ends_bit_equal(tmp_path, monkeypatch, seed):
    """Checkpoints come by an odd clock and kills come at odd steps, far from any checkpoint."""
    wanted_history, wanted = whole_run(tmp_path / "whole", "metric")
    draw = np.random.default_rng(seed)
    now = 0.0

    def odd_clock() -> float:
        nonlocal now
        now += draw.exponential(1.0)
        return now

    monkeypatch.setattr(loop, "monotonic", odd_clock)
    parts = tmp_path / "parts"
    parts.mkdir()
    num_steps = 0
    for _ in range(4):
        model = SmallModel()
        run = model.run("metric")
        lifetime = draw.integers(1, 10)

        def mortal_step(batch, run=run, model=model, lifetime=lifetime):
            measured = run.step(batch)
            if model.num_steps == lifetime:  # the step is done, and nothing tells of it
                raise RuntimeError("killed")
            return measured

        with contextlib.suppress(RuntimeError):
            fit(dataclasses.replace(run, step=mortal_step), parts, checkpoint_seconds=3)
        num_steps += model.num_steps
    model = SmallModel()
    assert fit(model.run("metric"), parts, checkpoint_seconds=3) == wanted_history
    assert_bit_equal(model.values(), wanted)
    assert num_steps + model.num_steps >= ROUNDS * STEPS


def test_resumed_run_repeats_one_step_only(tmp_path, killed_at):
    with killed_at(10):  # seven steps and the ends of two rounds are written
        fit(SmallModel().run(None), tmp_path)
    model = SmallModel()
    fit(model.run(None), tmp_path)
    assert model.num_steps == ROUNDS * STEPS - 7


def test_run_resumed_without_its_random_state_ends_elsewhere(tmp_path, killed_at):
    # Had dropout no part in the result, the tests above could not see a lost random state.
    _, wanted = whole_run(tmp_path / "whole", None)

    def run(model: SmallModel) -> Run:
        variables = [*model.weights, *model.optimizer.variables]
        return dataclasses.replace(model.run(None), variables=variables)

    parts = tmp_path / "parts"
    parts.mkdir()
    with killed_at(7):
        fit(run(SmallModel()), parts)
    model = SmallModel()
    fit(run(model), parts)
    assert (model.values()[0] != wanted[0]).any()


def test_run_killed_while_writing_resumes_from_the_checkpoint_before(tmp_path, monkeypatch):
    wanted_history, wanted = whole_run(tmp_path / "whole", "metric")
    parts = tmp_path / "parts"
    parts.mkdir()
    replace, written = os.replace, 0

    def stop(source: Path, target: Path) -> None:
        nonlocal written
        written += 1
        if written == 6:
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "monotonic", lambda: 0.0)
        patch.setattr(os, "replace", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(SmallModel().run("metric"), parts, checkpoint_seconds=0)
    model = SmallModel()
    assert fit(model.run("metric"), parts) == wanted_history
    assert_bit_equal(model.values(), wanted)


def test_loss_that_is_no_number_is_in_no_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "monotonic", lambda: 0.0)
    run = make_counter_run([0.1, 0.2, 0.3], None, losses={11: math.nan})
    for _ in range(2):  # the second time it goes on from the step before, and says the same
        with pytest.raises(TrainingError, match=r"round 2, step 2\."):
            fit(run, tmp_path, checkpoint_seconds=0)
        assert float(run.weights[0]) == 4
