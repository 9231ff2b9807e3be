"""The files of a preparation: nobody's id in them, the same bytes each time, all or nothing."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.config import load_config, parse_config
from tfrec.data.dataset import PreparedData
from tfrec.data.parsing.privacy import pseudonym
from tfrec.data.preparing.prepare import prepare
from tfrec.data.preparing.writer import PreparedWriter
from tfrec.data.reading.sources import read_source
from tfrec.errors import ArtefactError, DataError

SHOP = Path(__file__).parents[3] / "configs" / "shop.yaml"

# Nobody's id

KEY = "the key of this test, which no file holds"
SECRET = "secret-address"


def person(number: int) -> str:
    return f"person-{number:03d}-id"


def write_log(folder: Path, *changes: tuple[int, int, str]) -> None:
    """Writes 100 events of 25 people, each row with an address; cells may be changed."""
    rows = [
        [person(n * 7 % 25), f"i{n % 9}", str(n), str(n % 3 and 1), f"{SECRET}-{n}", str(n % 5)]
        for n in range(100)
    ]
    for row, column, value in changes:
        rows[row - 1][column] = value
    lines = ["user,item_id,time,label,address,heat", *map(",".join, rows)]
    (folder / "events.csv").write_text("\n".join(lines) + "\n")
    people = [f"{person(n)},{20 + n},{SECRET} {n}" for n in range(20)]
    (folder / "users.csv").write_text("\n".join(["name,age,address", *people]) + "\n")


def private_config(folder: Path, **data: Any) -> Any:
    declared = {
        "source": "files",
        "path": str(folder),
        "tables": {"events": "events.csv", "users": "users.csv"},
        "events": {"user_id": "user", "label": "label", "context": {"heat": "number"}},
        "users": {"user_id": "name", "features": {"age": "number"}},
        "privacy": {"pseudonym_key": "TFREC_TEST_KEY", "never_write": ["address"]},
    }
    return parse_config({"name": "x", "data": declared | data})


def content_of(folder: Path) -> str:
    """Returns all there is in the files of a folder: their bytes, and tables as read."""
    parts = []
    for path in folder.rglob("*"):
        if path.is_file():
            parts.append(path.read_bytes().decode("latin-1"))
            if path.suffix == ".parquet":
                parts.append(str(pl.read_parquet(path, glob=False).to_dict(as_series=False)))
    return "\n".join(parts)


def test_no_file_holds_a_raw_id_or_what_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TFREC_TEST_KEY", KEY)
    write_log(tmp_path, (4, 2, "soon"), (9, 5, "hot"), (12, 0, ""))
    while_working: list[str] = []
    finish = PreparedWriter.finish

    def finish_seen(writer: PreparedWriter, *args: Any) -> Any:
        while_working.append(content_of(tmp_path / "out"))
        return finish(writer, *args)

    monkeypatch.setattr(PreparedWriter, "finish", finish_seen)
    config = private_config(tmp_path, cleaning={"bad_cells": "repair", "k_core": {"users": 2}})
    (tmp_path / "out").mkdir()
    report = prepare(read_source(config.data, config.seed), config, tmp_path / "out")
    assert report["rows"]["events"]["kept"] == 98

    (spilled,) = while_working
    for content in (spilled, content_of(tmp_path / "out"), json.dumps(report)):
        assert "heat" in content  # no secret, so it is found
        for secret in ("person-", SECRET, "address", KEY):
            assert secret not in content
    users = PreparedData.load(tmp_path / "out").users["user_id"].to_list()
    assert users[:20] == [pseudonym(person(n), KEY.encode()) for n in range(20)]
    assert set(users) == {pseudonym(person(n), KEY.encode()) for n in range(25)}


def test_people_meet_their_attributes_under_a_pseudonym(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("TFREC_TEST_KEY", KEY)
    write_log(tmp_path)
    config = private_config(tmp_path)
    (tmp_path / "out").mkdir()
    prepare(read_source(config.data, config.seed), config, tmp_path / "out")
    data = PreparedData.load(tmp_path / "out")
    for n in (0, 7, 24):
        row = data.users["user_id"].index_of(pseudonym(person(n), KEY.encode()))
        asked = data.contexts["user_index"].to_numpy() == row + 1
        assert sorted(data.contexts["time"].dt.epoch("s").filter(pl.Series(asked))) == [
            event for event in range(100) if event * 7 % 25 == n
        ]
        assert data.users["age"][row] == (20 + n if n < 20 else None)


@pytest.mark.parametrize("bad_cells", ["error", "repair"])
@pytest.mark.parametrize(
    "change",
    [
        (5, 0, "person-001-id\x07"),  # an id that does not fit is shown by nobody
        (5, 0, f'"{"person-" * 3}\n"'),
        (5, 2, "soon"),
        (5, 3, "yes"),
        (5, 4, f"{SECRET}\x07"),
        (5, 5, "hot"),
        (5, 1, ""),
    ],
)
def test_no_message_shows_an_id_or_what_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad_cells: str, change: tuple[int, int, str]
):
    monkeypatch.setenv("TFREC_TEST_KEY", KEY)
    write_log(tmp_path, change)
    config = private_config(tmp_path, cleaning={"bad_cells": bad_cells})
    (tmp_path / "out").mkdir()
    told = ""
    try:
        told = json.dumps(prepare(read_source(config.data, 42), config, tmp_path / "out"))
    except DataError as error:
        told = str(error)
    for secret in ("person-", SECRET, KEY):
        assert secret not in told


@pytest.mark.parametrize("duplicates", ["error", "first"])
def test_no_message_shows_who_stands_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, duplicates: str
):
    monkeypatch.setenv("TFREC_TEST_KEY", KEY)
    write_log(tmp_path)
    people = tmp_path / "users.csv"
    people.write_text(people.read_text() + f"{person(3)},99,{SECRET}\n")
    config = private_config(
        tmp_path,
        users={"user_id": "name", "features": {"age": "number"}, "duplicates": duplicates},
    )
    (tmp_path / "out").mkdir()
    try:
        told = json.dumps(prepare(read_source(config.data, 42), config, tmp_path / "out"))
    except DataError as error:
        told = str(error)
        assert "wanted each id once" in told
    assert "person-" not in told
    assert pseudonym(person(3), KEY.encode()) not in told


# The same bytes


WORKER = """
import json, os, signal, sys
import polars as pl
import tfrec.data.preparing.prepare, tfrec.data.preparing.scan, tfrec.data.preparing.writer
import tfrec.data.reading.sources, tfrec.pipeline
from tfrec.config import parse_config

settings = json.loads(sys.argv[1])
tfrec.data.preparing.prepare._SHARD_ROWS = settings["shard_rows"]
tfrec.data.reading.sources.BATCH_ROWS = settings["batch_rows"]

def stop_at(owner, name, call, stop):
    original, calls = getattr(owner, name), []
    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            stop()
        return original(*args, **kwargs)
    setattr(owner, name, counted)

if settings["kill_at"]:
    owner, name, call = settings["kill_at"]
    stop_at(eval(owner), name, call, lambda: os.kill(os.getpid(), signal.SIGKILL))
if settings["max_file_bytes"]:
    import resource
    limit = settings["max_file_bytes"]
    stop = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    stop_at(eval(settings["limit_from"]), "__init__", 1, stop)
config = parse_config(settings["config"])
try:
    tfrec.pipeline.Pipeline(config, announce=print).run("prepare")
except tfrec.errors.TfrecError as error:
    sys.exit("one line: " + str(error))
"""


def start(folder: Path, kill_at: list[Any] | None = None, **settings: Any) -> Any:
    """Prepares a small shop, or `data`, in a process of its own."""
    environ = os.environ | {"POLARS_MAX_THREADS": str(settings.pop("threads", 2))}
    data = load_config(str(SHOP), ["data.scale=0.05"]).data.model_dump(mode="json")
    given = {
        "shard_rows": 6000,
        "batch_rows": 5000,
        "kill_at": kill_at,
        "max_file_bytes": None,
        "limit_from": "tfrec.data.preparing.writer.PreparedWriter",
        "config": {"name": "x", "runs": str(folder), "data": settings.pop("data", data)},
    }
    command = [sys.executable, "-c", WORKER, json.dumps(given | settings)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def log_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with a log of three files, a catalogue and users with gaps."""
    folder = tmp_path_factory.mktemp("log")
    draw = np.random.default_rng(0)
    for part in range(3):
        rows = 4000
        pl.DataFrame(
            {
                "user_id": draw.integers(0, 300, rows),
                "item_id": np.minimum(*draw.integers(0, 200, (2, rows))),
                "time": draw.integers(0, 100_000, rows),
                "label": draw.integers(0, 2, rows),
                "search": draw.choice(["red", "blue", "", "hat &amp; coat"], rows).tolist(),
                "heat": draw.choice([None, 0.1, 0.7, 12.3], rows).tolist(),
                "device": draw.choice([None, "phone", "desk", "telly"], rows).tolist(),
            }
        ).write_parquet(folder / f"events-{part}.parquet")
    pl.DataFrame(
        {
            "item_id": range(190),
            "title": [f"lamp {n % 17}" for n in range(190)],
            "price": draw.choice([None, 1.5, 7.25, 100.1], 190).tolist(),
            "size": draw.choice([None, 3.5, 4.5, 0.3], 190).tolist(),
            "tags": draw.choice(["a|b", "c", "", "b|d"], 190).tolist(),
        }
    ).write_parquet(folder / "items.parquet")
    pl.DataFrame(
        {"user_id": range(100), "age": draw.choice([None, 20, 30, 55], 100).tolist()}
    ).write_parquet(folder / "users.parquet")
    return folder


def data_of(folder: Path) -> dict[str, Any]:
    """Returns a declaration that uses every part of preparation."""
    return {
        "source": "files",
        "path": str(folder),
        "tables": {
            "events": "events-*.parquet",
            "items": "items.parquet",
            "users": "users.parquet",
        },
        "events": {
            "label": "label",
            "query": "search",
            "context": {
                "heat": {"type": "number", "missing": "interpolate"},
                "device": {"type": "category", "missing": "most_frequent"},
            },
        },
        "items": {
            "features": {
                "price": {"type": "number", "missing": "nearest", "clip": "quantile"},
                "size": {"type": "number", "scale": "log"},
                "tags": "category_list",
            }
        },
        "users": {"features": {"age": {"type": "number", "missing": "median"}}},
        "unknown_items": "drop",
        "cleaning": {"k_core": {"users": 3, "items": 20}, "sessions": {"max_events": 50}},
        "split": {"kind": "random", "validation": 0.1, "test": 0.2},
    }


def hashes(run: Path) -> dict[str, str]:
    """Returns a hash of every file of the prepared data set."""
    folder = run / "x" / "prepare"
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        # The stage's own notes hold how long it took, and where.
        if path.is_file() and path.name not in ("stage.json", "config.yaml")
    }


@pytest.mark.parametrize("source", ["files", "shop"])
def test_two_processes_write_the_same_bytes(tmp_path: Path, log_folder: Path, source: str):
    settings: dict[str, Any] = {"data": data_of(log_folder), "shard_rows": 1000}
    settings = settings if source == "files" else {}
    found = []
    for threads in (1, 3):
        result = start(tmp_path / str(threads), threads=threads, **settings)
        assert result.returncode == 0, result.stderr
        found.append(hashes(tmp_path / str(threads)))
    assert found[0] == found[1]
    parts = [name for name in found[0] if name.startswith("contexts/")]
    assert len(parts) >= 4
    kinds = {"history_kinds.npy"} if source == "shop" else set()
    assert {
        "prepared.json", "items.parquet", "users.parquet", "texts.parquet", "history_items.npy",
        "history_times.npy", "removed.parquet", "changes.parquet", *kinds,
    } == {name for name in found[0] if "/" not in name}  # fmt: skip


# All or nothing

MOMENTS = [
    ["tfrec.data.preparing.scan.Spill", "write", 2],
    ["tfrec.data.preparing.prepare", "ShardBuilder", 1],  # all is spilled and cleaned
    ["pl.DataFrame", "write_parquet", 6],  # requests of a shard, but not its examples
    ["tfrec.data.preparing.writer", "_save_parts", 1],
    ["tfrec.data.preparing.writer.json", "dumps", 1],  # all but prepared.json
]


def test_run_killed_at_any_moment_is_finished_by_the_next(tmp_path: Path, log_folder: Path):
    """One run, killed again and again, each time later: what is left over does no harm."""
    settings = {"data": data_of(log_folder), "shard_rows": 1000}
    for moment in MOMENTS:
        killed = start(tmp_path / "killed", moment, **settings)
        assert killed.returncode == -signal.SIGKILL, (moment, killed.stderr)
        assert not (tmp_path / "killed" / "x" / "prepare").exists()
        assert (tmp_path / "killed" / "x" / ".prepare.partial").is_dir()
    # The last run had several parts; with larger shards, the next writes fewer of them.
    settings["shard_rows"] = 4000
    finished = start(tmp_path / "killed", **settings)
    assert finished.returncode == 0, finished.stderr
    assert "[1/1] prepare: resuming" in finished.stdout
    undisturbed = start(tmp_path / "undisturbed", **settings)
    assert undisturbed.returncode == 0
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "undisturbed")
    assert [path.name for path in (tmp_path / "killed" / "x").iterdir() if path.is_dir()] == [
        "prepare"
    ]


def test_shop_killed_while_writing_is_finished_by_the_next(tmp_path: Path):
    killed = start(tmp_path / "killed", ["tfrec.data.preparing.writer.PreparedWriter", "add", 3])
    assert killed.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "killed/x/.prepare.partial/contexts").iterdir())) == 2
    assert not (tmp_path / "killed" / "x" / "prepare").exists()
    for run in ("killed", "undisturbed"):
        assert start(tmp_path / run).returncode == 0
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "undisturbed")


@pytest.mark.parametrize(
    ("limit_from", "max_file_bytes"),
    [
        ("tfrec.data.preparing.spill.Spill", 50_000),  # batches do not fit
        ("tfrec.data.preparing.writer.PreparedWriter", 4_000),  # parts do not fit
    ],
)
def test_disk_that_fills_up_is_told_in_one_line_and_nothing_is_published(
    tmp_path: Path, log_folder: Path, limit_from: str, max_file_bytes: int
):
    settings = {"data": data_of(log_folder), "shard_rows": 1000}
    result = start(tmp_path, limit_from=limit_from, max_file_bytes=max_file_bytes, **settings)
    (line,) = [line for line in result.stderr.splitlines() if "one line:" in line]
    assert line.startswith(f"one line: {tmp_path / 'x' / '.prepare.partial'}")
    assert line.endswith(": cannot be written: File too large.")
    assert result.returncode == 1
    left = {path.name for path in (tmp_path / "x").iterdir()}
    assert left == {".lock", "run.log"}  # space is free again
    assert start(tmp_path, **settings).returncode == 0


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        ("pl.DataFrame", "write_ipc"),
        ("pl.DataFrame", "write_parquet"),
        ("writer", "_save_parts"),
        ("Path", "write_text"),
    ],
)
def test_full_disk_is_told_wherever_it_is_met(
    prepare_tables: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: str, name: str
):
    import tfrec.data.preparing.writer as writer

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, os.strerror(28))

    rows = [(f"u{n}", f"i{n % 3}", n) for n in range(20)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row")
    places = {"pl.DataFrame": pl.DataFrame, "writer": writer, "Path": Path}
    monkeypatch.setattr(places[owner], name, refuse)
    with pytest.raises(ArtefactError, match=r"cannot be written: No space left on device\.$"):
        prepare_tables({"events": log})
    monkeypatch.undo()
    with pytest.raises(ArtefactError, match="holds no prepared data"):
        PreparedData.load(tmp_path / "prepared 0")


def test_folder_of_an_older_preparation_is_written_anew(tmp_path: Path, log_folder: Path):
    """Nothing of the older one stays, not even parts that the new one does not have."""
    folder = tmp_path / "out"
    folder.mkdir()
    config = parse_config({"name": "x", "data": data_of(log_folder)})
    for stale in ("contexts", "examples", "spill"):
        (folder / stale).mkdir()
        pl.DataFrame({"stale": [1]}).write_parquet(folder / stale / "part-00007.parquet")
    (folder / "prepared.json").write_text("{}")
    report = prepare(read_source(config.data, config.seed), config, folder)
    assert PreparedData.load(folder).contexts.height == sum(report["split"]["requests"].values())
    assert not (folder / "spill").exists()
