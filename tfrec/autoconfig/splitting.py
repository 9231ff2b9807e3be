"""Which events should train, validate and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl

from tfrec.autoconfig.events import EventPart, Role
from tfrec.autoconfig.page import Entry
from tfrec.autoconfig.parts import time_column

_LATE_PART = 0.1
_MIN_GROUPED = 0.95


def guess_split(parts: list[EventPart]) -> tuple[list[EventPart], list[Entry], Entry | None]:
    """Guesses the split.

    Returns:
        The parts, cut by split where the files' names give it and times do not; the keys of
        `split`; and the key `order` of the events where there are neither times nor a sequence.
    """
    main = parts[0]
    order = None
    if "time" not in main.roles and "sequence" not in main.roles:
        order = _guess_order(main)
    if "split" in main.roles:
        return parts, _given("a column tells"), order
    has_parts = "train" in main.group.splits and len(main.group.splits) > 1
    if has_parts and "time" in main.roles:
        moments = _moments(main)
        if moments:
            return parts, moments, order
    if has_parts:
        return _cut(parts), _given("the files' names tell"), order
    if "time" in main.roles:
        why = "the past trains, the future tests; the honest split of a log with times"
        keys = [
            Entry("kind", "time", why),
            Entry("validation", 0.1, "a tenth of the events, before the test"),
            Entry("test", 0.1, "the last tenth"),
        ]
        return parts, keys, order
    if order is None or order.value == "rows":
        why = "each user's last event tests, the one before validates; there are no times"
        return parts, [Entry("kind", "leave_one_out", why)], order
    keys = [
        Entry("kind", "user_ratio", "there is no order in time, so a part of each user's events"),
        Entry("validation", 0.1, "a tenth of each user's events"),
        Entry("test", 0.1, "another tenth"),
    ]
    return parts, keys, order


def _given(who: str) -> list[Entry]:
    why = "held out of train for each user where no validation is marked"
    return [Entry("kind", "given", f"{who} what trains and what tests"),
            Entry("validation", 0.1, why)]  # fmt: skip


def _guess_order(part: EventPart) -> Entry:
    """Says whether rows stand in order: not if they are sorted by item."""
    if part.lists:
        return Entry("order", "rows", "no times; lists are taken as oldest first")
    frame = part.group.first.frame.select(
        user=pl.col(part.user.column), item=pl.col(part.item.column)
    )
    if _is_grouped(frame["item"]) and not _is_grouped(frame["user"]):
        why = "no times, and rows are grouped by item, which says nothing of when: drawn by lot"
        return Entry("order", "shuffled", why)
    if _is_grouped(frame["user"]):
        number = pl.col("item").cast(pl.Float64, strict=False)
        rising = frame.select((number.diff().over("user") > 0).drop_nulls().mean()).item()
        if rising is not None and rising > _MIN_GROUPED:
            why = "no times, and each user's items are sorted by id: drawn by lot"
            return Entry("order", "shuffled", why)
        return Entry("order", "rows", "no times; each user's rows are taken as oldest first")
    return Entry("order", "rows", "no times; rows are taken as oldest first, else: shuffled")


def _is_grouped(ids: pl.Series) -> bool:
    """Tells whether the rows of one id stand together."""
    runs = int((ids != ids.shift()).fill_null(True).sum())
    return ids.n_unique() < 0.7 * len(ids) and runs <= 1.05 * ids.n_unique()


def _moments(main: EventPart) -> list[Entry]:
    """Returns fixed moments where the files' times follow each other; empty where they do not."""
    ranges = {split: _time_range(main, numbers) for split, numbers in main.group.splits.items()}
    first, last = ranges["train"]
    later = [split for split in ("validation", "test") if split in ranges]
    test_first = ranges[later[-1]][0]
    if first is None or last is None or test_first is None or test_first < last:
        return []
    test_from = _round(test_first, last)
    if len(later) == 2:
        validation_first, validation_last = ranges["validation"]
        if validation_first is None or validation_last is None:
            return []
        if not last <= validation_first <= validation_last <= test_first:
            return []
        validation_from, test_from = (
            _round(validation_first, last),
            _round(test_first, validation_last),
        )
        validation_why = "the first time of the validation files"
    else:
        validation_from = test_from - (test_from - first) * _LATE_PART
        validation_from = validation_from.replace(minute=0, second=0, microsecond=0)
        if not first < validation_from < test_from:
            validation_from = test_from - (test_from - first) * _LATE_PART
        validation_why = "no files for it: the last tenth of the train files' time"
    names = " and ".join(later)
    exact = "" if all(h.is_whole or not h.form for h in main.group.heads) else " (first rows)"
    return [
        Entry("kind", "time", f"train files end {last}, {names} files begin {test_first}{exact}"),
        Entry("validation_from", validation_from.isoformat(), validation_why),
        Entry("test_from", test_from.isoformat(), f"the first time of the {later[-1]} files"),
    ]


def _round(moment: datetime, after: datetime) -> datetime:
    """Returns the beginning of the hour, unless train reaches into it."""
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return hour if hour > after else moment


def _time_range(part: EventPart, numbers: Sequence[int]) -> tuple[datetime | None, datetime | None]:
    """Returns the first and last time of some files; Parquet is asked as a whole."""
    name = part.roles["time"].column
    bounds: list[datetime] = []
    for number in numbers:
        head = part.group.heads[number]
        frame = head.frame
        if head.path.name.endswith(".parquet") and not isinstance(frame.schema[name], pl.List):
            scan = pl.scan_parquet(head.path).select(pl.col(name).drop_nulls())
            frame = pl.concat([scan.min().collect(), scan.max().collect()])
        times = time_column(part, frame).times
        bounds += [bound for bound in (times.min(), times.max()) if isinstance(bound, datetime)]
    return (min(bounds), max(bounds)) if bounds else (None, None)


def _cut(parts: list[EventPart]) -> list[EventPart]:
    """Makes a part of the files of each split, which says so in a column."""
    cut: list[EventPart] = []
    for part in parts:
        splits = part.group.splits
        has_test = "test" in splits
        for name, numbers in splits.items():
            split = name or "train"
            if split == "validation" and not has_test:
                split = "test"
            roles = {**part.roles, "split": Role("split", "made from the files' names")}
            cut.append(replace(part, numbers=numbers, split=split, roles=roles))
    return sorted(cut, key=lambda part: ("train", "validation", "test").index(part.split))
