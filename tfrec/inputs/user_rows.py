"""Training targets by their user, for batches of whole users."""

from __future__ import annotations

import numpy as np


class UserRows:
    """The rows of each user that has any, side by side.

    Args:
        rows: int [n], rows of `PreparedData.examples`.
        user: int [n], index of each row's user; those without a row of their own share 0.

    Attributes:
        num_users: Users that have rows; they are numbered by their index.
    """

    def __init__(self, rows: np.ndarray, user: np.ndarray) -> None:
        order = np.argsort(user, kind="stable")
        self._rows = rows[order]
        self._starts = np.append(np.unique(user[order], return_index=True)[1], len(rows))
        self.num_users = len(self._starts) - 1

    def gather(self, users: np.ndarray) -> np.ndarray:
        """Returns all rows of n users, one user after the other.

        Args:
            users: int [n], from 0 to num_users - 1.
        """
        first = self._starts[users]
        counts = self._starts[users + 1] - first
        before = np.cumsum(counts) - counts
        return self._rows[np.repeat(first - before, counts) + np.arange(counts.sum())]
