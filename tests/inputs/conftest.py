"""A small log with kinds, times and searches, prepared for the tests of features."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tfrec.config import parse_config
from tfrec.data.dataset import PreparedData
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading.batch import RawBatch
from tfrec.data.reading.sources import RawTables

KINDS = {
    "shown": {"label": 0},
    "click": {"label": 1},
    "cart": {"label": 1, "weight": 2.0, "ranked": False, "target": False},
}


def random_log(seed: int, num_users: int = 12) -> pl.DataFrame:
    """Returns a log with users of all lengths, ties in time, repeated items and other kinds."""
    draw = np.random.default_rng(seed)
    parts = []
    for user in range(num_users):
        count = int(draw.choice([2, 5, 12, 40]))
        parts.append(
            pl.DataFrame(
                {
                    "user_id": [f"u{user}"] * count,
                    "item_id": draw.integers(0, 30, count) // draw.integers(1, 4),
                    "time": np.sort(1_000_000_000 + draw.integers(0, 30, count) ** 4),
                    "kind": draw.choice(list(KINDS), count, p=[0.2, 0.6, 0.2]).tolist(),
                    "search": draw.choice(["", "red", "blue"], count).tolist(),
                    "heat": draw.random(count),
                }
            )
        )
    return pl.concat(parts)


@pytest.fixture(scope="session")
def prepare_log(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., PreparedData]:
    """Returns what prepares a log of the form of `random_log`."""

    def run(log: pl.DataFrame, split: str = "leave_one_out", time: bool = True) -> PreparedData:
        events = {
            "kind": "kind", "kinds": KINDS, "query": "search", "context": {"heat": "number"},
            "time": "time" if time else None,
        }  # fmt: skip
        declared = {
            "source": "tables",
            "max_history": 6,
            "events": events,
            "split": {"kind": split},
        }
        config = parse_config({"name": "x", "data": declared})

        def read_events() -> Iterator[RawBatch]:
            yield RawBatch(log, "log.csv", np.arange(1, log.height + 1))

        folder: Path = tmp_path_factory.mktemp("prepared")
        prepare(RawTables(read_events), config, folder)
        return PreparedData.load(folder)

    return run


@pytest.fixture(scope="session")
def data(prepare_log: Callable[..., PreparedData]) -> PreparedData:
    return prepare_log(random_log(0))


@pytest.fixture(scope="session")
def make_log() -> Callable[[int], pl.DataFrame]:
    return random_log
