import dataclasses
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector import ProjectorConfig

from tfrec.training.loop import Run, fit
from tfrec.training.tensorboard import CurveWriter, write_projector

ROUNDS, STEPS = 3, 4


def make_run() -> Run:
    weight = keras.Variable(np.float32(0.0))

    def step(batch: int) -> dict[str, tf.Tensor]:
        weight.assign_add(1.0)
        return {"loss": tf.constant(100.0 - batch)}

    return Run(
        name="curves",
        rounds=ROUNDS,
        steps_per_round=STEPS,
        batches=lambda number, first: [STEPS * number + s for s in range(first, STEPS)],
        step=step,
        variables=[weight],
        weights=[weight],
        validate=lambda: {"metric": float(weight)},
    )


def read_points(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Reads all points of all event files; the names of files do not say their order."""
    points: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.name):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                number = float(tf.make_ndarray(value.tensor))
                points.setdefault(value.tag, []).append((event.step, number))
    return {tag: sorted(found) for tag, found in points.items()}


WANTED_STEPS = [(step, 101.0 - step) for step in range(1, ROUNDS * STEPS + 1)]
WANTED_ROUNDS = [(number, float(STEPS * number)) for number in range(1, ROUNDS + 1)]


def test_whole_run_leaves_one_point_a_step_and_one_a_round(tmp_path):
    curves = CurveWriter(
        tmp_path / "tensorboard",
        ROUNDS * STEPS,
        {"towers": lambda step: tf.cast(step, tf.float32) * 0.5},
    )
    fit(make_run(), tmp_path, observer=curves)
    steps = read_points(tmp_path / "tensorboard" / "steps")
    assert steps["loss"] == WANTED_STEPS
    # The rate of the first step is that of no step done.
    rates = [(step, (step - 1) * 0.5) for step, _ in WANTED_STEPS]
    assert steps["learning_rate/towers"] == rates
    assert read_points(tmp_path / "tensorboard" / "epochs")["metric"] == WANTED_ROUNDS


# Five checkpoints a round: four steps and its end.
@pytest.mark.parametrize("kill", [1, 2, 4, 5, 6, 8, 15])
def test_killed_and_resumed_run_leaves_the_same_points(tmp_path, killed_at, kill):
    folder = tmp_path / "tensorboard"
    killed = CurveWriter(folder, ROUNDS * STEPS)
    with killed_at(kill):
        fit(make_run(), tmp_path, observer=killed)
    # All the killed part had told comes to disk, also what came after the checkpoint.
    killed.on_checkpoint()
    fit(make_run(), tmp_path, observer=CurveWriter(folder, ROUNDS * STEPS))
    assert read_points(folder / "steps") == {"loss": WANTED_STEPS}
    assert read_points(folder / "epochs")["metric"] == WANTED_ROUNDS


def test_record_cut_short_by_a_kill_is_dropped(tmp_path):
    fit(make_run(), tmp_path, observer=CurveWriter(tmp_path / "tensorboard", 1))
    folder = tmp_path / "tensorboard" / "steps"
    (path,) = folder.iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    CurveWriter(tmp_path / "tensorboard", 1).on_start(12, 3)
    assert read_points(folder) == {"loss": WANTED_STEPS[:-1]}


def test_new_run_in_the_same_folder_removes_the_old_curves(tmp_path):
    fit(make_run(), tmp_path, observer=CurveWriter(tmp_path / "tensorboard", 1))
    (tmp_path / "checkpoint.npz").unlink()
    fit(make_run(), tmp_path, observer=CurveWriter(tmp_path / "tensorboard", 1))
    assert read_points(tmp_path / "tensorboard" / "steps") == {"loss": WANTED_STEPS}


def test_long_run_writes_some_thousand_points(tmp_path):
    curves = CurveWriter(tmp_path, 2500)
    curves.on_start(0, 0)
    for step in range(1, 2501):
        curves.on_step(step, {"loss": 1.0})
    curves.on_checkpoint()
    assert [step for step, _ in read_points(tmp_path / "steps")["loss"]] == [*range(2, 2501, 2)]


def test_tensorboard_itself_reads_the_curves(tmp_path):
    run = dataclasses.replace(make_run(), rounds=1)
    fit(run, tmp_path, observer=CurveWriter(tmp_path / "tensorboard", STEPS))
    read = EventAccumulator(str(tmp_path / "tensorboard" / "steps"))
    read.Reload()
    assert [event.step for event in read.Tensors("loss")] == [1, 2, 3, 4]


# The projector


def read_projector(folder: Path) -> tuple[np.ndarray, list[str]]:
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    vectors = np.loadtxt(folder / embedding.tensor_path, delimiter="\t", ndmin=2)
    text = (folder / embedding.metadata_path).read_text(encoding="utf-8")
    return vectors, text.removesuffix("\n").split("\n")


def test_projector_shows_popular_items_first_with_their_columns(tmp_path):
    embeddings = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    columns = {"title": ["red\tshoe", "blue\nhat", ""], "category": ["shoes", "hats", "bags"]}
    assert write_projector(tmp_path, embeddings, columns, np.array([1, 5, 1])) == 3
    vectors, lines = read_projector(tmp_path / "epochs")
    np.testing.assert_allclose(vectors, embeddings[[1, 0, 2]], atol=1e-5)
    assert lines == ["title\tcategory", "blue hat\thats", "red shoe\tshoes", "-\tbags"]


def test_projector_with_one_column_has_no_line_of_names(tmp_path):
    write_projector(tmp_path, np.eye(2, dtype=np.float32), {"title": ["a", "b"]}, np.zeros(2))
    assert read_projector(tmp_path / "epochs")[1] == ["a", "b"]


def test_projector_stops_at_ten_thousand_items(tmp_path):
    count = 10_050
    popularity = np.arange(count)
    titles = {"title": [str(number) for number in range(count)]}
    embeddings = np.zeros((count, 2), np.float32)
    assert write_projector(tmp_path, embeddings, titles, popularity) == 10_000
    vectors, lines = read_projector(tmp_path / "epochs")
    assert len(vectors) == len(lines) == 10_000
    assert (lines[0], lines[-1]) == ("10049", "50")
    shutil.rmtree(tmp_path / "epochs")
