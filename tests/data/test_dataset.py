import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tfrec.data.dataset import PreparedData
from tfrec.errors import ArtefactError


@pytest.fixture
def prepared(prepare_tables: Callable) -> Any:
    """Returns ten events of five users and four items with features of every type."""
    #       time:  0   1   2   3   4   5 | 6   7 | 8   9
    log = pl.DataFrame(
        {
            "user_id": ["u", "v", "u", "w", "u", "v", "x", "u", "y", "v"],
            "item_id": ["a", "b", "b", "a", "a", "a", "c", "c", "d", "c"],
            "time": range(10),
            "search": ["red", "é", "", "red", None, "", "", "", "blue", ""],
            "device": ["p", "q", None, "p", "p", "p", "p", "p", "p", "p"],
            "hour": [1.0, None, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0],
        }
    )
    items = pl.DataFrame(
        {
            "item_id": ["a", "b", "c", "d"],
            "title": ["A &amp; a", "B", "C", None],
            "price": [1.0, None, 3.0, 4.0],
            "tags": ["x|y", "", "x", None],
            "image": [[1.0, 2.0], None, [3.0, 4.0], [5.0, 6.0]],
        }
    )
    users = pl.DataFrame({"user_id": ["v", "u", "y"], "place": ["n", "n", "s"]})
    return prepare_tables(
        {"events": log, "items": items, "users": users},
        max_history=3,
        events={"query": "search", "context": {"device": "category", "hour": "number"}},
        items={
            "features": {
                "price": {"type": "number", "scale": "log"},
                "tags": "category_list",
                "image": "vector",
            }
        },
        users={"features": {"place": {"type": "category", "min_count": 2}}},
    )


@pytest.fixture
def data(prepared: Any) -> PreparedData:
    return prepared.data


@pytest.fixture
def of_request(data: PreparedData) -> dict[int, int]:
    """Returns the row of `contexts` of each time: requests stand by user, then by time."""
    seconds = data.contexts["time"].dt.epoch("s").to_list()
    return {second: row for row, second in enumerate(seconds)}


# Loading


def test_loaded_columns_have_the_promised_types(data: PreparedData):
    assert data.contexts.schema == {
        "user_index": pl.Int32,
        "time": pl.Datetime("us"),
        "text_index": pl.Int32,
        "query": pl.String,
        "device": pl.String,
        "hour": pl.Float64,
        "split": pl.Int8,
        "history_start": pl.Int64,
        "history_end": pl.Int64,
    }
    assert data.examples.schema == {
        "context": pl.Int32,
        "item_index": pl.Int32,
        "label": pl.Int8,
        "weight": pl.Float32,
        "position": pl.Int16,
        "is_target": pl.Boolean,
        "is_ranked": pl.Boolean,
        "watch_time": pl.Float32,
        "true_probability": pl.Float32,
    }
    assert data.items.columns == ["item_id", "title", "text", "price", "tags", "image"]
    assert data.users.columns == ["user_id", "text", "place"]
    assert data.history_items.dtype == np.int32
    assert data.history_times is not None
    assert data.history_times.dtype == np.int64
    assert data.history_kinds is None  # the log has no kinds
    assert data.event_kinds == []


@pytest.mark.parametrize("name", ["runs", "runs of [a-c]*?", "time=1", "größe"])
def test_folder_may_have_any_name(prepared: Any, tmp_path: Path, name: str):
    """As the names of runs: no character of them is a pattern."""
    folder = tmp_path / name
    shutil.copytree(prepared.folder, folder)
    before, after = prepared.data, PreparedData.load(str(folder))
    for table in ("items", "users", "contexts", "examples"):
        assert_frame_equal(getattr(after, table), getattr(before, table))
    np.testing.assert_array_equal(after.history_items, before.history_items)
    for part in ("texts", "item_features", "user_features", "context_features", "max_history"):
        assert getattr(after, part) == getattr(before, part), part
    assert after.report == before.report == json.loads(json.dumps(prepared.report))
    for inputs in ("item_inputs", "user_inputs", "context_inputs"):
        old, new = getattr(before, inputs), getattr(after, inputs)
        assert old.keys() == new.keys()
        for key in old:
            np.testing.assert_array_equal(new[key], old[key])


def test_load_of_folder_without_data_is_refused(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ArtefactError) as caught:
            PreparedData.load(folder)
        assert str(caught.value) == f"{folder}: holds no prepared data; run `tfrec train`."


@pytest.mark.parametrize("version", [1, 99])
def test_load_of_other_format_is_refused(prepared: Any, version: int):
    meta = json.loads((prepared.folder / "prepared.json").read_text())
    (prepared.folder / "prepared.json").write_text(json.dumps(meta | {"format_version": version}))
    expected = f"wanted prepared data of format 5, got {version}; prepare it again"
    with pytest.raises(ArtefactError, match=expected):
        PreparedData.load(prepared.folder)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _of_other_data(path: Path) -> None:
    """A part that is whole, but of another preparation."""
    pl.read_parquet(path).head(3).write_parquet(path)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        *((name, Path.unlink) for name in ("items.parquet", "users.parquet", "texts.parquet")),
        ("history_items.npy", Path.unlink),
        ("contexts/part-00000.parquet", Path.unlink),
        ("examples/part-00000.parquet", Path.unlink),
        ("contexts", shutil.rmtree),
        ("contexts/part-00000.parquet", _cut),
        ("items.parquet", _cut),
        ("history_items.npy", _cut),
        ("history_items.npy", lambda path: path.write_bytes(b"")),
        ("history_times.npy", Path.unlink),
        ("history_times.npy", lambda path: np.save(path, np.load(path)[1:])),
        ("contexts/part-00000.parquet", _of_other_data),
        ("examples/part-00000.parquet", _of_other_data),
    ],
)
def test_load_of_damaged_data_is_refused(prepared: Any, name: str, spoil: Callable):
    spoil(prepared.folder / name)
    with pytest.raises(ArtefactError) as caught:
        PreparedData.load(prepared.folder)
    assert str(caught.value).startswith(f"{prepared.folder}: the prepared data are damaged (")
    assert str(caught.value).endswith("; prepare them again.")
    assert "\n" not in str(caught.value)


def test_load_without_one_of_several_parts_is_refused(prepare_tables: Callable):
    rows = [(f"u{n}", f"i{n % 7}", n) for n in range(60)]
    log = pl.DataFrame(rows, schema=["user_id", "item_id", "time"], orient="row")
    prepared = prepare_tables({"events": log}, shard_rows=20)
    parts = sorted((prepared.folder / "examples").iterdir())
    assert len(parts) == 3
    parts[-1].unlink()
    with pytest.raises(ArtefactError, match="examples: wanted 60 rows, got "):
        PreparedData.load(prepared.folder)


# What it answers


def test_report_counts_what_is_there(data: PreparedData):
    report: Any = data.report
    assert report["rows"] == {"events": {"read": 10, "kept": 10}, "items": 4, "users": 5}
    assert report["distinct_texts"] == 3
    split = report["split"]
    # u's second a is no target, so train has 5 targets out of 6 events.
    assert split["targets"] == {"train": 5, "validation": 2, "test": 2}
    assert split["ranked"] == {"train": 6, "validation": 2, "test": 2}
    assert split["requests"] == {"train": 6, "validation": 2, "test": 2}
    assert split["positive_rate"] == {"train": 1.0, "validation": 1.0, "test": 1.0}
    assert split["first_time"] == {
        "train": "1970-01-01T00:00:00",
        "validation": "1970-01-01T00:00:06",
        "test": "1970-01-01T00:00:08",
    }
    assert split["last_time"]["test"] == "1970-01-01T00:00:09"
    # Positives of u, v, w, x, y: 4, 3, 1, 1, 1. Without history: the first of each, all but two
    # of them in train: x's in validation, y's in test.
    assert report["histories"] == {
        "users": 5,
        "users_with_short_history": 5,
        "users_without_positive": 0,
        "median_positives": 1.0,
        "requests_without_history": {"train": 3, "validation": 1, "test": 1},
    }
    assert report["warnings"] == []


def test_id_rows_number_only_those_with_training_targets(data: PreparedData):
    # Items a and b are targets of training, c and d are not.
    assert data.item_id_rows.tolist() == [0, 1, 2, 0, 0]
    # Users in order: v, u, y of the table, then w, x of the log. y and x come later than train.
    assert data.users["user_id"].to_list() == ["v", "u", "y", "w", "x"]
    assert data.user_id_rows.tolist() == [0, 1, 2, 0, 3, 0]
    assert data.item_id_rows.dtype == data.user_id_rows.dtype == np.int32


def test_item_counts_are_training_targets(data: PreparedData):
    # a: u at 0, w at 3, v at 5; b: v at 1, u at 2.
    assert data.item_counts().tolist() == [0, 3, 2, 0, 0]


def test_train_texts_are_those_of_training_requests(data: PreparedData):
    assert sorted(data.train_texts()) == ["red", "é"]


def test_histories_are_cut_and_padded_in_front(data: PreparedData, of_request: dict[int, int]):
    # u chose a, b, a before asking at 7; v chose b, a before 9. a is item 1, b item 2.
    found = data.histories(np.array([of_request[second] for second in (7, 9, 0, 7)]))
    assert found.tolist() == [[1, 2, 1], [0, 2, 1], [0, 0, 0], [1, 2, 1]]
    assert found.dtype == np.int32


def test_events_of_histories_have_their_times(data: PreparedData, of_request: dict[int, int]):
    contexts = np.array([of_request[second] for second in (7, 9, 0)])
    found = data.history_events(contexts)
    assert found.items.tolist() == data.histories(contexts).tolist()
    # u chose a, b, a at 0, 2 and 4 seconds, v chose b, a at 1 and 5.
    assert found.times.tolist() == [[0, 2_000_000, 4_000_000], [0, 1_000_000, 5_000_000], [0, 0, 0]]
    assert not found.kinds.any()
    assert [values.dtype.name for values in (found.items, found.kinds, found.times)] == [
        "int32", "int32", "int64",
    ]  # fmt: skip
    assert data.request_times(contexts).tolist() == [7_000_000, 9_000_000, 0]


@pytest.fixture
def with_kinds(prepare_tables: Callable) -> Callable:
    """Returns what prepares a log of ten people, of whom u0 does more, in shards."""

    def run(**events: Any) -> PreparedData:
        rows = [(f"u{n}", "b", n, "click") for n in range(10)]
        rows += [("u0", "a", 1, "click"), ("u0", "c", 2, "look"), ("u0", "a", 3, "buy")]
        rows += [("u0", "d", 4, "look"), ("u0", "c", 5, "click"), ("u0", "a", 9, "buy")]
        log = pl.DataFrame(rows, schema=["user_id", "item_id", "time", "kind"], orient="row")
        kinds = {"look": {"label": 0}, "click": {"label": 1}, "buy": {"label": 1}}
        declared = {"kind": "kind", "kinds": kinds, **events}
        split = {"kind": "user_ratio", "validation": 0.2, "test": 0.2}
        return prepare_tables({"events": log}, shard_rows=3, events=declared, split=split).data

    return run


def test_events_of_histories_have_the_kinds_that_requests_know(with_kinds: Callable):
    data = with_kinds()
    assert data.event_kinds == ["look", "click", "buy"]
    user = data.users["user_id"].index_of("u0") + 1
    rows = np.flatnonzero(data.contexts["user_index"].to_numpy() == user)
    ids = ["", *data.items["item_id"]]
    found = data.history_events(rows)
    histories = [
        [(ids[item], kind) for item, kind in zip(*event, strict=True) if item]
        for event in zip(found.items.tolist(), found.kinds.tolist(), strict=True)
    ]
    # The purchase of a at 3 is known from the request at 4 on.
    click_b, click_a, bought_a, click_c = ("b", 2), ("a", 2), ("a", 3), ("c", 2)
    assert histories == [
        [], [click_b], [click_b, click_a], [click_b, click_a], [click_b, bought_a],
        [click_b, bought_a], [click_b, bought_a, click_c],
    ]  # fmt: skip
    assert found.times[-1, -3:].tolist() == [0, 1_000_000, 5_000_000]
    assert data.history_kinds is not None
    assert data.history_kinds.dtype == np.int16


def test_log_without_times_says_so(with_kinds: Callable):
    data = with_kinds(time=None)
    rows = np.arange(data.contexts.height)
    assert data.history_times is None
    assert not data.request_times(rows).any()
    assert not data.history_events(rows).times.any()
    assert data.history_events(rows).kinds.any()


def test_seen_pairs_are_full_histories(data: PreparedData, of_request: dict[int, int]):
    rows, items = data.seen_pairs(np.array([of_request[second] for second in (9, 0, 7)]))
    assert rows.tolist() == [0, 0, 2, 2, 2]
    assert items.tolist() == [2, 1, 1, 2, 1]


def test_histories_and_seen_pairs_of_no_request_are_empty(data: PreparedData):
    none = np.array([], np.int64)
    assert data.histories(none).shape == (0, 3)
    rows, items = data.seen_pairs(none)
    assert (rows.size, items.size) == (0, 0)


def test_inputs_have_a_row_for_the_unknown(data: PreparedData, of_request: dict[int, int]):
    assert data.num_items == 4
    assert data.item_inputs["tags"].tolist() == [[0, 0], [1, 2], [0, 0], [1, 0], [0, 0]]
    assert data.item_inputs["image"].tolist() == [[0, 0], [1, 2], [0, 0], [3, 4], [5, 6]]
    assert data.item_inputs["price"][:, 1].tolist() == [1, 0, 1, 0, 0]
    assert data.user_inputs["place"].tolist() == [0, 1, 1, 0, 0, 0]
    devices = data.context_inputs["device"]
    assert [devices[of_request[second]] for second in range(10)] == [1, 2, 0, *[1] * 7]
    assert len(data.context_inputs["hour"]) == 10
