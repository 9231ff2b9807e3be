"""What is wrong with raw rows: found, counted, and either refused or repaired.

Every converter reports to the `RowChecks` of its batch. `Findings` decides: it raises at the first
problem, or it collects all of them, with the first places of each kind.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import polars as pl

from tfrec.data.reading.batch import RawBatch
from tfrec.errors import DataError

_MAX_PLACES = 5
_MAX_CELL_CHARS = 80


@dataclass(frozen=True)
class Place:
    """One offender."""

    file: str
    row: int
    got: str


@dataclass
class Finding:
    """One kind of problem.

    Attributes:
        table: events, items, users or relations.
        column: Column as the file calls it.
        wanted: What was wanted of a cell.
        count: Cells that are not so.
        repair: What is done about it, unless it is refused.
        is_refused: Whether no setting of `cleaning.bad_cells` lets it pass.
        hint: What the reader can do.
        places: The first offenders.
    """

    table: str
    column: str
    wanted: str
    count: int
    repair: str
    is_refused: bool = False
    hint: str = ""
    places: list[Place] = field(default_factory=list)

    def message(self) -> str:
        """Returns one line about the first offender."""
        first = self.places[0]
        more = self.count - 1
        others = f" ({more} more row{'s' * (more > 1)} like it)" if more else ""
        return (
            f"{first.file}: row {first.row}, column {self.column!r}: wanted {self.wanted}, "
            f"got {first.got}.{others}{self.hint and ' ' + self.hint}"
        )


class Findings:
    """All problems of one reading.

    Args:
        policy: ``raise``: the first problem raises `DataError`. ``repair``: only one that is
            refused. ``collect``: none.
        hidden: Columns whose cells no message shows.
    """

    def __init__(
        self,
        policy: Literal["raise", "repair", "collect"] = "raise",
        hidden: Collection[str] = (),
    ) -> None:
        self.policy = policy
        self._hidden = frozenset(hidden)
        self._found: dict[tuple[str, str, str], Finding] = {}

    def add(self, problem: Finding, places: Sequence[tuple[str, int, Any]]) -> None:
        """Counts a problem.

        Args:
            problem: What and how often; one of the same table, column and wish is added to it.
            places: File, row and cell of the first ones; at least one.

        Raises:
            DataError: The policy says so.
        """
        key = (problem.table, problem.column, problem.wanted)
        finding = self._found.setdefault(key, replace(problem, count=0, places=[]))
        finding.count += problem.count
        for file, row, cell in places[: _MAX_PLACES - len(finding.places)]:
            finding.places.append(Place(file, int(row), self._show(problem.column, cell)))
        if self.policy == "raise" or (self.policy == "repair" and problem.is_refused):
            raise DataError(finding.message())

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._found.values())

    def __len__(self) -> int:
        return len(self._found)

    def to_list(self) -> list[dict[str, Any]]:
        """Returns a form that JSON can hold."""
        return [asdict(finding) for finding in self]

    def _show(self, column: str, cell: Any) -> str:
        if isinstance(cell, pl.Series):
            cell = cell.to_list()
        if cell is None or cell == "":
            return "nothing"
        if column in self._hidden:
            return "a value that is not to be shown"
        text = repr(cell)
        return text if len(text) <= _MAX_CELL_CHARS else f"{text[:_MAX_CELL_CHARS]}..."


class RowChecks:
    """Collects the problems of one batch.

    Args:
        batch: The rows.
        table: Which table they belong to.
        findings: Where problems are counted.

    Attributes:
        dropped: bool [n], rows that cannot stay.
    """

    def __init__(self, batch: RawBatch, table: str, findings: Findings) -> None:
        self.batch = batch
        self.table = table
        self.findings = findings
        self.dropped = np.zeros(batch.frame.height, bool)

    @property
    def frame(self) -> pl.DataFrame:
        """The raw rows."""
        return self.batch.frame

    @property
    def origin(self) -> str:
        """The file, for people."""
        return self.batch.origin

    def reject(self, bad: pl.Series, column: str, wanted: str) -> None:
        """Reports rows that cannot stay; nulls in `bad` (bool [n]) count as False."""
        is_bad = bad.fill_null(False).to_numpy()
        self._report(is_bad, Finding(self.table, column, wanted, 0, "row dropped"))
        self.dropped |= is_bad

    def refuse(self, bad: pl.Series, column: str, wanted: str, hint: str) -> None:
        """Reports rows that no repair lets pass; nulls in `bad` (bool [n]) count as False."""
        is_bad = bad.fill_null(False).to_numpy()
        self._report(is_bad, Finding(self.table, column, wanted, 0, "none", True, hint))
        self.dropped |= is_bad

    def blank(self, bad: pl.Series, column: str, wanted: str) -> None:
        """Reports cells that become unknown; nulls in `bad` (bool [n]) count as False."""
        problem = Finding(self.table, column, wanted, 0, "cell made unknown")
        self._report(bad.fill_null(False).to_numpy(), problem)

    def fail(self, column: str, wanted: str, got: str) -> DataError:
        """Returns the error for a whole column of a wrong kind."""
        return DataError(f"{self.origin}: column {column!r}: wanted {wanted}, got {got}.")

    def _report(self, bad: np.ndarray, problem: Finding) -> None:
        at = np.flatnonzero(bad)
        if not at.size:
            return
        problem.count = int(at.size)
        cells = self.frame[problem.column]
        places = [(self.origin, self.batch.rows[row], cells[int(row)]) for row in at[:_MAX_PLACES]]
        self.findings.add(problem, places)
