import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

SCRIPT = Path(__file__).with_name("mortal_training.py")
# Early, in a round, while a checkpoint is written (which one is up to chance), after a round.
MOMENTS = ("1", "4", "writing", "validating", "13", "writing", "20")


def train(folder: Path, *moments: str) -> list[int]:
    folder.mkdir()
    result = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *moments],
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return [int(status) for status in result.stdout.split("\n")[-2].split()]


def read_steps(folder: Path) -> list[int]:
    steps = []
    for path in sorted((folder / "tensorboard" / "steps").iterdir()):
        for event in EventFileLoader(str(path)).Load():
            steps += [event.step for value in event.summary.value if value.tag == "loss"]
    return steps


@pytest.mark.slow
def test_killed_process_started_again_ends_bit_equal(tmp_path):
    assert train(tmp_path / "whole") == [0]
    assert train(tmp_path / "parts", *MOMENTS) == [-9] * len(MOMENTS) + [0]
    wanted, got = (np.load(tmp_path / name / "finished.npz") for name in ("whole", "parts"))
    assert got.files == wanted.files
    assert all(got[name].tobytes() == wanted[name].tobytes() for name in wanted.files)
    histories = [(tmp_path / name / "history.txt").read_text() for name in ("whole", "parts")]
    assert histories[0] == histories[1]
    # And TensorBoard sees each step once.
    assert read_steps(tmp_path / "parts") == list(range(1, 25))
