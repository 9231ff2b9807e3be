"""A progress bar with the time left: lively on a terminal, a line of the log elsewhere."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

from tfrec.log import tell

_LINE_SECONDS = 30.0


def progress_bar(iterable: Iterable[Any] | None = None, **settings: Any) -> tqdm:
    """Returns a `tqdm` bar; off a terminal it says in the log each half minute how far it is."""
    is_lively = sys.stderr.isatty()
    interval = 1.0 if is_lively else _LINE_SECONDS
    settings |= {"delay": interval, "mininterval": interval, "maxinterval": interval}
    if is_lively:  # short work shows none, as `delay` says
        return tqdm(iterable, dynamic_ncols=True, **settings)
    return _Lines(iterable, file=io.StringIO(), ncols=0, **settings)


class _Lines(tqdm):
    """Says how far it is where there is no terminal to draw on."""

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        tell(msg or str(self))
