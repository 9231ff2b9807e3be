"""Events on disk, grouped by user, so that a log larger than memory is worked on in parts.

Batches come in any order; a shard is all events of some users. Each batch is written once, sorted
by the bucket of its users, and a shard reads one slice of each batch: the time is linear in the
number of events and the memory that of one shard.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl

from tfrec.errors import ArtefactError
from tfrec.schema import Batch

_BUCKET_BITS = 10
_NUM_BUCKETS = 2**_BUCKET_BITS
_RECORD_ROWS = 4096  # a slice is read in whole records of so many rows


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Says in one line why a folder cannot be written, as on a full disk.

    Raises:
        ArtefactError: In place of what Python, numpy and polars raise, each in its own way.
    """
    try:
        yield
    except (OSError, pl.exceptions.ComputeError) as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None and not isinstance(error, OSError):
            raise
        reason = os.strerror(int(number[1])) if number else getattr(error, "strerror", None)
        raise ArtefactError(f"{folder}: cannot be written: {reason or error}.") from error


class Spill:
    """Batches of events in a folder.

    Args:
        folder: Existing folder; files are removed by `remove`.
        shard_rows: Events that a shard holds, about.
    """

    def __init__(self, folder: Path, shard_rows: int) -> None:
        self._folder = folder
        self._shard_rows = shard_rows
        self._offsets: list[np.ndarray] = []
        self.num_rows = 0

    def write(self, events: pl.DataFrame) -> None:
        """Adds a batch; it has the column ``user_index``."""
        bucket = _scatter(events[Batch.USER_INDEX].to_numpy())
        order = np.argsort(bucket, kind="stable")
        counts = np.bincount(bucket, minlength=_NUM_BUCKETS)
        self._offsets.append(np.concatenate([[0], np.cumsum(counts)]))
        path = self._path(len(self._offsets) - 1)
        with disk_errors(self._folder):
            events[order].write_ipc(
                path, compression="uncompressed", record_batch_size=_RECORD_ROWS
            )
        self.num_rows += events.height

    @property
    def num_shards(self) -> int:
        """Shards by the number of events; at least one."""
        return min(_NUM_BUCKETS, max(1, -(-self.num_rows // self._shard_rows)))

    def read(self, shard: int) -> pl.DataFrame:
        """Returns the events of a shard, in the order they came for each user."""
        first, last = (number * _NUM_BUCKETS // self.num_shards for number in (shard, shard + 1))
        parts = [
            pl.scan_ipc(self._path(number))
            .slice(int(offsets[first]), int(offsets[last] - offsets[first]))
            .collect()
            for number, offsets in enumerate(self._offsets)
        ]
        return pl.concat(parts).rechunk()

    def remove(self) -> None:
        """Removes the files."""
        for number in range(len(self._offsets)):
            self._path(number).unlink()
        self._offsets = []

    def _path(self, number: int) -> Path:
        return self._folder / f"events-{number:06d}.arrow"


def _scatter(users: np.ndarray) -> np.ndarray:
    """Returns a bucket for each user; few users, too, are spread over all buckets.

    Source: Knuth, The Art of Computer Programming 3, section 6.4: Fibonacci hashing.
    """
    scattered = users.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    return (scattered >> np.uint64(64 - _BUCKET_BITS)).astype(np.int64)
