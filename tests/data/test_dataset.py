import json
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tfrec.config import parse_config
from tfrec.data.dataset import PreparedData
from tfrec.data.prepare import prepare
from tfrec.data.sources import RawTables
from tfrec.errors import ArtefactError


@pytest.fixture(scope="module")
def prepared() -> PreparedData:
    """Returns ten events of five users and four items with features of every type."""
    config = parse_config(
        {
            "name": "x",
            "data": {
                "source": "shop",
                "max_history": 3,
                "split": {"validation": 0.2, "test": 0.2},
                "events": {"query": "search", "context": {"device": "category", "hour": "number"}},
                "items": {
                    "features": {
                        "price": {"type": "number", "scale": "log"},
                        "tags": "category_list",
                        "image": "vector",
                    }
                },
                "users": {"features": {"place": {"type": "category", "min_count": 2}}},
            },
        }
    )
    #       time:  0   1   2   3   4   5 | 6   7 | 8   9
    log = pl.DataFrame(
        {
            "user_id": ["u", "v", "u", "w", "u", "v", "x", "u", "y", "v"],
            "item_id": ["a", "b", "b", "a", "a", "a", "c", "c", "d", "c"],
            "time": range(10),
            "search": ["red", "é\x00", "", "red", None, "", "", "", "blue", ""],
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
    tables = RawTables(log, items, users, {"events": "e", "items": "i", "users": "u"})
    return prepare(tables, config)


def test_save_then_load_gives_the_same(prepared: PreparedData, tmp_path: Path):
    prepared.save(tmp_path)
    loaded = PreparedData.load(str(tmp_path))
    for name in ("items", "users", "contexts", "examples"):
        assert_frame_equal(getattr(loaded, name), getattr(prepared, name))
    np.testing.assert_array_equal(loaded.history_items, prepared.history_items)
    assert loaded.history_items.dtype == np.int32
    for name in ("texts", "item_features", "user_features", "context_features", "max_history"):
        assert getattr(loaded, name) == getattr(prepared, name), name
    assert loaded.report == prepared.report
    for name in ("item_inputs", "user_inputs", "context_inputs"):
        before, after = getattr(prepared, name), getattr(loaded, name)
        assert before.keys() == after.keys()
        for key in before:
            np.testing.assert_array_equal(after[key], before[key])


def test_load_of_folder_without_data_is_refused(tmp_path: Path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ArtefactError) as caught:
            PreparedData.load(folder)
        assert str(caught.value) == f"{folder}: holds no prepared data; run `tfrec train`."


def test_load_of_other_format_is_refused(prepared: PreparedData, tmp_path: Path):
    prepared.save(tmp_path)
    meta = json.loads((tmp_path / "prepared.json").read_text())
    (tmp_path / "prepared.json").write_text(json.dumps(meta | {"format_version": 99}))
    with pytest.raises(ArtefactError, match="wanted prepared data of format 1, got 99"):
        PreparedData.load(tmp_path)


def test_report_counts_what_is_there(prepared: PreparedData):
    report = prepared.report
    assert (report["users"], report["items"], report["requests"]) == (5, 4, 10)
    assert report["distinct_texts"] == 3
    # u's second a is no target, so train has 5 targets out of 6 events.
    assert report["targets"] == {"train": 5, "validation": 2, "test": 2}
    assert report["ranked"] == {"train": 6, "validation": 2, "test": 2}
    assert report["first_time"] == str(datetime(1970, 1, 1))
    json.dumps(report)


def test_id_rows_number_only_those_with_training_targets(prepared: PreparedData):
    # Items a and b are targets of training, c and d are not.
    assert prepared.item_id_rows.tolist() == [0, 1, 2, 0, 0]
    # Users in order: v, u, y of the table, then w, x of the log. y and x come later than train.
    assert prepared.users["user_id"].to_list() == ["v", "u", "y", "w", "x"]
    assert prepared.user_id_rows.tolist() == [0, 1, 2, 0, 3, 0]
    assert prepared.item_id_rows.dtype == prepared.user_id_rows.dtype == np.int32


def test_item_counts_are_training_targets(prepared: PreparedData):
    # a: u at 0, w at 3, v at 5; b: v at 1, u at 2.
    assert prepared.item_counts().tolist() == [0, 3, 2, 0, 0]


def test_histories_are_cut_and_padded_in_front(prepared: PreparedData):
    # u chose a, b, a before asking at 7; v chose b, a before 9. a is item 1, b item 2.
    found = prepared.histories(np.array([7, 9, 0, 7]))
    assert found.tolist() == [[1, 2, 1], [0, 2, 1], [0, 0, 0], [1, 2, 1]]
    assert found.dtype == np.int32


def test_histories_and_seen_pairs_of_no_request_are_empty(prepared: PreparedData):
    none = np.array([], np.int64)
    assert prepared.histories(none).shape == (0, 3)
    rows, items = prepared.seen_pairs(none)
    assert (rows.size, items.size) == (0, 0)


def test_inputs_have_a_row_for_the_unknown(prepared: PreparedData):
    assert prepared.num_items == 4
    assert prepared.item_inputs["tags"].tolist() == [[0, 0], [1, 2], [0, 0], [1, 0], [0, 0]]
    assert prepared.item_inputs["image"].tolist() == [[0, 0], [1, 2], [0, 0], [3, 4], [5, 6]]
    assert prepared.item_inputs["price"][:, 1].tolist() == [1, 0, 1, 0, 0]
    assert prepared.user_inputs["place"].tolist() == [0, 1, 1, 0, 0, 0]
    assert prepared.context_inputs["device"].tolist() == [1, 2, 0, *[1] * 7]
    assert len(prepared.context_inputs["hour"]) == 10
