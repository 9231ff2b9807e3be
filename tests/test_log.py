"""The log: on the terminal for commands, in a file for runs, nowhere for a library."""

import logging
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tfrec import log, progress
from tfrec.progress import progress_bar

TABLES_ONLY = Path(__file__).parents[1] / "configs" / "tabular_mlp.yaml"
STAMPED = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING|ERROR) +(.*)")


@pytest.fixture(autouse=True)
def hidden():
    """Every test finds and leaves the logger as the import does."""
    log.hide()
    yield
    log.hide()
    assert (log.LOGGER.level, log.LOGGER.propagate) == (logging.NOTSET, True)
    # pytest's own handlers, which it puts on loggers that do not propagate, may be there.
    ours = (log._Terminal, logging.FileHandler)
    assert [handler for handler in log.LOGGER.handlers if isinstance(handler, ours)] == []


def test_shown_lines_are_plain_and_printed_once(capsys: pytest.CaptureFixture[str]):
    log.show()
    log.show()
    log.tell("[1/2] prepare: 100% done")
    log.LOGGER.warning("look at %s", "this")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("[1/2] prepare: 100% done\nlook at this\n", "")


def test_lines_of_a_library_are_not_printed(capsys: pytest.CaptureFixture[str]):
    log.tell("not for the terminal")
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_recorded_lines_have_time_and_level_and_are_appended(tmp_path: Path):
    path = tmp_path / "shop" / "run.log"
    with log.record(path):
        log.tell("first")
    log.tell("between")
    with log.record(path):
        log.LOGGER.warning("second")
    lines = [STAMPED.fullmatch(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [line and line.groups() for line in lines] == [("INFO", "first"), ("WARNING", "second")]


def test_record_says_what_ended_a_run_early_and_lets_it_pass(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    log.show()
    with pytest.raises(ValueError, match="no such row"), log.record(tmp_path / "run.log"):
        raise ValueError("no such row")
    found = STAMPED.fullmatch((tmp_path / "run.log").read_text(encoding="utf-8").strip())
    assert found
    assert found.groups() == ("ERROR", "stopped by ValueError('no such row')")
    assert capsys.readouterr().out == ""  # the command says it in its own words


def test_import_adds_no_handler_to_any_logger():
    code = (
        "import logging, tfrec; tfrec.Pipeline; tfrec.load_config\n"
        "print(logging.getLogger().handlers, logging.getLogger('tfrec').handlers)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[] []\n"


def test_progress_off_a_terminal_is_a_line_of_the_log_after_each_interval(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(progress, "_LINE_SECONDS", 0.2)
    log.show()
    for _ in progress_bar(range(10), desc="embedding", unit="block"):
        time.sleep(0.07)
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert captured.err == ""
    assert 2 <= len(lines) <= 4
    assert all(line.startswith("embedding: ") for line in lines)
    assert "10/10" in lines[-1]


def test_progress_off_a_terminal_waits_half_a_minute():
    with progress_bar(total=3) as bar:
        assert (bar.delay, bar.mininterval, bar.maxinterval) == (30.0, 30.0, 30.0)


def test_short_work_off_a_terminal_says_nothing(capsys: pytest.CaptureFixture[str]):
    log.show()
    assert list(progress_bar(range(3), desc="short")) == [0, 1, 2]
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.slow
def test_train_keeps_its_log_and_is_silent_on_the_error_stream(tmp_path: Path):
    settings = [
        f"runs={tmp_path / 'runs'}",
        f"export.folder={tmp_path / 'models'}",
        "data.scale=0.02",
        "ranking.epochs=1",
        "evaluation.bootstrap=0",
        "evaluation.ranking_baselines=[]",
    ]
    options = [part for setting in settings for part in ("--set", setting)]
    command = [sys.executable, "-m", "tfrec", "train", str(TABLES_ONLY), *options]
    first, second = (subprocess.run(command, capture_output=True, text=True) for _ in range(2))
    assert (first.returncode, first.stderr) == (0, "")
    assert (second.returncode, second.stderr) == (0, "")
    path = tmp_path / "runs" / "tabular_mlp" / "run.log"
    text = path.read_text(encoding="utf-8")
    said = [found.group(2) for line in text.splitlines() if (found := STAMPED.fullmatch(line))]
    assert said[0] == "[1/4] prepare: running"
    assert said[-4:] == [line for line in second.stdout.splitlines() if "unchanged" in line]
    printed = first.stdout.splitlines()
    assert [line for line in said[:-4] if line not in printed] == []
