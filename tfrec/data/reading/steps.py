"""Steps that change raw rows: explode, compute, where, join.

They work on one batch at a time, so every expression speaks of its own row only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from tfrec.config import Join, Step
from tfrec.data.reading.batch import RawBatch
from tfrec.data.reading.delimited import other_delimiter_hint
from tfrec.errors import DataError, did_you_mean, reason_of

# How polars writes functions over more than one row. Those of lists are written `.list.sum()`.
_OVER_ROWS = re.compile(
    r"(?<!\.list)(?<!\.arr)\.(sum|max|min|mean|median|std|var|count|n_unique|first|last|quantile"
    r"|arg_min|arg_max|over|shift|rank|cum_\w+|implode|agg_groups)\(|\blen\(\)"
)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')

_LIST_ELEMENTS_A_ROW = 20  # elements of repeated lists that count as much as one row

_ROW = "_row"

ReadJoined = Callable[[Join], pl.DataFrame]


def apply_steps(
    batch: RawBatch,
    steps: Sequence[Step],
    read_joined: ReadJoined,
    batch_rows: int,
    dropped: Counter[str] | None = None,
) -> Iterator[RawBatch]:
    """Applies steps in order.

    Args:
        batch: Rows as read.
        steps: What to do.
        read_joined: Reads the table of a join, which has passed `check_keys`.
        batch_rows: Lists are exploded in pieces of about so many rows.
        dropped: Rows that a condition dropped are counted there, by condition.

    Yields:
        Batches with at least one row; `rows` still says which row of the file each comes from.

    Raises:
        DataError: A step cannot be applied.
    """
    if not batch.frame.height:
        return
    if not steps:
        yield batch
        return
    step, rest = steps[0], steps[1:]
    if step.explode is not None:
        parts = _explode(batch, step.explode, step.number, batch_rows)
    elif step.compute is not None:
        parts = iter([_compute(batch, step.compute)])
    elif step.where is not None:
        kept = _filter(batch, step.where)
        if dropped is not None:
            dropped[step.where] += batch.frame.height - kept.frame.height
        parts = iter([kept])
    else:
        assert step.join is not None  # checked by the configuration
        parts = iter([_join(batch, step.join, read_joined(step.join))])
    for part in parts:
        yield from apply_steps(part, rest, read_joined, batch_rows, dropped)


def check_keys(table: pl.DataFrame, join: Join) -> None:
    """Raises `DataError` where a table to be joined lacks a key or has one in several rows."""
    origin = str(join.table.tfds or join.table.path)
    require_columns(table, join.on, origin)
    keys = table.select(join.on).drop_nulls()
    doubles = keys.filter(keys.is_duplicated())
    if doubles.height:
        key = ", ".join(f"{name} {value!r}" for name, value in doubles.row(0, named=True).items())
        raise DataError(
            f"{origin}: wanted each key of the join in one row, {key} stands in several."
        )


def require_columns(frame: pl.DataFrame, columns: Sequence[str], origin: str) -> None:
    """Raises `DataError` naming the first of `columns` that `frame` lacks."""
    for column in columns:
        if column not in frame.columns:
            hint = other_delimiter_hint(frame.columns) or did_you_mean(column, frame.columns)
            raise DataError(
                f"{origin}: column {column!r} is missing.{hint} "
                f"Columns there: {', '.join(frame.columns)}."
            )


def _explode(
    batch: RawBatch, columns: Sequence[str], number: str | None, batch_rows: int
) -> Iterator[RawBatch]:
    """Yields one row for each element; an empty list or nothing gives none."""
    frame = batch.frame
    require_columns(frame, columns, f"{batch.origin}: explode")
    lengths: list[np.ndarray] = []
    for column in columns:
        dtype = frame.schema[column]
        if isinstance(dtype, pl.Array):
            frame = frame.with_columns(pl.col(column).cast(pl.List(dtype.inner)))
        elif dtype == pl.Null:
            frame = frame.with_columns(pl.col(column).cast(pl.List(pl.Null)))
        elif not isinstance(dtype, pl.List):
            raise DataError(
                f"{batch.origin}: explode: column {column!r}: wanted lists, got {dtype}. Make "
                f"them with compute: string_to_array({column}, ' ')."
            )
        lengths.append(frame[column].list.len().fill_null(0).to_numpy().astype(np.int64))
        unequal = np.flatnonzero(lengths[-1] != lengths[0])
        if unequal.size:
            row = unequal[0]
            raise DataError(
                f"{batch.origin}: row {batch.rows[row]}, column {column!r}: wanted "
                f"{lengths[0][row]} elements as in {columns[0]!r}, got {lengths[-1][row]}."
            )
    # Each new row repeats the lists that stay, which may be far larger than all the rest of it.
    stay = [name for name, dtype in frame.schema.items() if dtype == pl.List]
    repeated = sum(
        frame[name].list.len().fill_null(0).to_numpy().astype(np.int64)
        for name in stay
        if name not in columns
    )
    ends = np.cumsum(lengths[0] * (1 + repeated // _LIST_ELEMENTS_A_ROW))
    start = 0
    while start < frame.height:
        before = ends[start - 1] if start else 0
        # At least one row, however long its list.
        end = max(start + 1, int(np.searchsorted(ends, before + batch_rows, side="right")))
        length = lengths[0][start:end]
        part = frame[start:end].filter(pl.Series(length > 0))
        rows = np.repeat(batch.rows[start:end], length)
        part = part.explode(list(columns))
        if number is not None:
            firsts = np.repeat(np.cumsum(length) - length, length)
            part = part.with_columns(pl.Series(number, np.arange(len(rows)) - firsts))
        yield RawBatch(part, batch.origin, rows)
        start = end


def _compute(batch: RawBatch, expressions: dict[str, str]) -> RawBatch:
    for name, text in expressions.items():
        frame = _evaluate(batch, text, f"compute {name}", name)
        batch = RawBatch(frame, batch.origin, batch.rows)
    return batch


def _filter(batch: RawBatch, condition: str) -> RawBatch:
    name = "where"
    while name in batch.frame.columns:
        name += "_"
    is_kept = _evaluate(batch, condition, "where", name)[name]
    if is_kept.dtype != pl.Boolean:
        raise DataError(
            f"{batch.origin}: where: {condition!r}: wanted a condition, got {is_kept.dtype}."
        )
    is_kept = is_kept.fill_null(False)
    return RawBatch(batch.frame.filter(is_kept), batch.origin, batch.rows[is_kept.to_numpy()])


def _evaluate(batch: RawBatch, text: str, step: str, name: str) -> pl.DataFrame:
    """Returns the frame with the values of a SQL expression as column `name`.

    Expressions may use the column ``_row``, the row of the file.
    """
    if _ROW in text and _ROW not in batch.frame.columns:
        numbered = batch.frame.with_columns(pl.Series(_ROW, batch.rows))
        return _evaluate(replace(batch, frame=numbered), text, step, name).drop(_ROW)
    place = f"{batch.origin}: {step}: {text!r}"
    try:
        expression = pl.sql_expr(text)
    except pl.exceptions.PolarsError as error:
        hint = ""
        for word in {*re.findall(r"'(\w+)'", str(error))} & {*batch.frame.columns}:
            hint = (
                f' The word has a meaning in SQL: write the column as "{word}", in double quotes.'
            )
        raise DataError(
            f"{place}: no SQL expression: {reason_of(error).rstrip('.')}.{hint}"
        ) from None
    if _OVER_ROWS.search(_QUOTED.sub('""', str(expression))):
        raise DataError(
            f"{place}: wanted an expression over each row by itself, rows are read in batches."
        )
    expression = expression.alias(name)
    try:
        return batch.frame.with_columns(expression)
    except pl.exceptions.ColumnNotFoundError as error:
        unknown = re.search(r'"([^"]*)"', str(error))
        hint = did_you_mean(unknown[1], batch.frame.columns) if unknown else ""
        missing = f"there is no column {unknown[1]!r}" if unknown else "a column is missing"
        raise DataError(
            f"{place}: {missing}.{hint} Columns there: {', '.join(batch.frame.columns)}."
        ) from None
    except pl.exceptions.PolarsError as error:
        row = _first_failing(batch.frame, expression)
        at = f"row {batch.rows[row]}: " if row is not None else ""
        raise DataError(
            f"{batch.origin}: {at}{step}: {text!r}: {reason_of(error).rstrip('.')}. "
            f"Columns there: {', '.join(batch.frame.columns)}."
        ) from None


def _first_failing(frame: pl.DataFrame, expression: pl.Expr) -> int | None:
    """Returns the first row on which an expression fails, None if it fails without rows too."""
    if _fails(frame.clear(), expression):
        return None
    low, high = 0, frame.height  # the first `low` rows work, the first `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        if _fails(frame[low:middle], expression):
            high = middle
        else:
            low = middle
    return low


def _fails(frame: pl.DataFrame, expression: pl.Expr) -> bool:
    try:
        frame.select(expression)
    except pl.exceptions.PolarsError:
        return True
    return False


def _join(batch: RawBatch, join: Join, table: pl.DataFrame) -> RawBatch:
    origin = join.table.tfds or join.table.path
    frame = batch.frame
    require_columns(frame, join.on, f"{batch.origin}: join with {origin}")
    for column in join.on:
        kinds = frame.schema[column], table.schema[column]
        if kinds[0] != kinds[1]:
            # As text 7 and 7.0 would differ.
            is_number = kinds[0].is_numeric() and kinds[1].is_numeric()
            has_float = kinds[0].is_float() or kinds[1].is_float()
            key = pl.col(column).cast(pl.Float64 if is_number and has_float else pl.String)
            frame, table = frame.with_columns(key), table.with_columns(key)
    shared = sorted(({*frame.columns} & {*table.columns}) - {*join.on})
    if shared:
        raise DataError(
            f"{batch.origin}: join with {origin}: both have a column {shared[0]!r}; name one "
            "differently."
        )
    joined = frame.join(table, on=join.on, how="left", maintain_order="left")
    return RawBatch(joined, batch.origin, batch.rows)
