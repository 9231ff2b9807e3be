"""The verbs about data: what they print, what they write, how they end."""

import datetime
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tfrec import cli

CONFIG = """
name: mine
runs: {folder}/runs
data:
  source: files
  path: {folder}
  tables: {{events: events.csv, items: items.csv}}
  events: {{label: clicked}}
  items: {{features: {{price: number}}}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = random.Random(1)
    start = datetime.datetime(2026, 1, 1)
    times = [(start + datetime.timedelta(hours=hour)).isoformat() for hour in range(300)]
    events = [
        f"u{draw.randrange(9)},i{draw.randrange(20)},{time},{draw.randrange(2)}" for time in times
    ]
    items = [f"i{number},lamp number {number},{number + 0.5}" for number in range(20)]
    (tmp_path / "events.csv").write_text("\n".join(["user_id,item_id,time,clicked", *events]))
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


# validate


def test_validate_of_good_data_shows_them_and_ends_with_0(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(monkeypatch, "validate", folder / "mine.yaml") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("valid: 300 events, 20 items, 9 users")
    text = "\n".join(lines)
    for wanted in ("Columns of events", "Columns of items", "Split: time", "2026-01-01 00:00:00"):
        assert wanted in text
    assert not (folder / "runs").exists()


def test_validate_of_bad_data_names_all_places_and_ends_with_1(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    edit(folder / "events.csv", 5, 2, "yesterday")
    edit(folder / "events.csv", 7, 2, "tomorrow")
    edit(folder / "items.csv", 3, 2, "cheap")
    assert run(monkeypatch, "validate", folder / "mine.yaml") == 1
    text = capsys.readouterr().out
    assert "events, column 'time': wanted a time" in text
    assert f"{folder}/events.csv: row 5: got 'yesterday'" in text
    assert f"{folder}/events.csv: row 7: got 'tomorrow'" in text
    assert f"{folder}/items.csv: row 3: got 'cheap'" in text
    assert text.splitlines()[-1].startswith("not valid: 2 kinds of problems")


def test_validate_of_data_that_stop_the_preparation_says_why(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    edit(folder / "events.csv", 0, 3, "klicked")
    assert run(monkeypatch, "validate", folder / "mine.yaml") == 1
    lines = capsys.readouterr().out.splitlines()
    assert any("error: " in line and "column 'clicked' is missing" in line for line in lines)
    assert lines[-1].startswith("not valid: 1 kind of problems")


def test_validate_takes_settings(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    edit(folder / "events.csv", 5, 2, "yesterday")
    setting = "data.cleaning.bad_cells=repair"
    assert run(monkeypatch, "validate", folder / "mine.yaml", "--set", setting) == 0
    assert "valid: 299 events" in capsys.readouterr().out


def test_validate_prints_nothing_but_json_where_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    edit(folder / "events.csv", 5, 2, "yesterday")
    assert run(monkeypatch, "validate", folder / "mine.yaml", "--json", "-") == 1
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["refused"]) == (False, 1)
    assert report["findings"][0]["places"][0]["row"] == 5


def test_validate_writes_json_beside_the_tables(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = folder / "report.json"
    assert run(monkeypatch, "validate", folder / "mine.yaml", "--json", path) == 0
    assert json.loads(path.read_text())["rows"]["items"] == 20
    assert "Columns of events" in capsys.readouterr().out
    assert not [name for name in folder.iterdir() if name.name.endswith(".partial")]


def test_validate_into_a_missing_folder_ends_with_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = folder / "none" / "report.json"
    assert run(monkeypatch, "validate", folder / "mine.yaml", "--json", path) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_validate_of_a_wrong_configuration_ends_with_2(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    setting = "data.splitt=1"
    assert run(monkeypatch, "validate", folder / "mine.yaml", "--set", setting) == 2
    assert "unknown key 'data.splitt'" in capsys.readouterr().err


def test_validate_needs_no_tensorflow(folder: Path):
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from tfrec.cli import app\n"
        f"result = CliRunner().invoke(app, ['validate', {str(folder / 'mine.yaml')!r}])\n"
        "assert result.exit_code == 0, result.output\n"
        "print([name for name in ('tensorflow', 'keras', 'sklearn') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# prepare


def test_prepare_writes_the_prepared_tables_and_stops(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(monkeypatch, "prepare", folder / "mine.yaml") == 0
    text = capsys.readouterr().out
    assert "Split: time" in text
    assert text.splitlines()[-1] == f"Prepared: {folder}/runs/mine/prepare"
    stages = [path.name for path in (folder / "runs" / "mine").iterdir()]
    assert sorted(name for name in stages if not name.startswith(".")) == ["prepare", "run.log"]
    assert run(monkeypatch, "prepare", folder / "mine.yaml") == 0
    assert "prepare: unchanged" in capsys.readouterr().out


# init


def test_init_prints_a_configuration(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    tables = [folder / "events.csv", folder / "items.csv"]
    assert run(monkeypatch, "init", *tables, "--name", "lamps") == 0
    tree = YAML(typ="safe").load(capsys.readouterr().out)
    assert tree["name"] == "lamps"
    assert tree["data"]["source"] == "files"


def test_init_writes_a_configuration_that_is_valid(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    tables = [folder / "events.csv", folder / "items.csv"]
    path = folder / "guessed.yaml"
    assert run(monkeypatch, "init", *tables, "--output", path) == 0
    assert f"tfrec validate {path}" in capsys.readouterr().out
    assert run(monkeypatch, "validate", path) == 0
    assert "valid: 300 events, 20 items, 9 users" in capsys.readouterr().out


def test_init_keeps_a_file_that_is_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    path = folder / "guessed.yaml"
    path.write_text("name: precious\n")
    assert run(monkeypatch, "init", folder / "events.csv", "--output", path) == 2
    assert "exists already; give --force" in capsys.readouterr().err
    assert path.read_text() == "name: precious\n"
    assert run(monkeypatch, "init", folder / "events.csv", "--output", path, "--force") == 0
    assert "precious" not in path.read_text()


# cross-validate


def test_cross_validate_of_another_split_ends_with_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(monkeypatch, "cross-validate", folder / "mine.yaml") == 2
    message = capsys.readouterr().err
    assert "wanted k_fold" in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("verb", ["init", "validate", "prepare", "cross-validate"])
def test_help_of_verb_explains_it(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert run(monkeypatch, verb, "--help") == 0
    assert len(capsys.readouterr().out.splitlines()) > 10
