"""The first rows of a file of whatever form, and how the form is declared."""

from __future__ import annotations

import gzip
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.words import file_words, words_of

MAX_ROWS = 10_000
_MAX_BYTES = 64_000_000
_DELIMITERS = ("\t", "::", "|", ";", ",", " ")
_FORM = {".csv": "csv", ".tsv": "csv", ".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_NOT_DATA = {".md", ".rst", ".html", ".pdf", ".py", ".ipynb", ".yaml", ".yml", ".zip", ".tar",
             ".tgz", ".jpg", ".png", ".xlsx", ".xls", ".sh", ".log", ".7z", ".rar"}  # fmt: skip
_PACKED = (".bz2", ".xz", ".zst", ".lz4")
_NOT_DATA_NAMES = ("readme", "license", "licence", "changelog", "citation")
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*")
_NAME = re.compile(r"[A-Za-z_][\w .:/()-]{0,60}")
_KNOWN = (
    words.USER | words.ITEM | {"id", "ids"} | words.TIME | words.KIND | words.RATING | words.TITLE
    | words.ATTRIBUTE | words.ITEM_ATTRIBUTE | words.SESSION | words.LABEL
)  # fmt: skip


class UnreadableError(Exception):
    """Why a file is left out."""


@dataclass(frozen=True)
class Head:
    """The first rows of a file.

    Attributes:
        path: The file.
        frame: The rows. Cells of CSV are text without surrounding space; empty ones are null.
        form: Keys of `TableFile` that tell how to read it.
        has_names: Whether the columns have names of their own.
        is_whole: Whether these are all rows of the file.
        is_sequence: Whether a line is a user and then items, in one column.
        cut: Where lines differ in their number of cells: the delimiter at which steps cut them.
        num_odd: How many lines differ.
    """

    path: Path
    frame: pl.DataFrame
    form: dict[str, Any]
    has_names: bool
    is_whole: bool
    is_sequence: bool = False
    cut: str = ""
    num_odd: int = 0


def read_head(path: Path, max_rows: int = MAX_ROWS) -> Head:
    """Reads the first rows.

    Raises:
        UnreadableError: The file is no table.
    """
    name = path.name.lower()
    if name.startswith(_NOT_DATA_NAMES) or path.suffix.lower() in _NOT_DATA:
        raise UnreadableError("no table by its name")
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        raise UnreadableError("packed in a way that is not read here; unpack it or use gzip")
    is_packed = bool(suffixes) and suffixes[-1] == ".gz"
    ending = suffixes[:-1][-1:] if is_packed else suffixes[-1:]
    form = _FORM.get(ending[0] if ending else "")
    try:
        if form == "parquet":
            return _read_parquet(path, max_rows)
        lines, is_whole = _read_lines(path, is_packed, max_rows)
        if form == "jsonl" or (form is None and lines[0].lstrip().startswith(b"{")):
            return _read_jsonl(path, lines, is_whole, {} if form else {"format": "jsonl"})
        return _read_csv(path, lines, is_whole, {} if form else {"format": "csv"}, ending)
    except (OSError, EOFError, pl.exceptions.PolarsError) as error:
        first = next(iter(str(error).splitlines()), "")
        raise UnreadableError(f"cannot be read: {first[:120]}") from None


def _read_parquet(path: Path, max_rows: int) -> Head:
    frame = pl.scan_parquet(path).head(max_rows + 1).collect()
    if not frame.height:
        raise UnreadableError("holds no row")
    return Head(path, _usable(frame.head(max_rows)), {}, True, frame.height <= max_rows)


def _read_lines(path: Path, is_packed: bool, max_rows: int) -> tuple[list[bytes], bool]:
    lines: list[bytes] = []
    size = 0
    with gzip.open(path) if is_packed else path.open("rb") as file:
        for line in file:
            if len(lines) > max_rows or size > _MAX_BYTES:
                break
            size += len(line)
            if line.strip():
                lines.append(line.rstrip(b"\r\n"))
        else:
            line = b""
    if not lines:
        raise UnreadableError("holds no row")
    if any(b"\0" in row for row in lines[:100]):
        raise UnreadableError("is neither text nor Parquet")
    return lines[: max_rows + 1], not line


def _read_jsonl(path: Path, lines: list[bytes], is_whole: bool, form: dict[str, Any]) -> Head:
    frame = pl.read_ndjson(io.BytesIO(b"\n".join(lines)), infer_schema_length=None)
    return Head(path, _usable(frame), form, True, is_whole)


def _read_csv(
    path: Path, lines: list[bytes], is_whole: bool, form: dict[str, Any], ending: Sequence[str]
) -> Head:
    text, encoding = _decode(lines)
    if encoding:
        form = {**form, "encoding": encoding}
    if _is_sequence(text):
        frame = pl.DataFrame({"line": text})
        form = {**form, "format": "csv", "delimiter": "", "columns": ["line"]}
        return Head(path, frame, form, False, is_whole, is_sequence=True)
    # People write commas into files that end in csv, and tabs into tsv; the rows still decide.
    likely = {".csv": ",", ".tsv": "\t"}.get(ending[0] if ending else "", "")
    delimiter = _find_delimiter(text, likely)
    if delimiter != ",":
        form = {**form, "delimiter": delimiter}
    has_quotes = _has_quotes(text, delimiter)
    if not has_quotes and any('"' in line for line in text):
        form = {**form, "quote": ""}
    rows = _split_rows(text, delimiter, has_quotes)
    width = len(rows[0])
    num_odd = 0 if has_quotes else sum(len(row) != width for row in rows)
    rows = [(row + [None] * width)[:width] for row in rows]
    has_names = _has_names(rows)
    if has_names:
        names = [str(cell or f"column {number}") for number, cell in enumerate(rows[0], 1)]
        double = next((name for name in names if names.count(name) > 1), None)
        if double:
            raise UnreadableError(f"column {double!r} stands twice in its header")
        rows = rows[1:]
    else:
        names = [f"column_{number}" for number in range(1, width + 1)]
        form = {**form, "columns": names}
    if not rows:
        raise UnreadableError("holds no row below its header")
    if not delimiter:
        form.pop("delimiter", None)
    columns = list(zip(*rows, strict=True))
    frame = pl.DataFrame(
        {
            name: pl.Series(cells, dtype=pl.String)
            for name, cells in zip(names, columns, strict=True)
        }
    )
    frame = frame.with_columns(pl.all().str.strip_chars())
    frame = frame.with_columns(pl.when(pl.all() != "").then(pl.all()))
    if num_odd:
        form = {key: value for key, value in form.items() if key == "encoding"}
        form |= {"format": "csv", "delimiter": "", "columns": ["line"]}
    cut = delimiter if num_odd else ""
    return Head(path, frame, form, has_names, is_whole, cut=cut, num_odd=num_odd)


def _decode(lines: list[bytes]) -> tuple[list[str], str]:
    joined = b"\n".join(lines)
    try:
        return joined.decode("utf-8-sig").split("\n"), ""
    except UnicodeDecodeError:
        return joined.decode("latin-1").split("\n"), "latin-1"


def _is_sequence(text: list[str]) -> bool:
    """Tells lines of ids of differing number, as ``user item item item``."""
    cells = [line.split() for line in text]
    widths = {len(row) for row in cells}
    if len(widths) < 2 or min(widths) < 2 or sum(map(len, cells)) < 3 * len(cells):
        return False
    is_id = re.compile(r"[A-Za-z_]{0,6}\d\w*")
    return all(is_id.fullmatch(cell) for row in cells[:1000] for cell in row)


def _find_delimiter(text: list[str], likely: str) -> str:
    """Returns what splits most lines into one and the same number of cells; empty for nothing."""
    best, best_score = "", 0.0
    for delimiter in _DELIMITERS:
        sample = [_unquoted(line).count(delimiter) for line in text[:1000]]
        count, share = Counter(sample).most_common(1)[0]
        if not count:
            continue
        # Spaces stand inside of cells; a few lines may hold the delimiter in a text.
        score = share / len(sample) + (0.5 if delimiter == likely else 0.0)
        if delimiter == " " and (score < 1 or best_score > 0.9):
            continue
        score += min(count, 20) / 100
        if score > best_score:
            best, best_score = delimiter, score
    return best


def _unquoted(line: str) -> str:
    return re.sub(r'"[^"]*"', "", line) if '"' in line else line


def _has_quotes(text: list[str], delimiter: str) -> bool:
    """Tells whether quotes surround cells; elsewhere in a cell they are ordinary characters."""
    if not any('"' in line for line in text):
        return False
    if delimiter == ",":
        return True
    odd = sum(line.count('"') % 2 for line in text)
    edge = re.compile(rf'(^|{re.escape(delimiter)})"[^"]*"($|{re.escape(delimiter)})')
    quoted = [line for line in text if '"' in line]
    return not odd and sum(bool(edge.search(line)) for line in quoted) > 0.9 * len(quoted)


def _split_rows(text: list[str], delimiter: str, has_quotes: bool) -> list[list[Any]]:
    if not delimiter:
        return [[line] for line in text]
    if not has_quotes or len(delimiter) > 1:
        return [line.split(delimiter) for line in text]
    # A cell that runs over several lines may be cut off at the end of the head.
    while len(text) > 1 and sum(line.count('"') for line in text) % 2:
        text = text[:-1]
    frame = pl.read_csv(
        io.StringIO("\n".join(text)), separator=delimiter, has_header=False,
        infer_schema=False, truncate_ragged_lines=True,
    )  # fmt: skip
    return [list(row) for row in frame.rows()]


def _has_names(rows: list[list[Any]]) -> bool:
    """Tells a header from a row of data."""
    first = [str(cell or "").strip().strip('"') for cell in rows[0]]
    below = [[str(cell or "").strip() for cell in row] for row in rows[1:200]]
    sure = [
        at
        for at, cell in enumerate(first)
        if _NAME.fullmatch(cell)
        and all(word in _KNOWN for word in words_of(cell))
        and all(row[at] != cell for row in below)
    ]
    if len(sure) > 1 and any("id" in words_of(first[at]) for at in sure):
        return len(rows) > 1
    if len(rows) < 2 or any(_NUMBER.fullmatch(cell) for cell in first):
        return False
    # The first name may be empty: an index that pandas wrote.
    if not all(_NAME.fullmatch(cell) for cell in first[1:]):
        return False
    for at, cell in enumerate(first):
        shapes = [_digits_of(row[at]) for row in below]
        if "0" in _digits_of(cell) and shapes.count(_digits_of(cell)) > len(shapes) / 2:
            return False
    if any(word in _KNOWN for cell in first for word in (*words_of(cell), *file_words(cell))):
        return True
    is_number = [
        all(_NUMBER.fullmatch(row[at] or "0") for row in below) for at in range(len(first))
    ]
    return any(is_number) and len({*first}) == len(first)


def _digits_of(text: str) -> str:
    """Returns text with any number as 0: N12 and N7 have one shape."""
    return re.sub(r"\d+", "0", text)


def _usable(frame: pl.DataFrame) -> pl.DataFrame:
    """Brings cells to a few forms: texts, numbers, truth values, times, lists."""
    casts: list[pl.Expr] = []
    for name, dtype in frame.schema.items():
        if dtype in (pl.Categorical, pl.Enum):
            casts.append(pl.col(name).cast(pl.String))
        elif isinstance(dtype, pl.Array):
            casts.append(pl.col(name).arr.to_list())
        elif dtype.is_decimal():
            casts.append(pl.col(name).cast(pl.Float64))
    frame = frame.with_columns(casts)
    texts = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    return frame.with_columns(pl.when(pl.col(texts) != "").then(pl.col(texts))) if texts else frame


def rename_columns(head: Head, names: dict[str, str]) -> Head:
    """Gives columns without a name of their own a better one."""
    frame = head.frame.rename(names, strict=False)
    columns = ["line"] if head.cut else frame.columns
    return replace(head, frame=frame, form={**head.form, "columns": columns})
