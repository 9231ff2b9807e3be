"""What is repaired, which events train and test, and what is never written."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from tfrec.config.base import Column, Fraction, PositiveFloat, PositiveInt, Section


def parse_moment(value: str) -> datetime:
    """Reads a moment in ISO 8601; without a time zone it is UTC."""
    moment = datetime.fromisoformat(value)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _write_moment(value: object) -> object:
    """Turns what YAML reads an unquoted date as into text."""
    return value.isoformat() if isinstance(value, date) else value


def _check_iso(value: str) -> str:
    try:
        parse_moment(value)
    except ValueError:
        raise ValueError("wanted a date or time in ISO 8601, as 2026-01-31") from None
    return value


IsoTime = Annotated[str, AfterValidator(_check_iso), BeforeValidator(_write_moment)]


class Sessions(Section):
    """Rules about runs of a user's events without a long pause."""

    gap_minutes: PositiveFloat = 30.0
    """A longer pause begins a new session."""
    min_events: PositiveInt = 1
    """Shorter sessions are dropped."""
    max_events: PositiveInt | None = None
    """Longer sessions (crawlers, scripts) are dropped."""

    @model_validator(mode="after")
    def _check_bounds(self) -> Sessions:
        if self.max_events is not None and self.max_events < self.min_events:
            raise ValueError("wanted `max_events` not below `min_events`")
        return self


class KCore(Section):
    """Events each user and each item must keep; applied until nothing changes."""

    users: PositiveInt = 1
    items: PositiveInt = 1


class Cleaning(Section):
    """Repairs, each counted in the report. The raw files are never changed."""

    bad_cells: Literal["error", "repair"] = "error"
    """``repair``: a feature's cell that does not fit becomes unknown, and a row whose id, time or
    label does not fit is dropped."""
    duplicates: Literal["drop", "keep"] = "drop"
    """Events equal to an earlier one in every declared column."""
    earliest: IsoTime = "1970-01-01"
    latest: IsoTime | None = None
    """Times outside do not fit; None: the end of tomorrow (UTC)."""
    sessions: Sessions | None = None
    k_core: KCore | None = None
    html: bool = True
    """Whether HTML entities in texts become the characters they stand for."""
    max_text_chars: PositiveInt = 10000
    """Longer texts are cut."""

    @model_validator(mode="after")
    def _check_times(self) -> Cleaning:
        if self.latest and parse_moment(self.latest) <= parse_moment(self.earliest):
            raise ValueError(
                f"wanted `latest` after `earliest`, got {self.latest} and {self.earliest}"
            )
        return self


class Split(Section):
    """Which events train and which test. See docs/data.md for what each kind promises."""

    kind: Literal["time", "leave_one_out", "user_ratio", "random", "k_fold", "users", "given"] = (
        "time"
    )
    validation: Fraction = 0.1
    """Share of the events (time, random), of each user's targets (user_ratio) or of users (users).
    ``given``: share of each user's training targets, the last, unless the log marks its own."""
    test: Fraction = 0.1
    validation_from: IsoTime | None = None
    test_from: IsoTime | None = None
    """``time``: fixed moments in place of shares."""
    folds: Annotated[int, Field(ge=3)] = 5
    fold: Annotated[int, Field(ge=0)] = 0
    """``k_fold``: the fold that tests; the next one validates."""
    by: Literal["events", "users"] = "events"
    """``k_fold``: whether folds hold events or whole users."""

    @model_validator(mode="after")
    def _check_parts(self) -> Split:
        if self.test <= 0 or self.validation <= 0 or self.validation + self.test >= 1:
            raise ValueError("`validation` and `test` must be above 0 and leave a part for train")
        if (self.validation_from is None) != (self.test_from is None):
            raise ValueError("`validation_from` and `test_from` go together: give both or neither")
        if self.test_from is not None and self.kind != "time":
            raise ValueError("`test_from` is for `kind: time`")
        first, last = self.validation_from, self.test_from
        if first and last and parse_moment(first) >= parse_moment(last):
            raise ValueError(f"wanted `test_from` after `validation_from`, got {last} and {first}")
        if self.kind != "k_fold" and self.changed(["fold", "folds", "by"]):
            hint = "; `kind: users` splits by users" if self.by == "users" else ""
            raise ValueError(f"`folds`, `fold` and `by` are for `kind: k_fold`{hint}")
        if self.fold >= self.folds:
            raise ValueError("`fold` counts from 0 and must be below `folds`")
        return self


def _check_variable(value: str) -> str:
    # Small letters are refused, since a key in hexadecimal would pass for a name.
    if not re.fullmatch("[A-Z_][A-Z0-9_]*", value):
        raise ValueError(
            "wanted the name of an environment variable in capitals, as TFREC_KEY; the key itself "
            "must not stand in this file"
        )
    return value


class Privacy(Section):
    """What must not reach any file that tfrec writes."""

    pseudonym_key: Annotated[str, AfterValidator(_check_variable)] | None = None
    """Name of the environment variable with the key: user ids become HMAC-SHA-256 of it. The key
    itself is never stored."""
    never_write: list[Column] = []
    """Columns that are dropped when read and whose values no message shows."""
