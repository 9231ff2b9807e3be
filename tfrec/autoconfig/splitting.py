"""Which events should train, validate and test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import polars as pl

from tfrec.autoconfig.columns import Column
from tfrec.autoconfig.events import EventPart, Role
from tfrec.autoconfig.page import Entry

_LATE_PART = 0.1
_MIN_GROUPED = 0.95


def guess_split(parts: list[EventPart]) -> tuple[list[EventPart], list[Entry], list[Entry]]:
    """Guesses the split.

    Returns:
        The parts, cut by split where the files' names give it and times do not; the keys of
        `split`; and the key `order` of the events where there are neither times nor a sequence.
    """
    main = parts[0]
    has_time, has_order = "time" in main.roles, "sequence" in main.roles
    order = [] if has_time or has_order else [_guess_order(main)]
    if "split" in main.roles:
        return parts, _given("a column tells"), order
    if "train" in main.table.splits and len(main.table.splits) > 1:
        if has_time and (moments := _moments(main)):
            return parts, moments, order
        return _cut(parts), _given("the files' names tell"), order
    if has_time:
        kind, why = (
            "time",
            "the past trains, the future tests; the honest split of a log with times",
        )
        sizes = ("a tenth of the events, before the test", "the last tenth")
    elif order and order[0].value == "shuffled":
        kind, why = "user_ratio", "there is no order in time, so a part of each user's events"
        sizes = ("a tenth of each user's events", "another tenth")
    else:
        why = "each user's last event tests, the one before validates; there are no times"
        return parts, [Entry("kind", "leave_one_out", why)], order
    ratios = zip(("validation", "test"), sizes, strict=True)
    return parts, [Entry("kind", kind, why), *(Entry(n, 0.1, size) for n, size in ratios)], order


def _given(who: str) -> list[Entry]:
    why = "held out of train for each user where no validation is marked"
    kind = Entry("kind", "given", f"{who} what trains and what tests")
    return [kind, Entry("validation", 0.1, why)]


def _guess_order(part: EventPart) -> Entry:
    """Says whether rows stand in order: not if they are sorted by item."""
    if part.lists:
        return Entry("order", "rows", "no times; lists are taken as oldest first")
    rows = part.table.samples[0].frame.select(user=part.user.name, item=part.item.name)
    why = "rows are taken as oldest first, else: shuffled"
    if _is_grouped(rows["user"]):
        number = pl.col("item").cast(pl.Float64, strict=False)
        rising = rows.select((number.diff().over("user") > 0).drop_nulls().mean()).item()
        if rising is not None and rising > _MIN_GROUPED:
            why = "no times, and each user's items are sorted by id: drawn by lot"
            return Entry("order", "shuffled", why)
        why = "each user's rows are taken as oldest first"
    elif _is_grouped(rows["item"]):
        why = "no times, and rows are grouped by item, which says nothing of when: drawn by lot"
        return Entry("order", "shuffled", why)
    return Entry("order", "rows", f"no times; {why}")


def _is_grouped(ids: pl.Series) -> bool:
    """Tells whether the rows of one id stand together."""
    return ids.n_unique() < 0.7 * len(ids) and ids.rle_id().n_unique() <= 1.05 * ids.n_unique()


def _moments(main: EventPart) -> list[Entry]:
    """Returns fixed moments where the files' times follow each other; empty where they do not."""
    names = [name for name in ("train", "validation", "test") if name in main.table.splits]
    ranges = [_time_range(main, main.table.splits[name]) for name in names]
    bounds = [moment for pair in ranges for moment in pair]
    if len(names) < 2 or len(bounds) < 2 * len(names) or bounds != sorted(bounds):
        return []
    first, last, test_first = bounds[0], bounds[1], bounds[-2]
    test_from = _round(test_first, bounds[-3])
    if len(names) == 3:
        validation_from = _round(bounds[2], last)
        why = "the first time of the validation files"
    else:
        late = test_from - (test_from - first) * _LATE_PART
        validation_from = _round(late, first)
        why = "no files for it: the last tenth of the train files' time"
    later = " and ".join(names[1:])
    exact = "" if all(s.is_whole or not s.form for s in main.table.samples) else " (first rows)"
    order = f"train files end {last}, {later} files begin {test_first}{exact}"
    test_why = f"the first time of the {names[-1]} files"
    return [
        Entry("kind", "time", order),
        Entry("validation_from", validation_from.isoformat(), why),
        Entry("test_from", test_from.isoformat(), test_why),
    ]


def _round(moment: datetime, after: datetime) -> datetime:
    """Returns the beginning of the hour, unless that is too early."""
    hour = moment.replace(minute=0, second=0, microsecond=0)
    return hour if hour > after else moment


def _time_range(part: EventPart, numbers: Sequence[int]) -> list[datetime]:
    """Returns the first and last time of some files; Parquet is asked as a whole."""
    name = part.roles["time"].name
    bounds: list[datetime] = []
    for number in numbers:
        sample = part.table.samples[number]
        cells = sample.frame[name]
        if isinstance(cells.dtype, pl.List):
            cells = cells.head(2000).explode()
        elif sample.path.name.endswith(".parquet"):
            scan = pl.scan_parquet(sample.path).select(pl.col(name).drop_nulls())
            cells = pl.concat([scan.min().collect(), scan.max().collect()])[name]
        times = Column(name, cells).times
        bounds += [bound for bound in (times.min(), times.max()) if isinstance(bound, datetime)]
    return [min(bounds), max(bounds)] if bounds else []


def _cut(parts: list[EventPart]) -> list[EventPart]:
    """Makes a part of the files of each split, which says so in a column."""
    cut: list[EventPart] = []
    for part in parts:
        for name, numbers in part.table.splits.items():
            is_test = name == "validation" and "test" not in part.table.splits
            made = Role(Column("split", pl.Series(dtype=pl.String)), "made from the files' names")
            roles = {**part.roles, "split": made}
            split = "test" if is_test else name or "train"
            cut.append(replace(part, numbers=numbers, split=split, roles=roles))
    return sorted(cut, key=lambda part: ("train", "validation", "test").index(part.split))
