"""Section of the search for settings."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from tfrec.config.base import PositiveInt, Section


class TuningRange(Section):
    """Values that one setting is searched in."""

    low: float | int | None = None
    high: float | int | None = None
    log: bool = False
    """Whether small values are searched as finely as large ones."""
    step: float | int | None = None
    """Distance of the values; by default 1 between whole numbers, any between others."""
    choices: list[Any] | None = None
    """The values themselves, of any kind, in place of `low` and `high`."""

    @model_validator(mode="after")
    def _check_values(self) -> TuningRange:
        if self.choices is not None:
            given = self.changed(["low", "high", "log", "step"])
            if given:
                raise ValueError(f"wanted `choices` alone, got `{given[0]}` too")
            if not self.choices:
                raise ValueError("`choices`: wanted at least one value")
            return self
        if self.low is None or self.high is None:
            raise ValueError("wanted `low` and `high`, or `choices`")
        if self.low > self.high:
            raise ValueError(f"wanted `low` up to `high`, got {self.low} and {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("`log: true` goes with `low` above 0 and no `step`")
        if self.step is not None and self.step <= 0:
            raise ValueError(f"`step`: wanted a number above 0, got {self.step}")
        return self


class Tuning(Section):
    """The search for better settings, by what they reach on validation."""

    metric: str = Field(
        default="retrieval.validation_ndcg_at_10",
        pattern=r"^(retrieval|ranking)\.validation_[a-z0-9_]+$",
    )
    """Stage and name of a validation metric, of the round that the stage keeps. Errors and losses
    are made small, all others large."""
    trials: PositiveInt = 20
    ranges: dict[str, TuningRange] = {}
    """By key of the configuration (``ranking.learning_rate``)."""
