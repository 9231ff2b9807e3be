"""Validation reads everything, tells everything, keeps nothing."""

import json
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tfrec.config import Config, parse_config
from tfrec.data.dataset import PreparedData
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading.sources import read_source
from tfrec.data.validation.validate import validate, validate_tables
from tfrec.schema import SPLITS

START = 1_735_689_600  # 2025-01-01
HOUR = 3600


def write_tables(folder: Path, num_events: int = 400) -> None:
    draw = random.Random(3)
    events = [
        {
            "user": f"u{draw.randrange(20)}",
            "item": f"i{draw.randrange(30)}",
            "when": START + HOUR * number,
            "clicked": int(draw.random() < 0.4),
            "device": draw.choice(["phone", "desk"]),
        }
        for number in range(num_events)
    ]
    items = [{"id": f"i{n}", "title": f"lamp number {n}", "price": n + 1.5} for n in range(30)]
    pl.DataFrame(events).write_csv(folder / "events.csv")
    pl.DataFrame(items).write_csv(folder / "items.csv")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tables(tmp_path)
    return tmp_path


def config(folder: Path, **data: Any) -> Config:
    declared: dict[str, Any] = {
        "source": "files",
        "path": str(folder),
        "tables": {"events": "events.csv", "items": "items.csv"},
        "events": {
            "user_id": "user",
            "item_id": "item",
            "time": "when",
            "label": "clicked",
            "context": {"device": "category"},
        },
        "items": {"item_id": "id", "features": {"price": "number"}},
    }
    return parse_config({"name": "x", "data": declared | data})


def spoil(path: Path, *changes: tuple[int, int, str]) -> None:
    lines = [line.split(",") for line in path.read_text().splitlines()]
    for row, column, value in changes:
        lines[row][column] = value
    path.write_text("\n".join(",".join(line) for line in lines) + "\n")


def test_valid_data_have_the_report_of_their_preparation(folder: Path):
    report = validate(config(folder))
    assert report["ok"]
    assert (report["errors"], report["findings"], report["refused"]) == ([], [], 0)
    prepared = folder / "prepared"
    prepared.mkdir()
    raw = read_source(config(folder).data, 42)
    expected = prepare(raw, config(folder), prepared)
    for part in ("rows", "cleaning", "split", "histories", "leaks", "features"):
        assert report[part] == expected[part], part


def test_validation_leaves_nothing_behind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    before = sorted(path.name for path in folder.iterdir())
    validate(config(folder))
    spoil(folder / "events.csv", (3, 0, ""))
    validate(config(folder))
    (folder / "events.csv").write_text("nothing\n")
    validate(config(folder))
    assert list(scratch.iterdir()) == []
    assert sorted(path.name for path in folder.iterdir()) == before


def test_all_problems_of_all_tables_are_told_at_once(folder: Path):
    spoil(folder / "events.csv", (3, 0, ""), (5, 2, "soon"), (9, 2, "soon"), (7, 3, "5"))
    spoil(folder / "items.csv", (2, 2, "cheap"))
    report = validate(config(folder))
    found = {
        (finding["table"], finding["column"]): (
            finding["count"],
            [place["row"] for place in finding["places"]],
        )
        for finding in report["findings"]
    }
    assert found == {
        ("items", "price"): (1, [2]),
        ("events", "user"): (1, [3]),
        ("events", "when"): (2, [5, 9]),
        ("events", "clicked"): (1, [7]),
    }
    assert (report["ok"], report["refused"], report["errors"]) == (False, 4, [])
    assert report["rows"]["events"] == {"read": 400, "kept": 396}
    assert report["split"]["targets"]["test"] > 0


def test_what_repair_lets_pass_is_valid_with_repair(folder: Path):
    spoil(folder / "events.csv", (3, 0, ""))
    report = validate(config(folder, cleaning={"bad_cells": "repair"}))
    assert (report["ok"], report["refused"]) == (True, 0)
    assert [finding["count"] for finding in report["findings"]] == [1]


def test_what_no_repair_lets_pass_is_not_valid_with_repair(folder: Path):
    spoil(folder / "events.csv", (3, 1, "unheard of"))
    report = validate(config(folder, cleaning={"bad_cells": "repair"}))
    assert (report["ok"], report["refused"]) == (False, 1)
    assert report["findings"][0]["is_refused"]


def test_missing_column_is_an_error_and_keeps_what_was_read_before(folder: Path):
    path = folder / "events.csv"
    path.write_text(path.read_text().replace("clicked", "klicked", 1))
    spoil(folder / "items.csv", (2, 2, "cheap"))
    report = validate(config(folder))
    assert not report["ok"]
    (error,) = report["errors"]
    assert "column 'clicked' is missing. Did you mean 'klicked'?" in error
    assert [finding["column"] for finding in report["findings"]] == ["price"]


def test_missing_file_is_an_error(folder: Path):
    (folder / "items.csv").unlink()
    report = validate(config(folder))
    assert not report["ok"]
    assert "items.csv: no such file" in report["errors"][0]


def test_values_of_hidden_columns_are_in_no_part_of_the_report(folder: Path):
    path = folder / "events.csv"
    lines = path.read_text().splitlines()
    lines = [
        lines[0] + ",phone_number",
        *(f"{line},secret-{n}" for n, line in enumerate(lines[1:])),
    ]
    path.write_text("\n".join(lines) + "\n")
    report = validate(config(folder, privacy={"never_write": ["phone_number"]}))
    assert report["ok"]
    assert "secret" not in json.dumps(report)


def test_pseudonyms_stand_for_users_in_every_part_of_the_report(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MY_KEY", "k" * 32)
    path = folder / "events.csv"
    path.write_text(path.read_text().replace("u1", "anna-"))
    spoil(path, (3, 0, "anna\x01"))
    report = validate(config(folder, privacy={"pseudonym_key": "MY_KEY"}))
    assert report["findings"][0]["column"] == "user"
    assert "anna" not in json.dumps(report)


def test_columns_that_the_log_does_not_have_are_not_shown(folder: Path):
    columns = validate(config(folder))["columns"]["events"]
    assert set(columns) == {
        "user_id", "item_id", "time", "label", "is_ranked", "is_target", "device",
    }  # fmt: skip


def test_report_fits_into_strict_json(folder: Path):
    report = validate(config(folder))
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_coverage_counts_what_train_knows(folder: Path):
    chosen = config(folder)
    prepared = folder / "prepared"
    prepared.mkdir()
    raw = read_source(chosen.data, 42)
    prepare(raw, chosen, prepared)
    data = PreparedData.load(prepared)

    trained_items, trained_users, test_users, targets = set(), set(), set(), []
    for example in data.examples.iter_rows(named=True):
        context = data.contexts.row(example["context"], named=True)
        if SPLITS[context["split"]] == "train":
            trained_items.add(example["item_index"])
        elif SPLITS[context["split"]] == "test" and example["is_target"]:
            targets.append(example["item_index"])
    for context in data.contexts.iter_rows(named=True):
        if SPLITS[context["split"]] == "train":
            trained_users.add(context["user_index"])
        elif SPLITS[context["split"]] == "test":
            test_users.add(context["user_index"])
    assert validate_tables(read_source(chosen.data, 42), chosen)["coverage"] == {
        "items": 30,
        "items_trained": len(trained_items),
        "test_targets": len(targets),
        "test_targets_of_untrained_items": sum(item not in trained_items for item in targets),
        "test_users": len(test_users),
        "test_users_trained": len(test_users & trained_users),
    }


def test_coverage_of_split_by_users_warns_about_user_ids(folder: Path):
    chosen = config(folder, split={"kind": "users", "validation": 0.3, "test": 0.3})
    report = validate(chosen)
    assert report["coverage"]["test_users_trained"] == 0
    assert any("user.use_id: false" in warning for warning in report["warnings"])


def test_feature_that_is_the_label_is_noticed(folder: Path):
    path = folder / "events.csv"
    lines = path.read_text().splitlines()
    dwell = ["dwell", *(str(30 * int(line.split(",")[3])) for line in lines[1:])]
    path.write_text("\n".join(f"{a},{b}" for a, b in zip(lines, dwell, strict=True)) + "\n")
    events = config(folder).data.events.model_dump() | {"context": {"dwell": "number"}}
    report = validate(config(folder, events=events))
    assert report["ok"]
    assert any("'dwell': almost tells the label" in warning for warning in report["warnings"])


def test_random_split_says_what_it_does_not_promise(folder: Path):
    report = validate(config(folder, split={"kind": "random"}))
    assert report["ok"]
    assert any("split.kind random" in warning for warning in report["warnings"])


@pytest.mark.parametrize("name", ["movielens", "goodbooks", "mind"])
def test_public_data_are_valid(name: str, data_folder: Path):
    from tfrec.config import load_config

    homes = {"movielens": "ml-100k", "goodbooks": "goodbooks-10k", "mind": "mind-small"}
    path = Path(__file__).parents[3] / "configs" / f"{name}.yaml"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    if not os.path.isdir(data_folder / homes[name]):
        pytest.skip(f"{homes[name]} is not in {data_folder}")
    report = validate(load_config(path, [f"data.path={data_folder / homes[name]}"]))
    assert report["ok"], report["errors"] or report["findings"]
    json.dumps(report, allow_nan=False)
