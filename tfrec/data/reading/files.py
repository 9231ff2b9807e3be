"""Tables from files, from TensorFlow Datasets and from data frames, in batches of rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tfrec.config import Join, TableFile
from tfrec.data.reading.batch import RawBatch
from tfrec.data.reading.delimited import read_delimited
from tfrec.data.reading.json_lines import read_json_lines
from tfrec.data.reading.steps import apply_steps, check_keys, require_columns
from tfrec.errors import DataError, did_you_mean, reason_of

__all__ = ["BATCH_ROWS", "find_files", "format_of", "frame_batches", "read_batches",
           "read_first_rows", "require_columns"]  # fmt: skip

BATCH_ROWS = 200_000
_NESTED_BATCH_ROWS = 20_000  # rows with lists in their cells are many times as large

_SUFFIXES = {
    ".csv": "csv", ".tsv": "csv", ".csv.gz": "csv", ".tsv.gz": "csv", ".parquet": "parquet",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".jsonl.gz": "jsonl", ".ndjson.gz": "jsonl",
}  # fmt: skip

_Rows = Iterator[tuple[pl.DataFrame, np.ndarray]]


def read_batches(
    tables: Sequence[TableFile],
    folder: str | Path | None,
    hidden: Collection[str] = (),
    batch_rows: int = BATCH_ROWS,
    dropped: Counter[str] | None = None,
    repair: bool = False,
) -> Iterator[RawBatch]:
    """Reads the parts of one table, one after the other.

    Args:
        tables: The parts.
        folder: Where relative paths begin.
        hidden: Columns that are dropped before anything else is done.
        batch_rows: How many rows a batch has at most.
        dropped: Rows that a condition of a step dropped are counted there, by condition.
        repair: Whether CSV rows with too many or too few cells are dropped, and counted there too.

    Yields:
        Batches with at least one row.

    Raises:
        DataError: A file is missing or cannot be read, a step cannot be applied, or there is no
            row at all.
    """
    hidden = list(hidden)
    joined: dict[str, pl.DataFrame] = {}

    def read_joined(join: Join) -> pl.DataFrame:
        key = join.model_dump_json()
        if key not in joined:
            parts = list(read_batches([join.table], folder, hidden, batch_rows, dropped, repair))
            table = pl.concat([part.frame for part in parts], how="diagonal_relaxed")
            check_keys(table, join)
            joined[key] = table
        return joined[key]

    num_read = num_yielded = 0
    for table in tables:
        ragged = dropped if repair else None
        for origin, frame, rows in _read_part(table, folder, hidden, batch_rows, ragged):
            num_read += frame.height
            batch = RawBatch(frame, origin, rows)
            for part in apply_steps(batch, table.steps, read_joined, batch_rows, dropped):
                num_yielded += part.frame.height
                yield part
    if not num_yielded:
        names = ", ".join(_describe(table, folder) for table in tables)
        if num_read:
            raise DataError(f"{names}: the steps leave none of {num_read} rows.")
        raise DataError(f"{names}: wanted at least one row, the table is empty.")


def read_first_rows(
    table: TableFile, path: Path, num_rows: int, ragged: Counter[str]
) -> tuple[pl.DataFrame, bool]:
    """Reads the beginning of a file, without steps.

    Args:
        table: Its form.
        path: The file.
        num_rows: How many rows are wanted at most.
        ragged: CSV rows with too many or too few cells are left out and counted there.

    Returns:
        The rows, and whether they are all rows of the file.

    Raises:
        DataError: The file cannot be read, or holds no row.
    """
    frames: list[pl.DataFrame] = []
    read = 0
    look_ahead = 1 + num_rows // BATCH_ROWS
    for frame, _ in _read_file(path, table, [], num_rows + 1, ragged, look_ahead):
        frames.append(frame)
        read += frame.height
        if read > num_rows:
            break
    if not read:
        raise DataError(f"{path}: holds no row.")
    return pl.concat(frames).head(num_rows), read <= num_rows


def find_files(table: TableFile, folder: str | Path | None = None) -> list[Path]:
    """Finds the files of a part of a table.

    Args:
        table: Its `path` names files, folders of shards and patterns.
        folder: Where relative paths begin.

    Returns:
        The files, sorted within each entry, none twice; empty for TensorFlow Datasets.

    Raises:
        DataError: An entry names nothing.
    """
    entries = [table.path] if isinstance(table.path, str) else table.path or []
    found: dict[Path, None] = {}
    for entry in entries:
        found |= dict.fromkeys(_expand(Path(folder or "."), entry, table.format is not None))
    return list(found)


def _describe(table: TableFile, folder: str | Path | None) -> str:
    if table.tfds:
        return table.tfds
    entries = [table.path] if isinstance(table.path, str) else table.path or []
    return ", ".join(str(Path(folder or ".") / entry) for entry in entries)


def _expand(folder: Path, entry: str, is_any_name: bool) -> list[Path]:
    path = folder / entry
    if path.is_file():
        return [path]
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.is_file() and not _is_hidden(p, path))
        if shards := [p for p in files if is_any_name or format_of(p.name)]:
            return shards
        raise DataError(f"{path}: wanted a folder of tables ({', '.join(_SUFFIXES)}), found none.")
    hint = "" if folder.is_dir() else f" The folder {folder} does not exist."
    if any(character in entry for character in "*?["):
        anchor = Path(path.anchor) if Path(entry).is_absolute() else folder
        found = (p for p in anchor.glob(entry.lstrip("/")) if not p.name.startswith("."))
        files = sorted(p for p in found if p.is_file())
        if not files:
            raise DataError(f"{path}: no file has such a name.{hint}")
        return files
    hint = f" The folder {path.parent} does not exist either."
    if path.parent.is_dir():
        hint = did_you_mean(path.name, [sibling.name for sibling in path.parent.iterdir()])
    raise DataError(f"{path}: no such file.{hint}")


def _is_hidden(path: Path, folder: Path) -> bool:
    """Whether a file of a folder of shards is a mark or an index of what wrote it."""
    return any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)


def format_of(name: str) -> str | None:
    """Returns the format that a file's name tells by its ending; None for one it does not tell."""
    name = name.lower()
    return next((form for suffix, form in _SUFFIXES.items() if name.endswith(suffix)), None)


def _read_part(
    table: TableFile,
    folder: str | Path | None,
    hidden: list[str],
    batch_rows: int,
    ragged: Counter[str] | None,
) -> Iterator[tuple[str, pl.DataFrame, np.ndarray]]:
    if table.tfds:
        from tfrec.data.reading.tfds import read_tfds

        for batch in read_tfds(table.tfds, table.tfds_split):
            yield batch.origin, batch.frame.drop(hidden, strict=False), batch.rows
        return
    for path in find_files(table, folder):
        try:
            for frame, rows in _read_file(path, table, hidden, batch_rows, ragged):
                frame = frame.drop(hidden, strict=False)
                for start in range(0, frame.height, batch_rows):
                    part = slice(start, start + batch_rows)
                    yield str(path), frame[part], rows[part]
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}.") from None


def _read_file(
    path: Path,
    table: TableFile,
    hidden: list[str],
    batch_rows: int,
    ragged: Counter[str] | None,
    look_ahead: int | None = None,
) -> _Rows:
    form = table.format or format_of(path.name) or ("csv" if table.columns else None)
    if form == "csv":
        return read_delimited(path, table, ragged)
    if form == "jsonl":
        return read_json_lines(path, table, look_ahead)
    if form == "parquet":
        return _read_parquet(path, hidden, batch_rows)
    known = ", ".join(_SUFFIXES)
    raise DataError(
        f"{path}: unknown kind of table; wanted a name ending in one of {known}, or `format` "
        "in the declaration (csv, parquet, jsonl)."
    )


def _read_parquet(path: Path, hidden: list[str], batch_rows: int) -> _Rows:
    try:
        frames = pl.scan_parquet(path, glob=False).drop(hidden, strict=False)
        num_rows = frames.select(pl.len()).collect().item()
        if any(dtype.is_nested() for dtype in frames.collect_schema().dtypes()):
            batch_rows = min(batch_rows, _NESTED_BATCH_ROWS)
        for start in range(0, num_rows, batch_rows):
            # Slices hold less in memory than batches of one running query, which reads ahead.
            frame = frames.slice(start, batch_rows).collect()
            yield frame, np.arange(start + 1, start + frame.height + 1)
    except pl.exceptions.PolarsError as error:
        reason = reason_of(error)
        raise DataError(f"{path}: cannot be read as Parquet: {reason}.") from None


def frame_batches(
    frame: Any, name: str, hidden: Collection[str] = (), batch_rows: int = BATCH_ROWS
) -> Iterator[RawBatch]:
    """Cuts a data frame into batches.

    Args:
        frame: A polars DataFrame or LazyFrame, a pandas DataFrame or a pyarrow Table.
        name: What to call it in errors.
        hidden: Columns that are dropped.
        batch_rows: How many rows a batch has at most.

    Yields:
        Batches with at least one row.

    Raises:
        DataError: It is something else, cannot be taken over, or holds no row.
    """
    first = 0
    for part in _polars_frames(frame, name, batch_rows):
        shown = part.drop(list(hidden), strict=False)
        for start in range(0, shown.height, batch_rows):
            piece = shown.slice(start, batch_rows)
            yield RawBatch(piece, name, np.arange(first + 1, first + piece.height + 1))
            first += piece.height
    if not first:
        raise DataError(f"{name}: wanted at least one row, the table is empty.")


def _polars_frames(frame: Any, name: str, batch_rows: int) -> Iterator[pl.DataFrame]:
    library = type(frame).__module__.split(".")[0]
    try:
        if isinstance(frame, pl.DataFrame):
            yield frame
        elif isinstance(frame, pl.LazyFrame):
            yield from frame.collect_batches(chunk_size=batch_rows, maintain_order=True)
        elif library == "pandas" and type(frame).__name__ == "DataFrame":
            yield pl.from_pandas(frame)
        elif library == "pyarrow" and type(frame).__name__ == "Table":
            converted = pl.from_arrow(frame)
            assert isinstance(converted, pl.DataFrame)
            yield converted
        else:
            raise DataError(
                f"{name}: wanted a data frame of polars, pandas or pyarrow, got "
                f"{type(frame).__module__}.{type(frame).__qualname__}."
            )
    except (pl.exceptions.PolarsError, ImportError, TypeError, ValueError) as error:
        reason = reason_of(error)
        raise DataError(f"{name}: the data frame cannot be taken over: {reason}") from None
