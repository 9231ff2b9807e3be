"""The first rows of a file of whatever form, and how the form is declared."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import polars.selectors as cs

from tfrec.autoconfig import words
from tfrec.autoconfig.words import file_words, words_of
from tfrec.config import TableFile
from tfrec.data.reading.files import format_of, read_first_rows
from tfrec.data.reading.text import BrokenText, text_blocks
from tfrec.errors import DataError

MAX_ROWS = 10_000
_DELIMITERS = ("\t", "::", "|", ";", ",", " ")
_NOT_DATA = {".md", ".rst", ".html", ".pdf", ".py", ".ipynb", ".yaml", ".yml", ".zip", ".tar",
             ".tgz", ".jpg", ".png", ".xlsx", ".xls", ".sh", ".log", ".7z", ".rar"}  # fmt: skip
_PACKED = (".bz2", ".xz", ".zst", ".lz4")
_NOT_DATA_NAMES = ("readme", "license", "licence", "changelog", "citation")
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
_NAME = re.compile(r"[^\W\d][\w .:/()-]{0,60}")
_KNOWN = (
    words.USER | words.ITEM | {"id", "ids"} | words.TIME | words.KIND | words.RATING | words.TITLE
    | words.ATTRIBUTE | words.ITEM_ATTRIBUTE | words.SESSION | words.LABEL
)  # fmt: skip
_ANY_LINES = {"format": "csv", "delimiter": "", "columns": ["line"]}


class NoTableError(Exception):
    """Why a file is left out."""


@dataclass(frozen=True)
class Sample:
    """The first rows of a file.

    Attributes:
        path: The file.
        frame: The rows. Texts have no surrounding space; empty ones are null.
        form: Keys of `TableFile` that tell how to read it.
        has_header: Whether the file names its columns.
        is_whole: Whether these are all rows of the file.
        is_sequence: Whether a line is a user and then items, in one column.
        cut: Where lines differ in their number of cells: the delimiter at which steps cut them.
        num_odd: How many lines differ.
    """

    path: Path
    frame: pl.DataFrame
    form: dict[str, Any]
    has_header: bool = True
    is_whole: bool = True
    is_sequence: bool = False
    cut: str = ""
    num_odd: int = 0

    def rename(self, names: dict[str, str]) -> Sample:
        """Gives columns without a name of their own a better one."""
        frame = self.frame.rename(names, strict=False)
        columns = ["line"] if self.cut else frame.columns
        return replace(self, frame=frame, form={**self.form, "columns": columns})


def read_sample(path: Path, max_rows: int = MAX_ROWS) -> Sample:
    """Reads the first rows.

    Raises:
        NoTableError: The file is no table.
    """
    name = path.name.lower()
    if name.startswith(_NOT_DATA_NAMES) or path.suffix.lower() in _NOT_DATA:
        raise NoTableError("no table by its name")
    if path.suffix.lower() in _PACKED:
        raise NoTableError("packed in a way that is not read here; unpack it or use gzip")
    form = format_of(name)
    try:
        if form == "parquet":
            return _read(path, {}, max_rows)
        block = next(text_blocks(path), b"").lstrip(b"\r\n")
        if not block.strip():
            raise NoTableError("holds no row")
        if b"\0" in block[:100_000]:
            raise NoTableError("is neither text nor Parquet")
        if re.match(rb"\s*\[\s*\{", block):
            raise NoTableError("one JSON array; what is read is JSON lines: one object a line")
        declared = {} if form else {"format": "csv"}
        if form == "jsonl" or (form is None and block.lstrip().startswith(b"{")):
            return _read(path, {"format": "jsonl"} if declared else {}, max_rows)
        try:
            text = block.decode()
        except UnicodeDecodeError:
            text, declared["encoding"] = block.decode("latin-1"), "latin-1"
        lines = [line.rstrip("\r") for line in text.split("\n", MAX_ROWS)[:MAX_ROWS]]
        return _read_csv(path, [line for line in lines if line.strip()], declared, max_rows)
    except (OSError, BrokenText, DataError, pl.exceptions.PolarsError) as error:
        reason = str(error).removeprefix(f"{path}: ").splitlines()[0].rstrip(".")
        raise NoTableError(f"cannot be read: {reason[:120]}") from None


def _read(path: Path, form: dict[str, Any], max_rows: int) -> Sample:
    ragged: Counter[str] = Counter()
    table = TableFile(path=str(path), **form)
    frame, is_whole = read_first_rows(table, path, max_rows, ragged)
    return Sample(path, _plain(frame), form, is_whole=is_whole, num_odd=ragged.total())


def _read_csv(path: Path, lines: list[str], form: dict[str, Any], max_rows: int) -> Sample:
    if _are_sequences(lines):
        sample = _read(path, form | _ANY_LINES, max_rows)
        return replace(sample, has_header=False, is_sequence=True)
    # People write commas into files that end in csv, and tabs into tsv; the rows still decide.
    likely = "\t" if ".tsv" in path.name.lower() else "," if ".csv" in path.name.lower() else ""
    delimiter = _find_delimiter(lines, likely)
    if delimiter not in ("", ","):
        form = form | {"delimiter": delimiter}
    has_quotes = _has_quotes(lines, delimiter)
    if not has_quotes and any('"' in line for line in lines):
        form = form | {"quote": ""}
    width = 1 + (_count_cuts(lines[0], delimiter) if delimiter else 0)
    unnamed = {"columns": [f"column_{number}" for number in range(1, width + 1)]}
    sample = _read(path, form | unnamed, max_rows + 1)
    rows = [[str(cell or "") for cell in row] for row in sample.frame.head(201).rows()]
    frame = sample.frame
    sample = replace(sample, has_header=_has_names(rows))
    if sample.has_header:
        names = [cell or f"column {number}" for number, cell in enumerate(rows[0], 1)]
        double = next((name for name in names if names.count(name) > 1), None)
        if double:
            raise NoTableError(f"column {double!r} stands twice in its header")
        frame = frame.slice(1)
        frame.columns = names
        if frame.is_empty():
            raise NoTableError("holds no row below its header")
        sample = replace(sample, form=form)
    sample = replace(sample, frame=frame.head(max_rows))
    if not sample.num_odd or has_quotes:
        return sample
    kept = {key: value for key, value in form.items() if key == "encoding"}
    return replace(sample, form=kept | _ANY_LINES, cut=delimiter)


def _are_sequences(lines: list[str]) -> bool:
    """Tells lines of ids of differing number, as ``user item item item``."""
    cells = [line.split() for line in lines]
    widths = {len(row) for row in cells}
    if len(widths) < 2 or min(widths) < 2 or sum(map(len, cells)) < 3 * len(cells):
        return False
    is_id = re.compile(r"[A-Za-z_]{0,6}\d\w*")
    return all(is_id.fullmatch(cell) for row in cells[:1000] for cell in row)


def _find_delimiter(lines: list[str], likely: str) -> str:
    """Returns what splits most lines into one and the same number of cells; empty for nothing."""
    best, best_score = "", 0.0
    for delimiter in _DELIMITERS:
        cuts = [_count_cuts(line, delimiter) for line in lines[:1000]]
        count, lines_alike = Counter(cuts).most_common(1)[0]
        score = lines_alike / len(cuts) + (0.5 if delimiter == likely else 0.0)
        # A comma that the header lacks stands in cells, as in 4,50; spaces stand inside of cells.
        is_inside = delimiter == " " and (score < 1 or best_score > 0.9)
        if not count or not cuts[0] or is_inside:
            continue
        score += min(count, 20) / 100  # a few lines may hold the delimiter in a text
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _count_cuts(line: str, delimiter: str) -> int:
    return (re.sub(r'"[^"]*"', "", line) if '"' in line else line).count(delimiter)


def _has_quotes(lines: list[str], delimiter: str) -> bool:
    """Tells whether quotes surround cells; elsewhere in a cell they are ordinary characters."""
    quoted = [line for line in lines if '"' in line]
    if delimiter == "," or not quoted:
        return bool(quoted)
    edge = re.compile(rf'(^|{re.escape(delimiter)})"[^"]*"($|{re.escape(delimiter)})')
    is_even = all(line.count('"') % 2 == 0 for line in quoted)
    return is_even and sum(bool(edge.search(line)) for line in quoted) > 0.9 * len(quoted)


def _has_names(rows: list[list[str]]) -> bool:
    """Tells a header from a row of data."""
    first, below = [cell.strip('"') for cell in rows[0]], rows[1:]
    if not below:
        return False
    columns = list(zip(*below, strict=True))
    sure = [
        cell for cell, column in zip(first, columns, strict=True)
        if _NAME.fullmatch(cell) and all(word in _KNOWN for word in words_of(cell))
        and cell not in column
    ]  # fmt: skip
    if len(sure) > 1 and any("id" in words_of(cell) for cell in sure):
        return True
    # The first name may be empty: an index that pandas wrote.
    are_names = all(_NAME.fullmatch(cell) for cell in first[1:])
    if not are_names or any(_NUMBER.fullmatch(cell) for cell in first):
        return False
    for cell, column in zip(first, columns, strict=True):
        shape = _shape_of(cell)
        if "0" in shape and [_shape_of(other) for other in column].count(shape) > len(below) / 2:
            return False
    if any(word in _KNOWN for cell in first for word in (*words_of(cell), *file_words(cell))):
        return True
    has_numbers = any(all(_NUMBER.fullmatch(cell or "0") for cell in column) for column in columns)
    return has_numbers and len({*first}) == len(first)


def _shape_of(cell: str) -> str:
    """Returns text with any number as 0: N12 and N7 have one shape."""
    return re.sub(r"\d+", "0", cell)


def _plain(frame: pl.DataFrame) -> pl.DataFrame:
    """Brings cells to a few forms: texts, numbers, truth values, times, lists."""
    texts = cs.string() | cs.categorical() | cs.enum()
    return frame.with_columns(
        cs.array().arr.to_list(),
        cs.decimal().cast(pl.Float64),
        texts.cast(pl.String).str.strip_chars().replace("", None),
    )
