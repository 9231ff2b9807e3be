"""Which events train, validate and test, and the proof that nothing leaks between them.

Pure functions of one shard: all events of some users, sorted by (user_index, time, row). The events
of a user at one instant always share a split.

Splits are *ordered* where no event of a user is followed, or met in time, by one of an earlier
split: then every number estimates tomorrow. The others (random, k_fold by events, given) estimate
gaps in yesterday, and `check_leaks` says so.
"""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from tfrec.config import Split
from tfrec.config.cleaning import parse_moment
from tfrec.data.preparing.histories import mark_targets, pair_keys, starts_run
from tfrec.schema import SPLITS, Batch, Columns

_TRAIN, _VALIDATION, _TEST = range(len(SPLITS))
_MIN_TARGETS = 3  # one for each split


def is_ordered(split: Split) -> bool:
    """Tells whether no training event of a user is as late as one that validates or tests."""
    if split.kind == "k_fold":
        return split.by == "users"
    return split.kind in ("time", "leave_one_out", "user_ratio", "users")


def split_events(
    events: pl.DataFrame,
    split: Split,
    cuts: tuple[int, int] | None,
    user_keys: np.ndarray,
    seed: int,
    has_validation: bool = True,
) -> pl.DataFrame:
    """Gives every event its split.

    * time: by two moments, the same for all users.
    * leave_one_out: from the user's last instant with a target on: test; from the one before on:
      validation. One target is left in each. Users with fewer than three such instants train.
    * user_ratio: the same with shares of the user's instants with a target, rounded, at least one
      for each split.
    * random, k_fold by events: each instant by a hash of user and time.
    * users, k_fold by users: each user by a hash.
    * given: as the log says, the latest split of an instant. Without validation events in the log,
      each user's last training instants with a target begin them.

    A hash depends on nothing but the seed, the user's key and the time.

    Args:
        events: One shard; ``is_target`` tells what may be a target, see `mark_targets`; for
            ``given`` with column ``split``.
        split: The rule.
        cuts: For ``time``, where validation and test begin, see `time_cuts`.
        user_keys: uint64 [num_users + 1], by user index: `stable_hash` of the outside ids.
        seed: Of the hashes.
        has_validation: For ``given``, whether any event of the whole log is marked as validation.

    Returns:
        The events with ``split`` (int8, position in `SPLITS`).
    """
    user, time = events[Batch.USER_INDEX].to_numpy(), events[Columns.TIME].to_numpy()
    if split.kind == "time":
        assert cuts is not None
        parts = (time >= cuts[0]).astype(np.int8) + (time >= cuts[1])
    elif split.kind in ("leave_one_out", "user_ratio"):
        events = mark_targets(events)
        seen, total = _count_target_instants(user, time, events[Columns.IS_TARGET].to_numpy())
        num_validation, num_test = _num_later_targets(total, split)
        is_test = seen > total - num_test
        is_late = seen > total - num_test - num_validation
        parts = np.where(total >= _MIN_TARGETS, is_late.astype(np.int8) + is_test, _TRAIN)
    elif split.kind == "given":
        events = mark_targets(events)
        parts = _split_as_given(events, split, has_validation)
    else:
        hashes = scramble(scramble(np.array([seed % 2**64], np.uint64)) ^ user_keys[user])
        if split.kind == "random" or (split.kind == "k_fold" and split.by == "events"):
            hashes = scramble(hashes ^ time.astype(np.int64).view(np.uint64))
        if split.kind == "k_fold":
            fold = hashes % np.uint64(split.folds)
            is_test = fold == split.fold
            is_validation = fold == (split.fold + 1) % split.folds
        else:
            share = (hashes >> np.uint64(11)) * 2.0**-53  # uniform in [0, 1)
            is_test = share < split.test
            is_validation = ~is_test & (share < split.test + split.validation)
        parts = is_test * _TEST + is_validation * _VALIDATION
    events = events.with_columns(pl.Series(Columns.SPLIT, parts, dtype=pl.Int8))
    return _leave_one_target(events) if split.kind == "leave_one_out" else events


def time_cuts(times: np.ndarray, split: Split) -> tuple[int, int]:
    """Finds where validation and test begin: shares of all events, or the moments that are given.

    Events of one instant stay together, so ties can make the later parts larger, up to an empty
    validation part.

    Args:
        times: int64 [num_events], microseconds since 1970, at least one; any order.
        split: The rule, of kind ``time``.

    Returns:
        First moment of validation and of test, in microseconds.
    """
    if split.test_from is not None and split.validation_from is not None:
        return _microseconds(split.validation_from), _microseconds(split.test_from)
    n = len(times)
    # Rounded first: 10 * (0.1 + 0.2) is a little more than 3 in floating point.
    test_at = n - math.ceil(round(n * split.test, 6))
    validation_at = n - math.ceil(round(n * (split.test + split.validation), 6))
    ordered = np.partition(times, [validation_at, test_at])
    return int(ordered[validation_at]), int(ordered[test_at])


def stable_hash(ids: pl.Series) -> np.ndarray:
    """Hashes ids, the same on every machine and in every run.

    Args:
        ids: String [n].

    Returns:
        uint64 [n]: the first 8 bytes of BLAKE2b, little-endian.
    """
    distinct = ids.unique(maintain_order=True)
    digests = b"".join(
        hashlib.blake2b(value.encode(), digest_size=8).digest() for value in distinct
    )
    hashes = np.frombuffer(digests, "<u8").astype(np.uint64)
    if len(distinct) == len(ids):
        return hashes
    return ids.replace_strict(distinct, pl.Series(hashes), return_dtype=pl.UInt64).to_numpy()


def scramble(values: np.ndarray) -> np.ndarray:
    """Scatters uint64 [n] over all 64 bits.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014,
    SplitMix64, with the constants of its reference implementation.
    """
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def find_repeated_pairs(events: pl.DataFrame) -> np.ndarray:
    """Tells which events to drop: their user and item are asked for in a later split.

    In unordered splits they would let a model learn the answer by heart.

    Args:
        events: One shard with splits.

    Returns:
        bool [n], True for training events whose pair is validated or tested, and for validation
        events whose pair is tested.
    """
    pairs = pair_keys(events)
    split = events[Columns.SPLIT]
    is_asked = is_positive_example(events)
    repeats = np.zeros(events.height, bool)
    for later in (_VALIDATION, _TEST):
        asked = pairs.filter(is_asked & (split == later)).unique()
        repeats |= (pairs.is_in(asked.implode()) & (split < later)).to_numpy()
    return repeats


def is_positive_example(events: pl.DataFrame) -> pl.Series:
    """Returns bool [n]: events that a model learns or is tested on as wanted."""
    is_example = events[Columns.IS_TARGET] | events[Columns.IS_RANKED]
    return is_example & (events[Columns.LABEL] == 1)


def _leave_one_target(events: pl.DataFrame) -> pl.DataFrame:
    """Keeps, of several targets at one instant of validation or test, only the last row's."""
    is_target = events[Columns.IS_TARGET].to_numpy().copy()
    rows = np.flatnonzero(is_target & (events[Columns.SPLIT].to_numpy() != _TRAIN))
    of_rows = events.select(Batch.USER_INDEX, Columns.TIME)[rows]
    starts = starts_run(*(of_rows[name].to_numpy() for name in of_rows.columns))
    is_last = np.append(starts[1:], True)[: len(rows)]
    is_target[rows[~is_last]] = False
    return events.with_columns(pl.Series(Columns.IS_TARGET, is_target))


def _split_as_given(events: pl.DataFrame, split: Split, has_validation: bool) -> np.ndarray:
    given = events[Columns.SPLIT].to_numpy()
    if given.size and (given.min() < _TRAIN or given.max() > _TEST):
        raise ValueError(
            f"`split` must be a position in SPLITS. Received: {given.min()} to {given.max()}."
        )
    user, time = events[Batch.USER_INDEX].to_numpy(), events[Columns.TIME].to_numpy()
    starts = starts_run(user, time)
    instant = np.cumsum(starts) - 1
    parts = np.maximum.reduceat(given, np.flatnonzero(starts))[instant] if given.size else given
    if has_validation:
        return parts
    is_target = mark_targets(events)[Columns.IS_TARGET].to_numpy() & (parts == _TRAIN)
    seen, total = _count_target_instants(user, time, is_target)
    num_validation = np.clip(_round_share(total, split.validation), 1, total - 1)
    is_late = (seen > total - num_validation) & (total >= _MIN_TARGETS)
    return np.where(is_late & (parts == _TRAIN), _VALIDATION, parts)


def _count_target_instants(
    user: np.ndarray, time: np.ndarray, is_target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns int64 [n] each: the user's instants with a target up to the event's, and all."""
    starts = starts_run(user, time)
    instant = np.cumsum(starts) - 1
    has_target = np.bincount(instant, is_target, minlength=starts.sum()) > 0
    seen = np.cumsum(has_target)[instant]
    new_user = starts_run(user)
    user_row = np.cumsum(new_user) - 1
    first = np.flatnonzero(new_user)
    last = np.append(first[1:], len(user))[: len(first)] - 1
    before = seen[first] - has_target[instant[first]]
    return seen - before[user_row], (seen[last] - before)[user_row]


def _num_later_targets(total: np.ndarray, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Returns how many of `total` instants validate and test; one at least is left to train."""
    if split.kind == "leave_one_out":
        return np.ones_like(total), np.ones_like(total)
    num_test = np.clip(_round_share(total, split.test), 1, total - 2)
    num_validation = np.clip(_round_share(total, split.validation), 1, total - 1 - num_test)
    return num_validation, num_test


def _round_share(total: np.ndarray, share: float) -> np.ndarray:
    # Halves to even, as Python rounds; the inner rounding takes floating-point noise away.
    return np.rint(np.round(total * share, 6)).astype(np.int64)


def _microseconds(moment: str) -> int:
    return (parse_moment(moment) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
