"""A progress bar with the time left: lively on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress_bar(iterable: Iterable[Any] | None = None, **settings: Any) -> tqdm:
    """Returns a `tqdm` bar; off a terminal it prints every 15 seconds instead of every second."""
    interval = 1.0 if sys.stderr.isatty() else 15.0
    return tqdm(
        iterable,
        delay=interval,  # short work shows none
        mininterval=interval,
        maxinterval=interval,
        dynamic_ncols=True,
        **settings,
    )
