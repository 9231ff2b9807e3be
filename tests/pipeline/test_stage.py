"""Stages as a user meets them: what is skipped, rerun, resumed, kept."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tfrec.config import parse_config
from tfrec.errors import ArtefactError
from tfrec.files import file_stamps
from tfrec.pipeline.run import Run
from tfrec.pipeline.stage import CHECKPOINTS, Stage, StageRunner

CONFIG = parse_config({"name": "run", "data": {"source": "shop"}})


class Noted(Stage):
    """Writes its name and what determines it, and remembers that it ran."""

    def __init__(
        self,
        name: str,
        needs: tuple[str, ...] = (),
        settings: object = 1,
        run: Callable[[Path], None] = lambda folder: None,
        is_complete: Callable[[Path], bool] = lambda folder: True,
    ) -> None:
        self.name, self.needs = name, needs
        self._settings, self._run, self._is_complete = settings, run, is_complete
        self.ran: list[str] = []

    def outside(self, run: Run) -> object:
        return self._settings

    def is_complete(self, run: Run) -> bool:
        return self._is_complete(run.path(self.name))

    def write(self, run: Run, folder: Path) -> None:
        self.ran.append(self.name)
        self._run(folder)
        (folder / "artefact").write_text(f"{self.name} {self._settings}")


class Log:
    """Runs stages in a folder, and remembers which really ran and what was announced."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = CONFIG.model_copy(update={"runs": str(folder.parent), "name": folder.name})
        self.ran: list[str] = []
        self.lines: list[str] = []

    def run(self, *stages: Noted) -> list[str]:
        """Returns the names of the stages that ran this time."""
        self.ran.clear()
        for stage in stages:
            stage.ran = self.ran
        runner = StageRunner(Run(self.config), stages, self.lines.append)
        runner.run(until=stages[-1].name)
        return list(self.ran)

    def artefact(self, name: str) -> str:
        return (self.folder / name / "artefact").read_text()


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "deep" / "run")


def test_stages_unchanged_are_skipped(log: Log):
    stages = [Noted("a"), Noted("b", needs=("a",))]
    assert log.run(*stages) == ["a", "b"]
    assert log.run(*stages) == []
    assert log.lines[-2:] == ["[1/2] a: unchanged", "[2/2] b: unchanged"]


@pytest.mark.parametrize(
    ("changed", "expected"), [("a", ["a", "b"]), ("b", ["b"]), ("c", ["c"]), ("", [])]
)
def test_stages_after_changed_settings_rerun_with_what_needs_them(
    log: Log, changed: str, expected: list[str]
):
    def stages(changed: str) -> list[Noted]:
        settings = {name: 2 if name == changed else 1 for name in "abc"}
        return [
            Noted("a", settings=settings["a"]),
            Noted("b", needs=("a",), settings=settings["b"]),
            Noted("c", settings=settings["c"]),  # needs nothing, so only its own change counts
        ]

    log.run(*stages(""))
    assert log.run(*stages(changed)) == expected
    for name in expected:
        assert log.artefact(name) == f"{name} {2 if name == changed else 1}"


def test_stage_whose_artefact_was_deleted_reruns(log: Log):
    log.run(Noted("a"))
    (log.folder / "a" / "stage.json").unlink()
    assert log.run(Noted("a")) == ["a"]


def test_stage_that_is_not_complete_reruns(log: Log):
    complete = Noted("a", is_complete=lambda folder: (folder / "artefact").is_file())
    log.run(complete)
    assert log.run(complete) == []
    (log.folder / "a" / "artefact").unlink()
    assert log.run(complete) == ["a"]
    assert log.artefact("a") == "a 1"


def test_artefact_holds_configuration_and_fingerprint_and_no_traces_of_work(log: Log):
    seen: list[str] = []

    def run(folder: Path) -> None:
        seen.append((folder / "fingerprint").read_text())
        (folder / CHECKPOINTS / "step").write_text("3")

    log.run(Noted("a", run=run))
    folder = log.folder / "a"
    assert {path.name for path in folder.iterdir()} == {"artefact", "config.yaml", "stage.json"}
    assert (folder / "config.yaml").read_text() == log.config.to_yaml()
    facts = json.loads((folder / "stage.json").read_text())
    assert (facts["stage"], facts["fingerprint"]) == ("a", seen[0])
    assert {path.name for path in log.folder.iterdir()} == {"a", ".lock"}


# Failures


def break_after_checkpoint(folder: Path) -> None:
    """Fails once: the second time it finds the checkpoint of the first."""
    step = folder / CHECKPOINTS / "step"
    if not step.exists():
        step.write_text("3")
        raise RuntimeError("out of luck")


def test_exception_leaves_old_artefact_in_place(log: Log):
    log.run(Noted("a"))
    with pytest.raises(RuntimeError, match="out of luck"):
        log.run(Noted("a", settings=2, run=break_after_checkpoint))
    assert log.artefact("a") == "a 1"
    assert log.run(Noted("a")) == []  # the old settings still find it


def test_exception_stops_the_stages_behind(log: Log):
    with pytest.raises(RuntimeError, match="out of luck"):
        log.run(Noted("a", run=break_after_checkpoint), Noted("b", needs=("a",)))
    assert log.ran == ["a"]


def test_partial_folder_of_same_fingerprint_is_resumed(log: Log):
    stage = Noted("a", run=break_after_checkpoint)
    with pytest.raises(RuntimeError, match="out of luck"):
        log.run(stage)
    assert log.run(stage) == ["a"]  # succeeds only where the checkpoint was kept
    assert "[1/1] a: resuming" in log.lines
    assert log.artefact("a") == "a 1"


def test_partial_folder_of_other_fingerprint_is_wiped(log: Log):
    with pytest.raises(RuntimeError, match="out of luck"):
        log.run(Noted("a", run=break_after_checkpoint))
    with pytest.raises(RuntimeError, match="out of luck"):  # again: its checkpoint is gone
        log.run(Noted("a", settings=2, run=break_after_checkpoint))
    assert "[1/1] a: resuming" not in log.lines


def test_partial_folder_without_fingerprint_is_wiped(log: Log):
    """As a kill between the making of the folder and the writing of the fingerprint leaves it."""
    (log.folder / ".a.partial" / "stale").mkdir(parents=True)
    log.run(Noted("a"))
    assert not (log.folder / "a" / "stale").exists()


# Processes

WORKER = """
import sys, time
from tfrec.config import parse_config
from tfrec.pipeline.run import Run
from tfrec.pipeline.stage import CHECKPOINTS, Stage, StageRunner
class Slow(Stage):
    name = "a"
    def write(self, run, folder):
        step = folder / CHECKPOINTS / "step"
        (folder / "artefact").write_text("resumed" if step.exists() else "half")
        if not step.exists():
            step.write_text("3")
            print("working", flush=True)
            time.sleep(60)
config = parse_config({"name": "run", "runs": sys.argv[1], "data": {"source": "shop"}})
StageRunner(Run(config), [Slow()], lambda line: print(line, flush=True)).run("a")
"""


@pytest.fixture
def worker(tmp_path: Path):
    """Starts a process that is in the middle of stage ``a``; a second one would finish it."""
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)


def wait_until_working(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "[1/1] a: running\n"
    assert process.stdout.readline() == "working\n"


def test_kill_in_the_middle_then_run_again_gives_the_artefact(worker, tmp_path: Path):
    first = worker()
    wait_until_working(first)
    os.kill(first.pid, signal.SIGKILL)
    first.wait(timeout=10)
    assert not (tmp_path / "run" / "a").exists()  # nothing half done is published

    second = worker()
    output, _ = second.communicate(timeout=30)
    assert second.returncode == 0
    assert "[1/1] a: resuming" in output
    assert (tmp_path / "run" / "a" / "artefact").read_text() == "resumed"


def test_second_process_on_the_same_run_is_refused_at_once(worker, tmp_path: Path):
    wait_until_working(worker())
    folder = tmp_path / "run"
    start = time.monotonic()
    with pytest.raises(ArtefactError) as caught:
        Log(folder).run(Noted("a"))
    assert time.monotonic() - start < 1
    assert str(caught.value).startswith(f"{folder}: another tfrec process works on this run")
    Log(tmp_path / "other").run(Noted("a"))  # another run is free


# Files


def test_file_stamps_change_with_the_file_and_name_missing_ones(tmp_path: Path):
    file, missing = tmp_path / "a", tmp_path / "b"
    file.write_text("12345")
    os.utime(file, ns=(5, 7))
    assert file_stamps([file, missing]) == [[str(file), 5, 7], [str(missing), None, None]]
    os.utime(file, ns=(5, 8))
    assert file_stamps([file])[0][2] == 8
