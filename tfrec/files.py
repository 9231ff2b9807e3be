"""The only writer of files and folders: beside, then renamed, so that nothing is half written."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tfrec.errors import ArtefactError


def write_folder(target: Path, write: Callable[[Path], None]) -> None:
    """Has a folder written beside `target` and puts it in its place, whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    work = target.with_name(f".{target.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        write(work)
        swap_folder(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def write_file(target: Path, text: str) -> None:
    """Writes beside, then renames, so that `target` is never half written."""
    beside = target.with_name(f".{target.name}.partial")
    beside.write_text(text, encoding="utf-8")
    beside.replace(target)


def write_json(target: Path, value: Any) -> None:
    """Writes a value for programs and people, as `write_file`."""
    write_file(target, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Reads what `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_array(target: Path, array: np.ndarray) -> None:
    """Writes one array in numpy's format, as `write_file`."""
    write_stream(target, lambda file: np.save(file, array, allow_pickle=False))


def write_arrays(target: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by name in numpy's format, as `write_file`."""
    write_stream(target, lambda file: np.savez(file, allow_pickle=False, **arrays))


def write_stream(target: Path, write: Callable[[BinaryIO], None]) -> None:
    """Has a file written beside `target` and puts it in its place, whole or not at all."""
    beside = target.with_name(f".{target.name}.partial")
    try:
        with beside.open("wb") as file:
            write(file)
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def file_stamps(paths: list[Path]) -> list[list[Any]]:
    """Returns path, size in bytes and time of change of each file, None for missing ones."""
    stamps: list[list[Any]] = []
    for path in paths:
        stat = path.stat() if path.exists() else None
        stamps.append([str(path), stat and stat.st_size, stat and stat.st_mtime_ns])
    return stamps


def swap_folder(work: Path, target: Path) -> None:
    """Puts a finished folder in the place of another."""
    replaced = target.with_name(f".{target.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if target.exists():
        os.rename(target, replaced)
    os.rename(work, target)
    shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder.

    Raises:
        ArtefactError: Another process is in it.
    """
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArtefactError(
                f"{folder}: another tfrec process works on this run; wait for it or choose "
                "another name (--set name=...)."
            ) from None
        yield
