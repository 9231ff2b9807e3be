import os
from pathlib import Path

import keras
import numpy as np
import pytest

from tfrec.errors import ArtefactError
from tfrec.files import write_arrays
from tfrec.training.checkpoint import Checkpoint, load_variables, save_variables


def make_variables(seed: int = 0) -> list[keras.Variable]:
    """Makes a float matrix, an int counter and a scalar, as layers and optimisers hold them."""
    rng = np.random.default_rng(seed)
    return [
        keras.Variable(rng.normal(size=(3, 2)).astype(np.float32), name="kernel"),
        keras.Variable(np.array([7 + seed, 2**31 + seed], np.uint32), name="seed", dtype="uint32"),
        keras.Variable(np.float32(0.5 + seed), name="rate"),
    ]


def values(variables: list[keras.Variable]) -> list[np.ndarray]:
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def assert_equal(first: list[keras.Variable], second: list[keras.Variable]) -> None:
    for one, other in zip(values(first), values(second), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_saved_variables_load_bit_equal(tmp_path):
    saved, loaded = make_variables(0), make_variables(1)
    save_variables(tmp_path / "model.npz", saved)
    load_variables(tmp_path / "model.npz", loaded)
    assert_equal(loaded, saved)


def test_checkpoint_restores_variables_and_state(tmp_path):
    saved, loaded = make_variables(0), make_variables(1)
    state = {"rounds": [{"loss": 0.1 + 0.2}], "best_round": 0, "name": "Käse"}
    Checkpoint(tmp_path / "c.npz", saved).save(state)
    assert Checkpoint(tmp_path / "c.npz", loaded).restore() == state
    assert_equal(loaded, saved)


def test_checkpoint_without_a_file_restores_nothing(tmp_path):
    variables = make_variables(0)
    assert Checkpoint(tmp_path / "c.npz", variables).restore() is None
    assert_equal(variables, make_variables(0))


def test_checkpoint_saved_twice_holds_the_second_state(tmp_path):
    variables = make_variables(0)
    checkpoint = Checkpoint(tmp_path / "c.npz", variables)
    checkpoint.save({"round": 1})
    variables[0].assign(np.ones((3, 2)))
    checkpoint.save({"round": 2})
    loaded = make_variables(1)
    assert Checkpoint(tmp_path / "c.npz", loaded).restore() == {"round": 2}
    assert_equal(loaded, variables)
    assert [path.name for path in tmp_path.iterdir()] == ["c.npz"]


def test_load_of_a_missing_file_names_it(tmp_path):
    with pytest.raises(ArtefactError, match=r"nothing\.npz.*tfrec train"):
        load_variables(tmp_path / "nothing.npz", make_variables())


def test_load_with_another_number_of_variables_names_both_numbers(tmp_path):
    save_variables(tmp_path / "m.npz", make_variables())
    with pytest.raises(ArtefactError, match="wanted 2 variables, got 3"):
        load_variables(tmp_path / "m.npz", make_variables()[:2])


def test_load_with_another_shape_names_both_shapes_and_the_variable(tmp_path):
    save_variables(tmp_path / "m.npz", make_variables())
    others = [keras.Variable(np.zeros((2, 3)), name="kernel"), *make_variables()[1:]]
    with pytest.raises(ArtefactError, match=r"kernel.*wanted shape \(2, 3\), got \(3, 2\)"):
        load_variables(tmp_path / "m.npz", others)


def test_restore_of_another_model_is_refused(tmp_path):
    Checkpoint(tmp_path / "c.npz", make_variables()).save({"best_round": 1})
    with pytest.raises(ArtefactError, match="wanted 2 variables, got 3"):
        Checkpoint(tmp_path / "c.npz", make_variables()[:2]).restore()


class BrokenArray:
    """Stops a write after other arrays have gone to the file, as a full disk does."""

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise OSError(28, "No space left on device")


def test_failing_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "arrays.npz"
    write_arrays(path, {"a": np.arange(3)})
    with pytest.raises(OSError, match="No space"):
        write_arrays(path, {"a": np.arange(1000), "b": BrokenArray()})
    with np.load(path) as saved:
        assert saved.files == ["a"]
        np.testing.assert_array_equal(saved["a"], np.arange(3))


def test_killed_before_the_rename_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "arrays.npz"
    write_arrays(path, {"a": np.arange(3)})

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_arrays(path, {"a": np.arange(5)})
    with np.load(path) as saved:
        np.testing.assert_array_equal(saved["a"], np.arange(3))


def test_arrays_are_written_beside_and_renamed(tmp_path, monkeypatch):
    renamed: list[tuple[Path, Path]] = []
    replace = os.replace

    def record(source: Path, target: Path) -> None:
        assert Path(source).stat().st_size > 0
        renamed.append((Path(source), Path(target)))
        replace(source, target)

    monkeypatch.setattr(os, "replace", record)
    write_arrays(tmp_path / "arrays.npz", {"a": np.arange(3)})
    ((source, target),) = renamed
    assert target == tmp_path / "arrays.npz"
    assert source.parent == tmp_path
    assert source != target
