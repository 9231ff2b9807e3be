"""Where raw tables come from. Each source answers with the same three tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl

from tfrec.config import Data
from tfrec.data import movielens
from tfrec.data.read import read_table
from tfrec.data.shop import Shop
from tfrec.errors import DataError


class Oracle(Protocol):
    """What a generator knows and a log does not: the true click behaviour."""

    def expected_clicks(
        self, user_ids: list[str], times: list[datetime], queries: list[str]
    ) -> np.ndarray:
        """Returns float32 [n, num_items]: how often each item would be shown and clicked."""
        ...


@dataclass(frozen=True)
class RawTables:
    """Raw tables as read; columns are still named and typed as in the source."""

    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame | None
    origins: dict[str, str]
    """For errors: what to call each table."""


def read_source(data: Data, seed: int) -> RawTables:
    """Reads the tables that `data` declares; `seed` drives generated ones.

    Raises:
        DataError: A file is missing or cannot be read.
    """
    return _READERS[data.source](data, seed)


def source_files(data: Data) -> list[Path]:
    """Lists the files that `read_source` reads, so that a change of one is noticed."""
    folder = Path(data.path) if data.path else None
    if data.source == "movielens" and folder:
        return [folder / name for name in ("u.data", "u.item", "u.user")]
    if data.source == "files" and data.tables:
        tables = (data.tables.events, data.tables.items, data.tables.users)
        return [(folder or Path(".")) / table.path for table in tables if table]
    return []


def read_oracle(data: Data, seed: int) -> Oracle | None:
    """Returns the source's oracle, or None for data whose truth nobody knows."""
    return Shop(scale=data.scale, seed=seed) if data.source == "shop" else None


def _read_shop(data: Data, seed: int) -> RawTables:
    shop = Shop(scale=data.scale, seed=seed)
    origins = {table: f"generated shop, {table}" for table in ("events", "items", "users")}
    return RawTables(shop.events(), shop.items(), shop.users(), origins)


def _read_movielens(data: Data, seed: int) -> RawTables:
    del seed
    if data.path:
        if not Path(data.path).is_dir():
            raise DataError(f"data.path: {data.path}: no such folder.")
        tables = movielens.read_folder(data.path)
        names = {"events": "u.data", "items": "u.item", "users": "u.user"}
        origins = {table: str(Path(data.path) / name) for table, name in names.items()}
    else:
        tables = movielens.read_tfds(data.tfds_name)
        origins = {table: f"{data.tfds_name}, {table}" for table in tables}
    return RawTables(tables["events"], tables["items"], tables["users"], origins)


def _read_files(data: Data, seed: int) -> RawTables:
    del seed
    assert data.tables is not None  # checked by the configuration
    specs = {"events": data.tables.events, "items": data.tables.items, "users": data.tables.users}
    frames = {name: read_table(spec, data.path) for name, spec in specs.items() if spec}
    origins = {
        name: str(Path(data.path or ".") / spec.path) for name, spec in specs.items() if spec
    }
    return RawTables(frames["events"], frames["items"], frames.get("users"), origins)


_READERS: dict[str, Callable[[Data, int], RawTables]] = {
    "shop": _read_shop,
    "movielens": _read_movielens,
    "files": _read_files,
}
