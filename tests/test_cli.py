"""The command's answers to bad input: one line, exit code 2, nothing half-written."""

import datetime
import random
from pathlib import Path

import pytest

from tfrec import cli

CONFIG = """
name: mine
runs: {folder}/runs
data:
  source: files
  path: {folder}
  tables: {{events: {{path: events.csv}}, items: {{path: items.csv}}}}
  items: {{features: {{price: number}}}}
export: {{folder: {folder}/saved_models}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = random.Random(1)
    start = datetime.datetime(2026, 1, 1)
    events = [
        f"u{draw.randrange(9)},i{draw.randrange(20)},{start + datetime.timedelta(hours=hour)}"
        for hour in range(300)
    ]
    items = [f"i{number},lamp number {number},{number + 0.5}" for number in range(20)]
    (tmp_path / "events.csv").write_text("\n".join(["user_id,item_id,time", *events]) + "\n")
    (tmp_path / "items.csv").write_text("\n".join(["item_id,title,price", *items]) + "\n")
    (tmp_path / "mine.yaml").write_text(CONFIG.format(folder=tmp_path))
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int | str | None:
    monkeypatch.setattr("sys.argv", ["tfrec", *(str(argument) for argument in arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def edit(path: Path, row: int, column: int, value: str) -> None:
    """Changes a cell; row 1 is the first below the header."""
    lines = path.read_text().splitlines()
    cells = lines[row].split(",")
    cells[column] = value
    lines[row] = ",".join(cells)
    path.write_text("\n".join(lines) + "\n")


BAD_TABLES = {
    "null id": (
        lambda f: edit(f / "events.csv", 4, 0, ""),
        "events.csv: row 4, column 'user_id': wanted an id, got nothing.",
    ),
    "unknown item": (
        lambda f: edit(f / "events.csv", 6, 1, "i99"),
        "events.csv: row 6, column 'item_id': wanted an item of",
    ),
    "bad date": (
        lambda f: edit(f / "events.csv", 8, 2, "yesterday"),
        "events.csv: row 8, column 'time': wanted a time",
    ),
    "bad number": (
        lambda f: edit(f / "items.csv", 3, 2, "cheap"),
        "items.csv: row 3, column 'price': wanted a number, got 'cheap'.",
    ),
    "missing column": (
        lambda f: edit(f / "items.csv", 0, 1, "titel"),
        "items.csv: column 'title' is missing. Did you mean 'titel'?",
    ),
    "empty table": (
        lambda f: (f / "events.csv").write_text("user_id,item_id,time\n"),
        "events.csv: wanted at least one row, the table is empty.",
    ),
    "missing file": (
        lambda f: (f / "events.csv").rename(f / "event.csv"),
        "events.csv: no such file. Did you mean 'event.csv'?",
    ),
    "item twice": (
        lambda f: edit(f / "items.csv", 5, 0, "i0"),
        "items.csv: row 5, column 'item_id': wanted each id once, got 'i0'. Row 1 of ",
    ),
    "too few events": (
        lambda f: (f / "events.csv").write_text("user_id,item_id,time\nu1,i1,2026-01-01\n"),
        "data.split: no positive event falls into",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_train_on_bad_table_names_file_and_row_and_leaves_nothing(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    spoil, wanted = BAD_TABLES[case]
    spoil(folder)
    assert run(monkeypatch, "train", folder / "mine.yaml") == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {folder}/" if case != "too few events" else "error: ")
    assert wanted in message
    assert message.count("\n") == 1
    left = [p for p in (folder / "runs" / "mine").iterdir() if p.name not in (".lock", "run.log")]
    assert left == []
    assert not (folder / "saved_models").exists()


BAD_CONFIGS = {
    "unknown key": ("retreival: {}", "unknown key 'retreival'. Did you mean 'retrieval'?"),
    "wrong type": ("retrieval: {epochs: many}", "retrieval.epochs: input should be a valid"),
    "no YAML": ("text: [1, 2", "line "),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_train_on_bad_config_says_what_is_wrong(
    case: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    text, wanted = BAD_CONFIGS[case]
    path = folder / "mine.yaml"
    path.write_text(path.read_text() + text + "\n")
    assert run(monkeypatch, "train", path) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"error: {path}")
    assert wanted in message
    assert message.count("\n") == 1


def test_train_without_config_file_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(monkeypatch, "train", tmp_path / "none.yaml") == 2
    assert "no such configuration file" in capsys.readouterr().err


def test_recommend_without_model_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(monkeypatch, "recommend", "--model", tmp_path / "none") == 2
    assert "run `tfrec train` first" in capsys.readouterr().err


def test_full_disk_ends_with_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", str(folder / "x"))

    monkeypatch.setattr("tfrec.data.preparing.prepare.Spill.write", fail)
    assert run(monkeypatch, "train", folder / "mine.yaml") == 2
    message = capsys.readouterr().err
    assert "no space left on the disk" in message
    assert message.count("\n") == 1


def test_version_is_that_of_the_package(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith("tfrec 0.")
