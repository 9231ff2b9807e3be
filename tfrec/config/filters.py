"""The section of what answers may hold."""

from __future__ import annotations

from tfrec.config.base import PositiveInt, Section


class Filters(Section):
    """What answers may hold. Items of the history are always left out."""

    attributes: list[str] = []
    """Item features, categories, by which a request may allow or deny items."""
    available: list[str] = []
    """Item features, numbers: an item where one of them is 0 is never answered."""
    unsafe: list[str] = []
    """Item features, numbers: an item where one of them is not 0 is never answered."""
    caps: dict[str, PositiveInt] = {}
    """How many items with one value of a category an answer may hold."""
