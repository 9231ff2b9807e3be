"""What people's files hold: each kind of bad input, refused, repaired and reported.

Every case is a small healthy data set with one thing spoiled. It is prepared with
``bad_cells: error`` (one line that names the place), with ``bad_cells: repair`` (the same data set
without the bad part, counted) and validated (everything told, nothing raised).
"""

import copy
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.config import Config, parse_config
from tfrec.data.dataset import PreparedData
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading.sources import read_source
from tfrec.data.validation.validate import validate
from tfrec.errors import DataError

NUM_USERS, NUM_ITEMS, NUM_EVENTS = 10, 12, 120
START = 1_735_689_600  # 2025-01-01

DATA: dict[str, Any] = {
    "source": "files",
    "tables": {"events": "events.csv", "items": "items.csv", "users": "users.csv"},
    "events": {"label": "label", "context": {"temperature": "number"}},
    "items": {"features": {"price": "number", "brand": "category"}},
    "users": {"features": {"age": "number"}},
    "split": {"validation": 0.2, "test": 0.2},
}


def healthy_tables() -> dict[str, pl.DataFrame]:
    """Ten users see each of twelve items once, an event every hour; every other one is wanted."""
    events = [
        {
            "user_id": f"u{number % NUM_USERS}",
            "item_id": f"i{(number // NUM_USERS + number) % NUM_ITEMS}",
            "time": START + 3600 * number,
            "label": number // NUM_USERS % 2,
            "temperature": 20.5 + number % 3,
        }
        for number in range(NUM_EVENTS)
    ]
    items = [
        {"item_id": f"i{n}", "title": f"lamp {n}", "price": n + 0.5, "brand": "ab"[n % 2]}
        for n in range(NUM_ITEMS)
    ]
    users = [{"user_id": f"u{n}", "age": 20 + n} for n in range(NUM_USERS)]
    return {
        "events": pl.DataFrame(events),
        "items": pl.DataFrame(items),
        "users": pl.DataFrame(users),
    }


Spoil = Callable[[Path], object]


@dataclass(frozen=True)
class Case:
    """One thing that is wrong.

    Attributes:
        spoil: Changes the files of a folder.
        message: Parts of the line that refuses it; empty where nothing is wrong enough.
        found: Findings by table and column.
        repaired: Changes of the report's counts of cleaning; None where no repair lets it pass.
        stopped: Parts of the line that stops a repair, where it is another.
        data: Other settings.
        lost_events: Events that the repaired data set lacks.
    """

    spoil: Spoil
    message: tuple[str, ...] = ()
    found: dict[str, int] = field(default_factory=dict)
    repaired: dict[str, int] | None = None
    stopped: tuple[str, ...] = ()
    data: dict[str, Any] = field(default_factory=dict)
    lost_events: int = 0


def cell(file: str, column: str, *changes: tuple[int, str]) -> Spoil:
    """Changes cells of a CSV file; row 1 is the first below the header."""

    def spoil(folder: Path) -> None:
        path = folder / file
        lines = [line.split(",") for line in path.read_text().splitlines()]
        at = lines[0].index(column)
        for row, value in changes:
            lines[row][at] = value
        path.write_text("\n".join(",".join(line) for line in lines) + "\n")

    return spoil


def line(file: str, row: int, change: Callable[[str], str]) -> Spoil:
    """Changes a whole line of a file; 0 is the header."""

    def spoil(folder: Path) -> None:
        lines = (folder / file).read_text().splitlines()
        lines[row] = change(lines[row])
        (folder / file).write_text("\n".join(lines) + "\n")

    return spoil


def content(file: str, change: Callable[[bytes], bytes], name: str | None = None) -> Spoil:
    """Changes the bytes of a file, and its name where one is given."""

    def spoil(folder: Path) -> None:
        changed = change((folder / file).read_bytes())
        (folder / (name or file)).write_bytes(changed)
        if name:
            (folder / file).unlink()

    return spoil


def items_with_images(*images: Any) -> Spoil:
    """Puts the catalogue into JSON lines with a vector each; those not given are right."""

    def spoil(folder: Path) -> None:
        rows = healthy_tables()["items"].to_dicts()
        for number, row in enumerate(rows):
            row["image"] = images[number] if number < len(images) else [0.5, 1.0, -2.0]
        (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return spoil


def tables(**files: Any) -> dict[str, Any]:
    return {"tables": DATA["tables"] | files}


IMAGES = tables(items="items.jsonl") | {"items": {"features": {"image": "vector"}}}
DROPPED = "events_that_do_not_fit_dropped"


def _cut_parquet(folder: Path) -> None:
    pl.read_csv(folder / "events.csv").write_parquet(folder / "events.parquet")
    whole = (folder / "events.parquet").read_bytes()
    (folder / "events.parquet").write_bytes(whole[: len(whole) // 2])


def _events_as_json(folder: Path, changes: dict[int, str]) -> None:
    rows = [json.dumps(row) for row in healthy_tables()["events"].to_dicts()]
    for number, text in changes.items():
        rows[number] = text
    (folder / "events.jsonl").write_text("\n".join(rows) + "\n")


_EVENT_OF_TEXTS = json.dumps(
    {key: str(value) for key, value in healthy_tables()["events"].row(2, named=True).items()}
)


def _number_ids(folder: Path) -> None:
    """Users and items become numbers: floats in the log, text in the catalogue."""
    events = healthy_tables()["events"].with_columns(
        pl.col("user_id", "item_id").str.slice(1).cast(pl.Float64)
    )
    events.write_parquet(folder / "events.parquet")
    (folder / "items.csv").write_text(
        "item_id,title,price,brand\n"
        + "".join(f"{n},lamp {n},{n}.5,{'ab'[n % 2]}\n" for n in range(NUM_ITEMS))
    )
    (folder / "users.csv").write_text(
        "user_id,age\n" + "".join(f"{n},{20 + n}\n" for n in range(NUM_USERS))
    )


CASES: dict[str, Case] = {
    # Ids
    "user id missing": Case(
        cell("events.csv", "user_id", (5, ""), (9, "  ")),
        ("events.csv: row 5, column 'user_id': wanted an id, got nothing.",),
        found={"events.user_id": 2},
        repaired={DROPPED: 2},
        lost_events=2,
    ),
    "item id missing": Case(
        cell("events.csv", "item_id", (119, "")),
        ("events.csv: row 119, column 'item_id': wanted an id, got nothing.",),
        found={"events.item_id": 1},
        repaired={DROPPED: 1},
        lost_events=1,
    ),
    "id with control character": Case(
        cell("events.csv", "user_id", (5, "u\x005")),
        ("events.csv: row 5, column 'user_id': wanted an id without control characters",),
        found={"events.user_id": 1},
        repaired={DROPPED: 1},
        lost_events=1,
    ),
    "item unknown": Case(
        cell("events.csv", "item_id", (6, "i99")),
        (
            "events.csv: row 6, column 'item_id': wanted an item of the catalogue, got 'i99'.",
            "data.unknown_items: drop",
        ),
        found={"events.item_id": 1},
    ),
    "item unknown and dropped": Case(
        cell("events.csv", "item_id", (6, "i99"), (7, "i98")),
        data={"unknown_items": "drop"},
        repaired={"events_of_unknown_items_dropped": 2},
        lost_events=2,
    ),
    "item twice": Case(
        cell("items.csv", "item_id", (5, "i0")),
        ("items.csv: row 5, column 'item_id': wanted", "got 'i0'.", "data.items.duplicates"),
        found={"items.item_id": 1, "events.item_id": NUM_EVENTS // NUM_ITEMS},
    ),
    "user twice": Case(
        cell("users.csv", "user_id", (2, "u0"), (3, "u0")),
        ("users.csv: row 2, column 'user_id': wanted", "got 'u0'", "data.users.duplicates"),
        found={"users.user_id": 2},
    ),
    # Times
    "time before 1970": Case(
        cell("events.csv", "time", (3, "-86400")),
        ("events.csv: row 3, column 'time': wanted a time from 1970-01-01", "got '-86400'."),
        found={"events.time": 1},
        repaired={DROPPED: 1},
        lost_events=1,
    ),
    "time in the future": Case(
        cell("events.csv", "time", (3, "4102444800")),
        ("events.csv: row 3, column 'time': wanted a time from 1970-01-01", "got '4102444800'."),
        found={"events.time": 1},
        repaired={DROPPED: 1},
        lost_events=1,
    ),
    "milliseconds declared as seconds": Case(
        cell("events.csv", "time", *((row, f"{(START + row) * 1000}") for row in range(1, 121))),
        ("events.csv: row 1, column 'time': wanted a time from", "(numbers count seconds)"),
        found={"events.time": NUM_EVENTS},
        stopped=("none of the 120 events read can be used",),
    ),
    "time that is none": Case(
        cell("events.csv", "time", (8, "yesterday"), (9, ""), (10, "2025-13-45")),
        ("events.csv: row 8, column 'time': wanted a time (ISO 8601", "got 'yesterday'. (2 more"),
        found={"events.time": 3},
        repaired={DROPPED: 3},
        lost_events=3,
    ),
    # Labels
    "label out of range": Case(
        cell("events.csv", "label", (12, "2"), (13, "-1"), (14, "0.5")),
        ("events.csv: row 12, column 'label': wanted 0 or 1, got '2'. (2 more rows like it)",),
        found={"events.label": 3},
        repaired={DROPPED: 3},
        lost_events=3,
    ),
    "label that is no number": Case(
        cell("events.csv", "label", (12, "nan"), (13, ""), (14, "inf")),
        ("events.csv: row 12, column 'label': wanted 0 or 1, got 'nan'.",),
        found={"events.label": 3},
        repaired={DROPPED: 3},
        lost_events=3,
    ),
    "rating that is no number": Case(
        cell("events.csv", "label", (12, "nan"), (13, "good"), (14, "inf")),
        ("events.csv: row 12, column 'label': wanted a number, got 'nan'.",),
        found={"events.label": 3},
        repaired={DROPPED: 3},
        data={"events": {"label": None, "rating": "label", "positive_rating": 1.0}},
        lost_events=3,
    ),
    # Features
    "number that is none": Case(
        cell("items.csv", "price", (3, "cheap"), (4, "1;5")),
        ("items.csv: row 3, column 'price': wanted a number, got 'cheap'.",),
        found={"items.price": 2},
        repaired={},
    ),
    "number that is infinite": Case(
        cell("events.csv", "temperature", (7, "inf"), (8, "-inf"), (9, "1e999")),
        ("events.csv: row 7, column 'temperature': wanted a finite number, got 'inf'.",),
        found={"events.temperature": 3},
        repaired={},
    ),
    "number that is NaN": Case(
        cell("events.csv", "temperature", (7, "nan"), (8, "NaN"), (9, "")), repaired={}
    ),
    "vectors of two lengths": Case(
        items_with_images([1.0, 2.0], None),
        ("items.jsonl: row 1, column 'image': wanted a vector of 3 numbers, got [1.0, 2.0].",),
        found={"items.image": 1},
        repaired={},
        data=IMAGES,
    ),
    "vector with an unknown number": Case(
        items_with_images([1.0, None, 2.0]),
        ("items.jsonl: row 1, column 'image': wanted a vector of finite numbers",),
        found={"items.image": 1},
        repaired={},
        data=IMAGES,
    ),
    "text of a million characters": Case(
        cell("items.csv", "title", (2, "lamp " * 200_000)), repaired={"texts_cut": 1}
    ),
    # Nothing left
    "no event passes the steps": Case(
        lambda folder: None,
        ("events.csv: the steps leave none of 120 rows",),
        data=tables(events={"path": "events.csv", "steps": [{"where": "label = '7'"}]}),
    ),
    "no event is in the core": Case(
        lambda folder: None,
        ("of 120 events none is left", "Loosen k_core"),
        data={"cleaning": {"k_core": {"users": 1000}}},
    ),
    "no event is in a session": Case(
        lambda folder: None,
        ("of 120 events none is left",),
        data={"cleaning": {"sessions": {"min_events": 50}}},
    ),
    "no item is known": Case(
        cell("items.csv", "item_id", *((n + 1, f"product {n}") for n in range(NUM_ITEMS))),
        ("none of the 120 events read can be used",),
        data={"unknown_items": "drop"},
    ),
    "no test event": Case(
        lambda folder: None,
        ("data.split: no positive event falls into 'test'",),
        data={
            "split": {"validation_from": "2025-01-03T00:00:00", "test_from": "2025-06-01T00:00:00"}
        },
    ),
    "no test user": Case(
        lambda folder: None,
        ("data.split: no positive event falls into",),
        data={"split": {"kind": "users", "validation": 0.001, "test": 0.001}},
    ),
    "nothing wanted": Case(
        cell("events.csv", "label", *((row, "0") for row in range(1, NUM_EVENTS + 1))),
        ("no positive event falls into 'train'",),
    ),
    # Files
    "file missing": Case(
        lambda folder: (folder / "events.csv").rename(folder / "event.csv"),
        ("events.csv: no such file. Did you mean 'event.csv'?",),
    ),
    "file empty": Case(content("events.csv", lambda old: b""), ("events.csv: ", "empty")),
    "file with a header only": Case(
        content("events.csv", lambda old: old.splitlines()[0] + b"\n"), ("events.csv: ", "empty")
    ),
    "column missing": Case(
        line("items.csv", 0, lambda header: header.replace("title", "titel")),
        ("items.csv: column 'title' is missing. Did you mean 'titel'?",),
    ),
    "column twice": Case(
        line("events.csv", 0, lambda header: header.replace("temperature", "label")),
        ("events.csv: ", "'label'"),
    ),
    "delimiter wrong": Case(
        content("events.csv", lambda old: old.replace(b",", b";")),
        ("events.csv: ", "';'"),
    ),
    "gzip cut off": Case(
        content("events.csv", lambda old: gzip.compress(old)[:-30], "events.csv.gz"),
        ("events.csv.gz: ",),
        data=tables(events="events.csv.gz"),
    ),
    "not UTF-8": Case(
        content("items.csv", lambda old: old.replace(b"lamp 3", "lämp 3".encode("latin1"))),
        ("items.csv: ", "UTF-8"),
    ),
    "other encoding than declared": Case(
        content("items.csv", lambda old: old.replace(b"lamp 3", "lämp 3".encode("latin1"))),
        repaired={},
        data=tables(items={"path": "items.csv", "encoding": "latin1"}),
    ),
    "line with too many cells": Case(
        line("events.csv", 4, lambda row: row + ",more,and more"),
        ("events.csv: ", "row 4"),
        repaired={"rows_skipped_of_events: rows with another number of cells": 1},
        lost_events=1,
    ),
    "no Parquet": Case(
        content("events.csv", lambda old: old, "events.parquet"),
        ("events.parquet: ",),
        data=tables(events="events.parquet"),
    ),
    "Parquet cut off": Case(
        lambda folder: _cut_parquet(folder),
        ("events.parquet: ",),
        data=tables(events="events.parquet"),
    ),
    "JSON line broken": Case(
        lambda folder: _events_as_json(folder, {3: '{"user_id": "u1", '}),
        ("events.jsonl: row 4",),
        data=tables(events="events.jsonl"),
    ),
    # Accepted as it is
    "byte order mark and Windows lines": Case(
        content("events.csv", lambda old: b"\xef\xbb\xbf" + old.replace(b"\n", b"\r\n")),
        repaired={},
    ),
    "ids as numbers here and text there": Case(
        lambda folder: _number_ids(folder), repaired={}, data=tables(events="events.parquet")
    ),
    "types mixed in JSON": Case(
        lambda folder: _events_as_json(folder, {2: _EVENT_OF_TEXTS}),
        repaired={},
        data=tables(events="events.jsonl"),
    ),
    "events copied": Case(
        content("events.csv", lambda old: old + old[old.index(b"\n") + 1 :]),
        repaired={"duplicate_events_dropped": NUM_EVENTS},
    ),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, table in healthy_tables().items():
        table.write_csv(tmp_path / f"{name}.csv")
    return tmp_path


def make_config(folder: Path, bad_cells: str, changes: dict[str, Any]) -> Config:
    data = copy.deepcopy(DATA) | {"path": str(folder)}
    for key, value in changes.items():
        data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
    data["cleaning"] = {**data.get("cleaning", {}), "bad_cells": bad_cells}
    return parse_config({"name": "x", "data": data})


def run(folder: Path, bad_cells: str, changes: dict[str, Any]) -> tuple[PreparedData, dict]:
    config = make_config(folder, bad_cells, changes)
    prepared = folder / "prepared"
    prepared.mkdir()
    report = prepare(read_source(config.data, config.seed), config, prepared)
    return PreparedData.load(prepared), report


def check_line(message: str, parts: tuple[str, ...]) -> None:
    for part in parts:
        assert part in message
    assert "\n" not in message


def found_cells(report: dict) -> dict[str, int]:
    counts: dict[str, int] = {}
    for finding in report["findings"]:
        where = f"{finding['table']}.{finding['column']}"
        counts[where] = counts.get(where, 0) + finding["count"]
    return counts


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_refused_with_its_place(case: str, folder: Path):
    spoiled = CASES[case]
    spoiled.spoil(folder)
    if not spoiled.message:
        run(folder, "error", spoiled.data)
        return
    with pytest.raises(DataError) as caught:
        run(folder, "error", spoiled.data)
    check_line(str(caught.value), spoiled.message)


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_repaired_and_counted(case: str, folder: Path):
    spoiled = CASES[case]
    spoiled.spoil(folder)
    if spoiled.repaired is None:
        with pytest.raises(DataError) as caught:
            run(folder, "repair", spoiled.data)
        check_line(str(caught.value), spoiled.stopped or spoiled.message)
        return
    data, report = run(folder, "repair", spoiled.data)
    assert found_cells(report) == spoiled.found
    changed = {step: count for step, count in report["cleaning"].items() if count}
    assert changed == spoiled.repaired
    kept = NUM_EVENTS - spoiled.lost_events
    assert report["rows"]["events"]["kept"] == data.examples.height == kept
    for inputs in (data.item_inputs, data.user_inputs, data.context_inputs):
        assert all(np.isfinite(values).all() for values in inputs.values())


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_reported_by_validation(case: str, folder: Path):
    spoiled = CASES[case]
    spoiled.spoil(folder)
    report = validate(make_config(folder, "error", spoiled.data))
    json.dumps(report, allow_nan=False)
    assert report["ok"] == (not spoiled.message)
    assert found_cells(report) == spoiled.found
    if spoiled.message and not spoiled.found:
        assert report["errors"]
        check_line(report["errors"][0], spoiled.message)


def test_healthy_input_passes_as_it_is(folder: Path):
    data, report = run(folder, "error", {})
    assert report["findings"] == []
    assert data.examples.height == NUM_EVENTS
    assert validate(make_config(folder, "error", {}))["ok"]
