"""Files that hold the same columns are parts of one table."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column, columns_of
from tfrec.autoconfig.heads import MAX_ROWS, Head, UnreadableError, read_head
from tfrec.autoconfig.page import Block, Entry, sql_name, sql_text
from tfrec.errors import DataError

_MAX_FILES = 1000
_MAX_DEPTH = 3
# Catalogues are small: more of their rows tell more ids.
_MAX_TABLE_ROWS = 200_000
# The first shards tell what the later ones hold.
_MAX_FULL_HEADS, _FEW_ROWS = 4, 100


@dataclass(frozen=True)
class Group:
    """Files of the same columns.

    Attributes:
        heads: Their first rows, in the order of their names.
        folder: Folder that paths are relative to.
        siblings: All files seen, relative to it.
    """

    heads: tuple[Head, ...]
    folder: Path
    siblings: tuple[str, ...]

    @property
    def first(self) -> Head:
        """The first file."""
        return self.heads[0]

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The first rows of all files."""
        frames = [head.frame for head in self.heads]
        return pl.concat(frames, how="vertical_relaxed") if len(frames) > 1 else frames[0]

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Its columns."""
        return columns_of(self.frame, self.first.has_names)

    @cached_property
    def paths(self) -> list[str]:
        """Its files, relative to the folder."""
        return [head.path.relative_to(self.folder).as_posix() for head in self.heads]

    @property
    def is_whole(self) -> bool:
        """Whether the first rows are all rows."""
        return all(head.is_whole for head in self.heads)

    @cached_property
    def file_words(self) -> set[str]:
        """Words of its files' names, and of the folders they stand in."""
        return {word for path in self.paths for word in words.file_words(Path(path).stem)}

    def split_of(self, path: str) -> str:
        """Returns the split that a file's name speaks of; empty for none."""
        found = [words.SPLIT_FILE[w] for w in words.words_of(path) if w in words.SPLIT_FILE]
        return found[0] if found else ""

    @cached_property
    def splits(self) -> dict[str, list[int]]:
        """Files by the split that their names speak of."""
        splits: dict[str, list[int]] = {}
        for number, path in enumerate(self.paths):
            splits.setdefault(self.split_of(path), []).append(number)
        return splits

    def whole(self) -> Group:
        """Returns the same files with more rows."""
        if self.is_whole:
            return self
        heads = tuple(
            head if head.is_whole else read_head(head.path, _MAX_TABLE_ROWS) for head in self.heads
        )
        return Group(heads, self.folder, self.siblings)

    @property
    def cutting(self) -> list[Block]:
        """Steps that cut lines into cells, where their number differs."""
        head = next((head for head in self.heads if head.cut), None)
        if head is None:
            return []
        width = head.frame.width
        why = f"lines of not just {width} cells are there ({head.num_odd:,}), so they are cut here"
        cells = [
            Entry(name, f"split_part(line, {sql_text(head.cut)}, {number})", f"cell {number}")
            for number, name in enumerate(head.frame.columns, 1)
        ]
        steps: list[Block] = [[Entry("compute", cells, why)]]
        if head.has_names:
            first = head.frame.columns[0]
            condition = f"{sql_name(first)} <> {sql_text(first)}"
            steps.append([Entry("where", condition, "the header is no row")])
        return steps

    def part(self, numbers: Sequence[int] | None = None, reason: str = "") -> list[Entry]:
        """Returns the keys that say which files these are and how to read them."""
        paths = self.paths if numbers is None else [self.paths[number] for number in numbers]
        pattern = self._pattern(paths)
        count = len(paths)
        why = reason or (f"{count} files of the same columns" if count > 1 else "the file")
        keys = [Entry("path", pattern, why)]
        form = next((head.form for head in self.heads if head.cut), self.first.form)
        keys += [Entry(key, value, self._form_why(key, value)) for key, value in form.items()]
        return keys

    def _form_why(self, key: str, value: object) -> str:
        if value == ["line"]:
            return "the whole line; steps take it apart"
        if key == "delimiter" and value:
            return f"splits the lines into {self.frame.width} cells"
        return _FORM_WHY[key]

    def _pattern(self, paths: list[str]) -> str | list[str]:
        """Returns one pattern that names these files and no others, else their list."""
        if len(paths) == 1:
            return paths[0]
        start = _shared_start(paths)
        end = _shared_start([path[len(start) :][::-1] for path in paths])[::-1]
        # "train_log.csv" and "validation_log.csv" are "*_log.csv" rather than "*n_log.csv".
        short_start = re.sub(r"[^\W_]+$", "", start)
        short_end = re.sub(r"^[^\W_]+", "", end)
        for pattern in (f"{short_start}*{short_end}", f"{start}*{end}"):
            found = [
                path for path in self.siblings
                if fnmatch.fnmatchcase(path, pattern) and path.count("/") == pattern.count("/")
            ]  # fmt: skip
            if sorted(found) == sorted(paths) and not re.search(r"[\[\]?]", pattern):
                return pattern
        return list(paths)


_FORM_WHY = {
    "format": "the name's ending does not tell",
    "delimiter": "none: a line is one cell",
    "quote": "quotes stand inside of texts, so they are ordinary characters",
    "encoding": "the file is no UTF-8; if letters look odd, try another",
    "columns": "names for a file without a header line, after what the cells look like",
}


def find_groups(paths: Sequence[Path]) -> tuple[Path, list[Group], dict[str, str]]:
    """Reads the heads of all files and sorts them into tables.

    Returns:
        The folder, the groups, and the files left out with the reason.

    Raises:
        DataError: A path does not exist.
    """
    folder, files, left_out = _expand(paths)
    siblings = tuple(path.relative_to(folder).as_posix() for path in files)
    groups: dict[object, list[Head]] = {}
    seen: dict[str, int] = {}
    for path, sibling in zip(files, siblings, strict=True):
        shape = _shape(path)
        seen[shape] = seen.get(shape, 0) + 1
        try:
            head = read_head(path, MAX_ROWS if seen[shape] <= _MAX_FULL_HEADS else _FEW_ROWS)
        except UnreadableError as error:
            left_out[sibling] = str(error)
            continue
        names = tuple(head.frame.columns)
        if head.has_names and len(names) > 3:
            # Clicks and purchases may have the same columns; train and validation are one table.
            kinds = frozenset(word for word in words.words_of(path.stem) if word in words.KINDS)
            groups.setdefault((names, kinds), []).append(head)
        else:
            groups.setdefault((names, shape, head.is_sequence), []).append(head)
    return folder, [Group(tuple(heads), folder, siblings) for heads in groups.values()], left_out


def _expand(paths: Sequence[Path]) -> tuple[Path, list[Path], dict[str, str]]:
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder.")
    if len(paths) == 1 and paths[0].is_dir():
        folder = paths[0]
    else:
        parents = {path if path.is_dir() else path.parent for path in paths}
        folder = Path(os.path.commonpath([os.path.normpath(parent) for parent in parents]))
    files: list[Path] = []
    for path in paths:
        found = sorted(path.rglob("*")) if path.is_dir() else [Path(os.path.normpath(path))]
        root = len(path.parts)
        files += [
            file for file in found
            if file.is_file()
            and (file is path or len(file.parts) - root <= _MAX_DEPTH)
            and not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
        ]  # fmt: skip
    files = list(dict.fromkeys(files))
    left_out = {}
    if len(files) > _MAX_FILES:
        left_out[f"{len(files) - _MAX_FILES} more files"] = f"only {_MAX_FILES} are looked at"
    return folder, files[:_MAX_FILES], left_out


def _shared_start(texts: Sequence[str]) -> str:
    low, high = min(texts), max(texts)
    return next((low[:at] for at, c in enumerate(low) if c != high[at]), low)


def _shape(path: Path) -> str:
    """Returns a file's name without numbers, months and splits."""
    kept = [word for word in words.words_of(path.name) if word not in words.SPLIT_FILE]
    return " ".join(word for word in kept if not word.isdigit() and word not in _MONTHS)


_MONTHS = set(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])


def table_block(parts: Sequence[Block]) -> object:
    """Returns one part as a mapping, several as a sequence."""
    return list(parts[0]) if len(parts) == 1 else [list(part) for part in parts]
