"""Files that hold the same columns are one table."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import polars as pl

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column
from tfrec.autoconfig.samples import MAX_ROWS, NoTableError, Sample, read_sample
from tfrec.errors import DataError

_MAX_FILES = 1000
_MAX_DEPTH = 3
# Catalogues are small: more of their rows tell more ids.
_MAX_TABLE_ROWS = 200_000
# The first shards tell what the later ones hold.
_MAX_FULL_SAMPLES, _FEW_ROWS = 4, 100
_MONTHS = frozenset(
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
)


@dataclass(frozen=True, eq=False)
class Table:
    """Files of the same columns.

    Attributes:
        samples: Their first rows, in the order of their names.
        folder: Folder that paths are relative to.
        siblings: All files seen, relative to it.
    """

    samples: tuple[Sample, ...]
    folder: Path
    siblings: tuple[str, ...]

    @property
    def has_header(self) -> bool:
        """Whether its files name their columns."""
        return self.samples[0].has_header

    @cached_property
    def frame(self) -> pl.DataFrame:
        """The first rows of all files."""
        return pl.concat([sample.frame for sample in self.samples], how="vertical_relaxed")

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Its columns by their names; `column_3` is the name of one that has none."""
        return {
            name: Column(name, self.frame[name], self.has_header or not name.startswith("column_"))
            for name in self.frame.columns
        }

    @cached_property
    def paths(self) -> list[str]:
        """Its files, relative to the folder."""
        return [sample.path.relative_to(self.folder).as_posix() for sample in self.samples]

    @property
    def is_whole(self) -> bool:
        """Whether the first rows are all rows."""
        return all(sample.is_whole for sample in self.samples)

    @property
    def num_bytes(self) -> int:
        """Size of its files."""
        return sum(sample.path.stat().st_size for sample in self.samples)

    @cached_property
    def file_words(self) -> set[str]:
        """Words of its files' names."""
        return {word for path in self.paths for word in words.file_words(Path(path).stem)}

    @property
    def kind(self) -> str:
        """The kind of event that its files' names tell: ``purchase`` in purchases.csv."""
        return min((word for word in self.file_words if words.KINDS.get(word)), default="")

    @cached_property
    def splits(self) -> dict[str, list[int]]:
        """Numbers of the files by the split that their names speak of; empty for none."""
        splits: dict[str, list[int]] = {}
        for number, path in enumerate(self.paths):
            found = [words.SPLIT_FILE[w] for w in words.words_of(path) if w in words.SPLIT_FILE]
            splits.setdefault(found[0] if found else "", []).append(number)
        return splits

    def whole(self) -> Table:
        """Returns the same files with more rows."""
        if self.is_whole:
            return self
        samples = [s if s.is_whole else read_sample(s.path, _MAX_TABLE_ROWS) for s in self.samples]
        return replace(self, samples=tuple(samples))

    def rename(self, names: dict[str, str]) -> Table:
        """Returns the same files, without a header, with other names for their columns."""
        return replace(self, samples=tuple(sample.rename(names) for sample in self.samples))


def find_tables(paths: Sequence[Path]) -> tuple[Path, list[Table], dict[str, str]]:
    """Reads the first rows of all files and sorts them into tables.

    Returns:
        The folder, the tables, and the files left out with the reason.

    Raises:
        DataError: A path does not exist.
    """
    folder, files = _find_files(paths)
    left_out: dict[str, str] = {}
    if len(files) > _MAX_FILES:
        left_out[f"{len(files) - _MAX_FILES} more files"] = f"only {_MAX_FILES} are looked at"
        del files[_MAX_FILES:]
    siblings = tuple(path.relative_to(folder).as_posix() for path in files)
    tables: dict[object, list[Sample]] = {}
    seen: dict[str, int] = {}
    for path, sibling in zip(files, siblings, strict=True):
        stem = _stem_of(path)
        seen[stem] = seen.get(stem, 0) + 1
        try:
            sample = read_sample(path, MAX_ROWS if seen[stem] <= _MAX_FULL_SAMPLES else _FEW_ROWS)
        except NoTableError as error:
            left_out[sibling] = str(error)
            continue
        key: object = (stem, sample.is_sequence)
        if sample.has_header and sample.frame.width > 3:
            # Clicks and purchases may have the same columns; train and validation are one table.
            key = frozenset(word for word in words.words_of(path.stem) if word in words.KINDS)
        tables.setdefault((tuple(sample.frame.columns), key), []).append(sample)
    return folder, [Table(tuple(found), folder, siblings) for found in tables.values()], left_out


def _find_files(paths: Sequence[Path]) -> tuple[Path, list[Path]]:
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file or folder.")
    paths = [Path(os.path.normpath(path)) for path in paths]
    folder = Path(os.path.commonpath([path if path.is_dir() else path.parent for path in paths]))
    files: list[Path] = []
    for path in paths:
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        files += [f for f in found if f.is_file() and len(f.relative_to(path).parts) <= _MAX_DEPTH]
    hidden = (".", "_")
    shown = [f for f in files if not any(p.startswith(hidden) for p in f.relative_to(folder).parts)]
    return folder, list(dict.fromkeys(shown))


def _stem_of(path: Path) -> str:
    """Returns a file's name without numbers, months and splits."""
    kept = [word for word in words.words_of(path.name) if word not in words.SPLIT_FILE]
    return " ".join(word for word in kept if not word.isdigit() and word not in _MONTHS)
