"""What every reader gives: rows of a file that know where they stand in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True)
class RawBatch:
    """Some rows of one file, columns named and typed as there.

    Attributes:
        frame: The rows.
        origin: The file, for people.
        rows: int64 [n], the row of each in its file; 1 is the first below a header. Several rows
            may come from one row of the file.
    """

    frame: pl.DataFrame
    origin: str
    rows: np.ndarray
