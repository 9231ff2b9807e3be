"""Raw tables from files: CSV, Parquet, JSON lines.

CSV cells stay text here; `tfrec.data.convert` gives each column the type of its role, so that a
bad cell is reported with its row and column instead of an inferred type.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import polars as pl

from tfrec.config import TableFile
from tfrec.errors import DataError, did_you_mean

_CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_JSON_SUFFIXES = (".jsonl", ".ndjson")


def read_table(spec: TableFile, folder: str | Path | None = None) -> pl.DataFrame:
    """Reads one file of rows.

    Args:
        spec: Path (relative to `folder` where given) and, for CSV, how to read it.
        folder: Folder of the raw files.

    Raises:
        DataError: The file is missing, cannot be read or holds no row.
    """
    path = Path(folder or ".") / spec.path
    if not path.is_file():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, siblings)
        if not path.parent.is_dir():
            hint = f" The folder {path.parent} does not exist either."
        raise DataError(f"{path}: no such file.{hint}")
    try:
        frame = _read(path, spec)
    except (pl.exceptions.PolarsError, OSError, ValueError, LookupError, EOFError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"{path}: cannot be read: {reason}") from None
    if frame.is_empty():
        raise DataError(f"{path}: wanted at least one row, the table is empty.")
    return frame


def require_columns(frame: pl.DataFrame, columns: list[str], origin: str) -> None:
    """Raises `DataError` naming the first of `columns` that `frame` lacks."""
    for column in columns:
        if column not in frame.columns:
            hint = did_you_mean(column, frame.columns)
            raise DataError(
                f"{origin}: column {column!r} is missing.{hint} "
                f"Columns there: {', '.join(frame.columns)}."
            )


def _read(path: Path, spec: TableFile) -> pl.DataFrame:
    name = path.name.lower()
    if name.endswith(".parquet"):
        return pl.read_parquet(path)
    if name.endswith(_JSON_SUFFIXES):
        return pl.read_ndjson(path)
    if name.endswith(_CSV_SUFFIXES) or spec.columns is not None:
        separator = "\t" if ".tsv" in name and spec.delimiter == "," else spec.delimiter
        source: Path | bytes = path
        if name.endswith(".gz") and spec.encoding not in ("utf8", "utf-8"):
            source = gzip.decompress(path.read_bytes())  # polars decodes before it decompresses
        frame = pl.read_csv(
            source,
            separator=separator,
            encoding=spec.encoding,
            has_header=spec.columns is None,
            infer_schema=False,
            quote_char='"' if spec.columns is None else None,
            raise_if_empty=False,
        )
        if spec.columns is None:
            return frame
        if frame.width != len(spec.columns) and frame.height:
            raise DataError(
                f"{path}: wanted {len(spec.columns)} columns "
                f"({', '.join(spec.columns)}), row 1 has {frame.width}. Check the delimiter "
                f"{spec.delimiter!r}."
            )
        return frame.rename(dict(zip(frame.columns, spec.columns, strict=False)))
    known = ", ".join((*_CSV_SUFFIXES, ".parquet", *_JSON_SUFFIXES))
    raise DataError(f"{path}: unknown kind of table; wanted a name ending in one of {known}.")
