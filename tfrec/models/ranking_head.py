"""What the ranking model predicts beside the click."""

from __future__ import annotations

from dataclasses import dataclass

from tfrec.schema import Columns


@dataclass(frozen=True)
class RankingHead:
    """One more thing to predict of a shown item; it has either an event or a value.

    >>> RankingHead(event="cart").is_probability, RankingHead(value="rating").is_probability
    (True, False)

    Attributes:
        event: A kind of event: the probability that it follows (sigmoid).
        value: ``rating`` or ``watch_time``: its expected value (linear; of a watch time, its
            logarithm).
        weight: Of its loss beside that of the click.
    """

    event: str | None = None
    value: str | None = None
    weight: float = 1.0

    @property
    def is_probability(self) -> bool:
        """Whether it ends in a sigmoid."""
        return self.value is None

    @property
    def is_time(self) -> bool:
        """Whether it predicts log(1 + seconds)."""
        return self.value == Columns.WATCH_TIME
