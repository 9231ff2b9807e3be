from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tfrec.config import Data
from tfrec.data.reading import sources
from tfrec.data.reading.batch import RawBatch
from tfrec.data.reading.sources import read_source, source_files, table_stamps
from tfrec.errors import DataError
from tfrec.shop import Shop


def join(batches) -> pl.DataFrame:
    return pl.concat([batch.frame for batch in batches])


def rows(batches) -> list[int]:
    return [int(row) for batch in batches for row in batch.rows]


class TestShop:
    DATA = Data(source="shop", scale=0.02, privacy={"never_write": ["age", "device"]})

    def test_tables_are_those_of_the_generator_without_hidden_columns(self):
        raw = read_source(self.DATA, seed=3)
        shop = Shop(0.02, 3)
        events = pl.concat(shop.event_blocks())
        assert_frame_equal(join(raw.read_events()), events.drop("device"))
        assert raw.items
        assert raw.users
        assert raw.relations is None
        assert_frame_equal(join(raw.items), shop.items())
        assert_frame_equal(join(raw.users), shop.users().drop("age"))

    def test_events_can_be_read_again_and_rows_run_on(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(sources, "BATCH_ROWS", 1000)
        raw = read_source(self.DATA.model_copy(update={"scale": 0.5}), seed=0)
        first, second = list(raw.read_events()), list(raw.read_events())
        assert len(first) > 1
        assert rows(first) == list(range(1, join(first).height + 1)) == rows(second)
        assert_frame_equal(join(first), join(second))
        assert {batch.origin for batch in first} == {"generated shop, events"}
        assert {batch.rows.dtype for batch in first} == {np.dtype("int64")}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Returns a folder of files that make all four tables."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "1.csv").write_text("user_id,item_id,zip\nu1,i1,123\nu1,i2,123\n")
    (tmp_path / "log" / "2.csv").write_text("user_id,item_id,zip\nu2,i1,456\n")
    (tmp_path / "items.csv").write_text("item_id,title\ni1,One\ni2,Two\n")
    (tmp_path / "extra.csv").write_text("item_id,year\ni1,1999\n")
    (tmp_path / "users.csv").write_text("user_id,age\nu1,20\n")
    (tmp_path / "graph.tsv").write_text("head\trelation\ttail\ni1\tlike\ti2\n")
    return tmp_path


def declare(folder: Path, **changes) -> Data:
    tables = {
        "events": {"path": "log", "steps": [{"where": "item_id <> 'i2'"}]},
        "items": {
            "path": "items.csv",
            "steps": [{"join": {"table": {"path": "extra.csv"}, "on": ["item_id"]}}],
        },
        "users": "users.csv",
        "relations": "graph.tsv",
        **changes,
    }
    features = {"like": "category_list"} if tables["relations"] else {}
    return Data.model_validate(
        {
            "source": "files",
            "relations": {"features": features},
            "path": str(folder),
            "tables": {name: table for name, table in tables.items() if table},
            "privacy": {"never_write": ["zip"]},
        }
    )


class TestFiles:
    def test_all_tables_are_read(self, folder: Path):
        raw = read_source(declare(folder), seed=0)
        events = list(raw.read_events())
        assert join(events).to_dicts() == [
            {"user_id": "u1", "item_id": "i1"}, {"user_id": "u2", "item_id": "i1"},
        ]  # fmt: skip
        assert rows(events) == [1, 1]
        assert [batch.origin for batch in events] == [
            str(folder / "log" / name) for name in ("1.csv", "2.csv")
        ]
        assert raw.items
        assert join(raw.items).rows() == [("i1", "One", "1999"), ("i2", "Two", None)]
        assert raw.users
        assert join(raw.users).rows() == [("u1", "20")]
        assert raw.relations
        assert join(raw.relations).rows() == [("i1", "like", "i2")]

    def test_tables_that_are_not_declared_are_none(self, folder: Path):
        raw = read_source(declare(folder, items=None, users=None, relations=None), seed=0)
        assert (raw.items, raw.users, raw.relations) == (None, None, None)

    def test_rows_dropped_by_conditions_are_counted_once(self, folder: Path):
        items = {"path": "items.csv", "steps": [{"where": "title = 'One'"}]}
        raw = read_source(declare(folder, items=items), seed=0)
        for _ in range(2):
            list(raw.read_events())
            assert raw.dropped == {
                "events: item_id <> 'i2'": 1, "items: title = 'One'": 1,
            }  # fmt: skip

    def test_missing_events_are_told_at_once(self, folder: Path):
        with pytest.raises(DataError, match=r"lok: no such file\. Did you mean 'log'"):
            read_source(declare(folder, events="lok"), seed=0)

    def test_source_files_lists_every_file_once(self, folder: Path):
        names = ["log/1.csv", "log/2.csv", "items.csv", "extra.csv", "users.csv", "graph.tsv"]
        assert source_files(declare(folder)) == [folder / name for name in names]

    def test_source_files_lists_missing_ones_as_declared(self, folder: Path):
        found = source_files(declare(folder, users=["gone.csv", "*.json"], relations=None))
        assert found[-2:] == [folder / "gone.csv", folder / "*.json"]


class TestTables:
    EVENTS = pl.DataFrame({"user_id": ["u1", "u2"], "item_id": ["i1", "i1"], "zip": [1, 2]})
    DATA = Data(source="tables", privacy={"never_write": ["zip"]})

    def test_frames_become_tables(self):
        items = pl.LazyFrame({"item_id": ["i1"]})
        raw = read_source(self.DATA, 0, {"events": self.EVENTS, "items": items, "users": None})
        for _ in range(2):
            (batch,) = raw.read_events()
            assert isinstance(batch, RawBatch)
            assert_frame_equal(batch.frame, self.EVENTS.drop("zip"))
            assert (batch.origin, batch.rows.tolist()) == ("events", [1, 2])
        assert raw.items
        assert join(raw.items).rows() == [("i1",)]
        assert raw.users is None

    @pytest.mark.parametrize(
        ("frames", "expected"),
        [
            (None, "data.source: tables needs data frames."),
            ({}, "tables: wanted a data frame of events, got none."),
            ({"event": EVENTS},
             "tables: wanted events, items, users, relations, got 'event'. Did you mean 'events'?"),
            ({"events": EVENTS, "items": "items.csv"},
             "items: wanted a data frame of polars, pandas or pyarrow, got builtins.str."),
        ],
    )  # fmt: skip
    def test_frames_that_do_not_fit_are_refused(self, frames: dict | None, expected: str):
        with pytest.raises(DataError) as caught:
            read_source(self.DATA, 0, frames)
        assert str(caught.value) == expected

    def test_other_sources_take_no_frames(self):
        with pytest.raises(DataError, match=r"data.source: shop takes no data frames\."):
            read_source(Data(source="shop"), 0, {"events": self.EVENTS})

    def test_stamps_change_with_content_order_and_names(self):
        frame = self.EVENTS.with_columns(tags=pl.Series([["a"], []]), v=pl.Series([[1.0], [2.0]]))
        assert table_stamps(None) == []
        stamp = table_stamps({"events": frame})
        assert stamp[0][:2] == ["events", 2]
        assert table_stamps({"events": frame.lazy()}) == stamp
        others = [
            frame.reverse(),
            frame.head(1),
            frame.rename({"zip": "code"}),
            frame.with_columns(zip=pl.Series([1, 3])),
            frame.with_columns(tags=pl.Series([["b"], []])),
            frame.with_columns(zip=pl.Series(["1", "2"])),
        ]
        stamps = [table_stamps({"events": other}) for other in others]
        assert stamp not in stamps
