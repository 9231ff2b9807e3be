import errno
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tfrec.data.preparing.spill import Spill, disk_errors
from tfrec.errors import ArtefactError


def batch(draw: np.random.Generator, rows: int, users: int, first: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "user_index": draw.integers(1, users + 1, rows).astype(np.int32),
            "row": np.arange(first, first + rows),
            "query": [f"q{number}" for number in draw.integers(0, 5, rows)],
        }
    )


def spilled(
    folder: Path, seed: int, sizes: list[int], users: int, shard_rows: int
) -> tuple[Spill, pl.DataFrame]:
    """Returns a spill of batches of the given sizes, and all events as they came."""
    draw = np.random.default_rng(seed)
    spill = Spill(folder, shard_rows)
    batches = []
    for size in sizes:
        batches.append(batch(draw, size, users, sum(map(len, batches))))
        spill.write(batches[-1])
    return spill, pl.concat(batches)


@pytest.mark.parametrize(
    ("sizes", "users", "shard_rows"),
    [
        ([1], 1, 10),
        ([50], 7, 10),
        ([30, 1, 0, 40, 29], 12, 25),
        ([20] * 40, 3000, 100),  # more users than buckets
        ([500, 500], 3, 1),  # as many shards as there can be, most of them empty
    ],
)
def test_shards_hold_every_event_once_and_users_whole(
    tmp_path: Path, sizes: list[int], users: int, shard_rows: int
):
    spill, events = spilled(tmp_path, 5, sizes, users, shard_rows)
    assert spill.num_rows == events.height
    shards = [spill.read(number) for number in range(spill.num_shards)]
    assert pl.concat(shards).sort("row").equals(events)
    shard_of: dict[int, int] = {}
    for number, shard in enumerate(shards):
        assert shard.schema == events.schema
        for user in shard["user_index"].unique():
            assert shard_of.setdefault(user, number) == number
        # In the order in which each user's events came.
        for _, own in shard.group_by("user_index"):
            assert own["row"].is_sorted()


@pytest.mark.parametrize(
    ("rows", "shard_rows", "expected"),
    [(0, 10, 1), (1, 10, 1), (10, 10, 1), (11, 10, 2), (100, 10, 10), (3000, 1, 1024)],
)
def test_shards_are_as_many_as_events_need(
    tmp_path: Path, rows: int, shard_rows: int, expected: int
):
    spill, _ = spilled(tmp_path, 1, [rows], 50, shard_rows)
    assert spill.num_shards == expected


@pytest.mark.parametrize("users", [40, 1000, 100_000])
def test_shards_are_about_of_one_size(tmp_path: Path, users: int):
    """Memory is that of the largest."""
    spill, _ = spilled(tmp_path, 2, [4000] * 5, users, 2000)
    sizes = [spill.read(number).height for number in range(spill.num_shards)]
    assert len(sizes) == 10
    assert 1000 < min(sizes) <= max(sizes) < 3000


def test_every_event_is_written_once_and_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What the cost of a spill is linear in: files are as many as batches, slices do not meet."""
    read: list[int] = []
    original = pl.LazyFrame.slice

    def slice_counted(frame: pl.LazyFrame, offset: int, length: int) -> pl.LazyFrame:
        read.append(length)
        return original(frame, offset, length)

    spill, events = spilled(tmp_path, 3, [100] * 6, 40, 50)
    assert len(list(tmp_path.iterdir())) == 6
    monkeypatch.setattr(pl.LazyFrame, "slice", slice_counted)
    for number in range(spill.num_shards):
        spill.read(number)
    assert sum(read) == events.height


def test_shard_can_be_read_again(tmp_path: Path):
    spill, _ = spilled(tmp_path, 4, [30, 30], 9, 20)
    assert spill.read(1).equals(spill.read(1))


def test_remove_leaves_an_empty_folder(tmp_path: Path):
    spill, _ = spilled(tmp_path, 4, [30, 30], 9, 20)
    kept = spill.read(0)
    before = kept.clone()
    spill.remove()
    assert list(tmp_path.iterdir()) == []
    assert kept.equals(before)  # what was read does not hang on the files


# A disk that cannot be written


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("No space left on device (os error 28)"), "No space left on device"),  # write_ipc
        (
            pl.exceptions.ComputeError("parquet: underlying IO error: ... (os error 28)"),
            "No space left on device",
        ),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (OSError("100 requested and 9 written"), "100 requested and 9 written"),  # numpy
    ],
)
def test_disk_errors_are_one_line_that_names_the_folder(
    tmp_path: Path, error: Exception, reason: str
):
    with pytest.raises(ArtefactError) as caught, disk_errors(tmp_path):
        raise error
    assert str(caught.value) == f"{tmp_path}: cannot be written: {reason}."
    assert caught.value.__cause__ is error


def test_other_errors_stay_what_they_are(tmp_path: Path):
    with pytest.raises(pl.exceptions.ComputeError, match="no such thing"), disk_errors(tmp_path):
        raise pl.exceptions.ComputeError("no such thing")


def test_spill_on_a_full_disk_says_so():
    spill = Spill(Path("/dev/full"), 10)
    spill._path = lambda number: Path("/dev/full")  # type: ignore[method-assign]
    events = batch(np.random.default_rng(0), 500_000, 9, 0)
    with pytest.raises(ArtefactError, match=r"cannot be written: No space left on device\."):
        spill.write(events)
