"""A small prepared log that several tests of the evaluation share."""

from collections.abc import Callable
from datetime import datetime, timedelta
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

Prepare = Callable[..., tuple[PreparedData, Config]]

WORDS = ("red", "blue", "lamp", "chair", "desk", "green", "sofa")


def make_events(seed: int, num_users: int = 15, num_items: int = 40, rows: int = 600) -> dict:
    """Draws a log in which several items may be chosen at one instant; few items are popular."""
    draw = np.random.default_rng(seed)
    minutes = np.sort(draw.integers(0, 60, rows))
    start = datetime(2026, 1, 1)
    return {
        "user_id": [f"u{n}" for n in draw.integers(0, num_users, rows)],
        "item_id": [f"i{n}" for n in (num_items * draw.random(rows) ** 2).astype(int)],
        "time": [start + timedelta(minutes=int(n)) for n in minutes],
        "query": ["" if minute % 3 else WORDS[minute % 7] for minute in minutes],
    }


@pytest.fixture
def prepare_log(tmp_path: Path) -> Prepare:
    """Returns what prepares a drawn log: 60:20:20 in time, a catalogue with one item too many."""

    def run(seed: int = 0, evaluation: dict[str, Any] | None = None, **data: Any):
        events = pl.DataFrame(make_events(seed))
        items = pl.DataFrame({"item_id": [f"i{n}" for n in range(41)]}).with_columns(
            title=pl.Series([f"{WORDS[n % 7]} {WORDS[n % 5]}" for n in range(41)]),
            brand=pl.Series([f"b{n % 4}" for n in range(41)]),
            in_stock=pl.Series([float(n % 5 != 3) for n in range(41)]),
        )
        declared = {
            "source": "tables",
            "split": {"validation": 0.2, "test": 0.2},
            "events": {"query": "query"},
            "items": {"title": "title", "text": ["title"]},
            **data,
        }
        tree = {
            "name": "x",
            "retrieval": {"embedding_dim": 8},
            "data": declared,
            "evaluation": {"k": [3, 10]} | (evaluation or {}),
        }
        config = parse_config(tree)
        raw = RawTables(
            lambda: iter([RawBatch(events, "events.csv", np.arange(1, events.height + 1))]),
            items=[RawBatch(items, "items.csv", np.arange(1, items.height + 1))],
        )
        folder = tmp_path / f"prepared-{seed}"
        folder.mkdir()
        prepare(raw, config, folder)
        return PreparedData.load(folder), config

    return run
