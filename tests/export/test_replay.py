from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.config import Config, parse_config
from tfrec.data.dataset import PreparedData
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading.batch import RawBatch
from tfrec.data.reading.sources import RawTables
from tfrec.export.replay import raw_requests

START = 1_700_000_000


def config_of(**history: bool) -> Config:
    kinds = {"click": {"label": 1}, "cart": {"label": 1}}
    return parse_config(
        {
            "name": "x",
            "data": {
                "source": "tables",
                "max_history": 3,
                "events": {"kind": "kind", "kinds": kinds},
                "split": {"kind": "leave_one_out"},
            },
            "retrieval": {"user": {"history": history}},
        }
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    log = pl.DataFrame(
        {
            "user_id": ["u"] * 5 + ["v"] * 3,
            "item_id": ["a", "b", "b", "c", "d", "a", "b", "c"],
            "time": [START + 10 * n for n in range(8)],
            "kind": ["click", "click", "cart", "click", "click", "click", "cart", "click"],
        }
    )

    def read_events() -> Iterator[RawBatch]:
        yield RawBatch(log, "log.csv", np.arange(1, log.height + 1))

    folder: Path = tmp_path_factory.mktemp("prepared")
    prepare(RawTables(read_events), config_of(), folder)
    return PreparedData.load(folder)


def request_at(data: PreparedData, second: int, **history: bool) -> dict[str, Any]:
    row = data.contexts["time"].dt.epoch("s").to_list().index(START + second)
    raw = raw_requests(data, config_of(**history), np.array([row]))
    return {name: values[0] for name, values in raw.items()}


def test_raw_request_has_no_kinds_and_times_unless_they_are_read(data: PreparedData):
    request = request_at(data, 40)
    assert set(request) == {"user_id", "history", "query"}
    assert request["history"].tolist() == ["a", "b", "c"]


def test_raw_request_tells_kinds_and_times_beside_the_history(data: PreparedData):
    request = request_at(data, 40, event_kinds=True, time_gaps=True)
    assert request["history"].tolist() == ["a", "b", "c"]
    assert request["history_kind"].tolist() == ["click", "cart", "click"]
    assert request["history_time"].tolist() == [START, START + 10, START + 30]
    assert request["time"] == START + 40
    assert request["history_time"].dtype == request["time"].dtype == np.int64


def test_raw_request_pads_kinds_and_times_in_front(data: PreparedData):
    request = request_at(data, 20, event_kinds=True, time_gaps=True)
    assert request["history"].tolist() == ["", "a", "b"]
    assert request["history_kind"].tolist() == ["", "click", "click"]  # the cart is not before
    assert request["history_time"].tolist() == [0, START, START + 10]
