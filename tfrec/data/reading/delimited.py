"""CSV and its kin: tables of cells between delimiters, read in blocks.

Cells stay text; `tfrec.data.parsing` gives each column the type of its role, so that a bad cell is
reported with its row and column instead of an inferred type. A fast parser reads the blocks; where
it refuses one, the first row that is wrong is looked for.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from tfrec.config import TableFile
from tfrec.data.reading.text import (
    BrokenText,
    encoding_hint,
    first_record_end,
    strip_quoted,
    text_blocks,
)
from tfrec.errors import DataError

# Stand in for delimiters that the parser cannot take: control characters that texts do not hold.
_STAND_INS = (b"\x1f", b"\x1e", b"\x1d", b"\x1c", b"\x01", b"\x02", b"\x03")
_MAX_NAMES = 10
_OTHER_DELIMITERS = (",", ";", "\t", "|", "::")


def read_delimited(
    path: Path, table: TableFile, ragged: Counter[str] | None = None
) -> Iterator[tuple[pl.DataFrame, np.ndarray]]:
    """Reads one file.

    Args:
        path: The file.
        table: Delimiter, quote, encoding and names. Quotes are not honoured with a delimiter that
            is empty or longer than one character.
        ragged: Where given, rows with more or fewer cells than the header are left out and counted
            there.

    Yields:
        Rows (all columns text; empty cells null) and int64 [n], their numbers, from 1. Blank lines
        are counted and left out.

    Raises:
        DataError: A row has more or fewer cells than the header, a quote is not closed, the text
            is not in the encoding, the file breaks off, or two columns have one name.
    """
    form = _Form.of(path, table)
    names = table.columns
    num_read = 0
    try:
        for block in text_blocks(path, table.encoding, form.quote):
            if names is None:
                block = block.lstrip(b"\r\n")
                end = first_record_end(block, form.quote)
                if end:
                    names = form.split_header(path, block[:end])
                block = block[end:]
            if block and names is not None:
                frame, rows, num_records = _Block(path, form, names, block, num_read).read(ragged)
                yield frame, rows
                num_read += num_records
    except BrokenText as error:
        where = f"; row {num_read} is the last whole one" if num_read else ""
        raise DataError(f"{path}: {error}{where}.") from None


def other_delimiter_hint(names: list[str], delimiter: str = "") -> str:
    """Returns a question about the delimiter where a header of one cell looks like several."""
    if len(names) != 1:
        return ""
    counts = {other: names[0].count(other) for other in _OTHER_DELIMITERS if other != delimiter}
    likely = max(counts, key=lambda other: counts[other] * len(other))
    if not counts[likely]:
        return ""
    return f" The header is one cell {names[0]!r}: is the delimiter {likely!r}?"


@dataclass(frozen=True)
class _Form:
    """How records are cut into cells."""

    delimiter: str
    quote: bytes
    is_headerless: bool

    @classmethod
    def of(cls, path: Path, table: TableFile) -> _Form:
        delimiter = table.delimiter
        if delimiter == "," and ".tsv" in path.name.lower():
            delimiter = "\t"
        quote = table.quote.encode() if len(delimiter.encode()) == 1 else b""
        if len(quote) > 1:
            raise DataError(f"{path}: wanted an ASCII character as `quote`, got {table.quote!r}.")
        return cls(delimiter, quote, table.columns is not None)

    def separate(self, block: bytes) -> tuple[bytes, bytes]:
        """Returns the block with a delimiter of one byte, and that byte."""
        delimiter = self.delimiter.encode()
        if len(delimiter) == 1:
            return block, delimiter
        stand_in = next((byte for byte in _STAND_INS if byte not in block), _STAND_INS[0])
        return (block.replace(delimiter, stand_in) if delimiter else block), stand_in

    def split_header(self, path: Path, record: bytes) -> list[str]:
        """Returns the names; a column without one is called by its number."""
        record, separator = self.separate(record)
        try:
            text = record.decode()
        except UnicodeDecodeError as error:
            hint = encoding_hint(error.object[error.start])
            raise DataError(f"{path}: the header is not valid UTF-8. {hint}.") from None
        quote = self.quote.decode()
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=separator.decode(),
            quotechar=quote or None,
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        )
        try:
            cells = next(reader)
        except csv.Error as error:
            raise DataError(f"{path}: the header cannot be read: {error}.") from None
        names = [name or f"column {number}" for number, name in enumerate(cells, 1)]
        name, count = Counter(names).most_common(1)[0]
        if count > 1:
            raise DataError(f"{path}: column {name!r} stands {count} times in the header.")
        return names


class _Block:
    """Some whole records of a file.

    Args:
        path: The file.
        form: How records are cut.
        names: The columns.
        text: The records, UTF-8.
        num_before: How many records of the file came before.
    """

    def __init__(
        self, path: Path, form: _Form, names: list[str], text: bytes, num_before: int
    ) -> None:
        self._path = path
        self._form = form
        self._names = names
        self._raw = text
        self._text, self._separator = form.separate(text)
        self._num_before = num_before

    def read(self, ragged: Counter[str] | None) -> tuple[pl.DataFrame, np.ndarray, int]:
        """Returns rows, their numbers and how many records there are."""
        width = len(self._names)
        is_suspect = False
        try:
            try:
                frame = self._parse(truncate=False)
            except pl.exceptions.PolarsError:
                if ragged is None:
                    raise
                frame, is_suspect = self._parse(truncate=True), True
        except pl.exceptions.PolarsError:
            raise self._explain() from None
        numbers = np.arange(self._num_before + 1, self._num_before + frame.height + 1)
        # The parser fills short rows and blank lines with nulls, so only those need a closer look.
        if not is_suspect and not frame.to_series(width - 1).null_count():
            return frame, numbers, frame.height
        num_cells = self._count_cells()
        is_odd = (num_cells != width) & (num_cells != 0)
        if len(num_cells) != frame.height or (is_odd.any() and ragged is None):
            raise self._explain()
        if ragged is not None:
            ragged["rows with another number of cells"] += int(is_odd.sum())
        is_whole = num_cells == width
        if not is_whole.all():
            frame = frame.filter(pl.Series(is_whole))
        return frame, numbers[is_whole], len(num_cells)

    def _parse(self, truncate: bool) -> pl.DataFrame:
        stand_in_names = [f"c{number}".encode() for number in range(len(self._names))]
        header = self._separator.join(stand_in_names) + b"\n"
        frame = pl.read_csv(
            header + self._text,
            separator=self._separator.decode(),
            quote_char=self._form.quote.decode() or None,
            infer_schema=False,
            truncate_ragged_lines=truncate,
        )
        frame.columns = self._names
        return frame

    def _count_cells(self) -> np.ndarray:
        """Returns int64 [records]: cells of each, 0 for a blank line."""
        lines = strip_quoted(self._text, self._separator, self._form.quote).split(b"\n")
        if not lines[-1]:
            del lines[-1]
        separator = self._separator
        return np.array(
            [line.count(separator) + 1 if line.strip(b"\r") else 0 for line in lines], np.int64
        )

    def _explain(self) -> DataError:
        """Returns the error for the first row that is wrong."""
        if error := self._find_bad_text():
            return error
        width, delimiter, quote = len(self._names), self._form.delimiter, self._form.quote
        num_cells = self._count_cells()
        ragged = np.flatnonzero((num_cells != width) & (num_cells != 0))
        record = self._find_bad_quote()
        if record is not None and (not ragged.size or record <= ragged[0]):
            return self._fail(
                record,
                f"a quote {quote.decode()} is not closed, or stands in the middle of a cell. "
                "If quotes are plain characters there, set quote: ''.",
            )
        if not ragged.size:
            return self._fail(0, "cannot be read as CSV from here on.")
        names = f" ({', '.join(self._names)})" if width <= _MAX_NAMES else ""
        got = int(num_cells[ragged[0]])
        hint = other_delimiter_hint(self._names, delimiter) if not self._form.is_headerless else ""
        if not hint and self._form.is_headerless:
            hint = f" Check the delimiter {delimiter!r}."
        elif not hint and got > width and quote:
            hint = f" A cell that holds the delimiter {delimiter!r} must stand in quotes."
        wanted = f"wanted {width} cell{'s' * (width > 1)}{names}, got {got}.{hint}"
        return self._fail(int(ragged[0]), wanted)

    def _fail(self, record: int, problem: str) -> DataError:
        return DataError(f"{self._path}: row {self._num_before + record + 1}: {problem}")

    def _find_bad_text(self) -> DataError | None:
        try:
            self._raw.decode()
        except UnicodeDecodeError as error:
            at = error.start
        else:
            return None
        before, separator = self._form.separate(self._raw[:at])
        quote = self._form.quote
        if quote and before.count(quote) % 2:
            before += quote  # the byte stands in a quoted cell
        lines = strip_quoted(before, separator, quote).split(b"\n")
        column = self._names[min(lines[-1].count(separator), len(self._names) - 1)]
        hint = encoding_hint(self._raw[at])
        where = f"{self._path}: row {self._num_before + len(lines)}, column {column!r}"
        return DataError(f"{where}: not valid UTF-8. {hint}.")

    def _find_bad_quote(self) -> int | None:
        """Returns the first record whose quotes are not pairs around cells."""
        if not self._form.quote:
            return None
        q, s = re.escape(self._form.quote), re.escape(self._separator)
        quoted = rb"%s[^%s]*(?:%s%s[^%s]*)*%s" % (q, q, q, q, q, q)
        cell = rb"(?:%s|(?:[^%s%s\n][^%s\n]*)?)" % (quoted, q, s, s)
        pattern = re.compile(rb"%s(?:%s%s)*\r?(?:\n|\Z)" % (cell, s, cell))
        at = record = 0
        while at < len(self._text):
            found = pattern.match(self._text, at)
            if not found or found.group().count(self._form.quote) % 2:
                return record
            at = found.end()
            record += 1
        return None
