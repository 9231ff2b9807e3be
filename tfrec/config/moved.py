"""Keys of earlier versions, and what to write now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

MOVED: dict[str, str] = {
    "encoder.pretraining.checkpoint_every": "run.checkpoint_seconds",
    "ranking.calibration.method": "ranking.calibration.kind",
    "retrieval.health.alarm": "run.health_alarm",
    "retrieval.jit_compile": "run.jit_compile",
    "retrieval.strategy": "run.strategy",
}
"""Old dotted key (``*`` for a name, or for the number of a part) to the new one; or, with a space
in it, to the rest of the sentence that begins with the old one."""


def find_moved(keys: Iterator[str]) -> str | None:
    """Returns what to say of the first key that has moved; None if none has."""
    for key in keys:
        parts = key.split(".")
        for old, new in MOVED.items():
            if _matches(parts, old.split(".")):
                is_key = " " not in new
                return f"{key!r} is now {new!r}." if is_key else f"{key!r} {new}"
    return None


def dotted_keys(tree: Any, prefix: str = "") -> Iterator[str]:
    """Yields the dotted key of everything in a tree of mappings and lists."""
    if isinstance(tree, Mapping):
        entries = [(str(name), value) for name, value in tree.items()]
    elif isinstance(tree, list):
        entries = [(str(number), value) for number, value in enumerate(tree)]
    else:
        return
    for name, value in entries:
        yield f"{prefix}{name}"
        yield from dotted_keys(value, f"{prefix}{name}.")


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    return len(parts) == len(pattern) and all(
        wanted in ("*", part) for part, wanted in zip(parts, pattern, strict=True)
    )
