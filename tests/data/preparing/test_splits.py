import hashlib
import math
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.config import Split
from tfrec.data.preparing.histories import build_contexts, build_histories, mark_targets
from tfrec.data.preparing.leaks import check_leaks, measure_leaks, merge_leaks
from tfrec.data.preparing.splits import (
    find_repeated_pairs,
    is_ordered,
    scramble,
    split_events,
    stable_hash,
    time_cuts,
)
from tfrec.errors import DataError

NUM_LOGS = 200
FEW_LOGS = 50  # where no oracle is asked
TRAIN, VALIDATION, TEST = 0, 1, 2
TYPES: dict[str, Any] = {
    "user_index": pl.UInt32, "item_index": pl.Int32, "time": pl.Int64, "row": pl.Int64,
    "label": pl.Int8, "is_ranked": pl.Boolean, "is_target": pl.Boolean, "text": pl.String,
    "query": pl.String, "impression": pl.String, "split": pl.Int8,
}  # fmt: skip
DEFAULTS: dict[str, Any] = {
    "label": 1, "is_ranked": True, "is_target": True, "text": "", "query": "", "impression": "",
    "split": -1,
}  # fmt: skip
KEYS = np.concatenate([[np.uint64(0)], stable_hash(pl.Series([f"u{n}" for n in range(5000)]))])
RULES = {
    "time": Split(kind="time", validation=0.2, test=0.2),
    "leave_one_out": Split(kind="leave_one_out"),
    "user_ratio": Split(kind="user_ratio", validation=0.3, test=0.2),
    "random": Split(kind="random", validation=0.2, test=0.3),
    "k_fold": Split(kind="k_fold", folds=4, fold=3),
    "k_fold_users": Split(kind="k_fold", folds=3, fold=1, by="users"),
    "users": Split(kind="users", validation=0.2, test=0.3),
    "given": Split(kind="given"),
}
ORDERED = [name for name, rule in RULES.items() if is_ordered(rule)]
HASHED = ["random", "k_fold", "k_fold_users", "users"]


def shard(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Returns a shard of the given rows, in their order."""
    return pl.DataFrame([{"row": n} | DEFAULTS | row for n, row in enumerate(rows)], schema=TYPES)


def events(*rows: tuple[int, int, int], **columns: list[Any]) -> pl.DataFrame:
    """Returns a shard from (user, time, item) and further columns."""
    return shard(
        [
            {"user_index": user, "time": time, "item_index": item}
            | {name: values[n] for name, values in columns.items()}
            for n, (user, time, item) in enumerate(rows)
        ]
    )


def random_shard(seed: int) -> pl.DataFrame:
    """Returns a small log with ties in time, repeated items, negatives and any given splits."""
    rng = np.random.default_rng(seed)
    num_items, num_times = rng.integers(3, 40), rng.integers(2, 40)
    rows = [
        {
            "user_index": int(user),
            "time": int(time),
            "item_index": int(rng.integers(1, num_items)),
            "label": int(rng.random() < 0.7),
            "is_target": bool(rng.random() < 0.8),
            "is_ranked": bool(rng.random() < 0.7),
            "query": str(rng.choice(["", "red"])),
            "split": int(rng.choice(3, p=[0.7, 0.1, 0.2])),
        }
        for user in sorted(rng.choice(20, rng.integers(1, 6), replace=False) + 1)
        for time in np.sort(rng.integers(0, num_times, rng.integers(1, 30)))
    ]
    return shard(rows)


def split_shard(log: pl.DataFrame, rule: Split, seed: int = 1, **flags: bool) -> pl.DataFrame:
    """Returns the shard with its splits, as if it was the whole log."""
    cuts = time_cuts(log["time"].to_numpy(), rule) if rule.kind == "time" else None
    return split_events(log, rule, cuts, KEYS, seed, **flags)


def finish(log: pl.DataFrame, rule: Split) -> tuple[pl.DataFrame, pl.DataFrame, tuple]:
    """Returns events, contexts and histories as prepared data would hold them."""
    log = split_shard(log, rule)
    if rule in (RULES["random"], RULES["k_fold"]):
        log = log.filter(~pl.Series(find_repeated_pairs(log)))
    contexts, log = build_contexts(mark_targets(log), [])
    return log, contexts, ranges(log, contexts, is_ordered(rule))


def ranges(log: pl.DataFrame, contexts: pl.DataFrame, ordered: bool) -> tuple:
    """Returns the stored items, and where each history starts and ends."""
    found = build_histories(log, contexts, ordered)
    return found.items, found.start, found.end


def by_user(rows: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found = defaultdict(list)
    for row in rows:
        found[row["user_index"]].append(row)
    return found


# Definitions, by plain loops


def expected_by_time(rows: list[dict[str, Any]], rule: Split) -> list[int]:
    times = sorted(row["time"] for row in rows)
    num_test = math.ceil(round(len(rows) * rule.test, 6))
    num_late = math.ceil(round(len(rows) * (rule.test + rule.validation), 6))
    test_from, validation_from = times[-num_test], times[-num_late]
    return [
        TEST if row["time"] >= test_from
        else VALIDATION if row["time"] >= validation_from
        else TRAIN
        for row in rows
    ]  # fmt: skip


def target_times(rows: list[dict[str, Any]]) -> list[int]:
    """The instants at which a user has a target: a first positive event with an item."""
    found: set[int] = set()
    times = []
    for row in rows:
        if row["label"] == 1 and row["item_index"] not in found:
            found.add(row["item_index"])
            if row["is_target"] and row["time"] not in times:
                times.append(row["time"])
    return times


def expected_by_last_targets(rows: list[dict[str, Any]], rule: Split) -> list[int]:
    parts = []
    for own in by_user(rows).values():
        times = target_times(own)
        n = len(times)
        if n < 3:
            parts += [TRAIN] * len(own)
            continue
        num_test = num_validation = 1
        if rule.kind == "user_ratio":
            num_test = max(1, round(n * rule.test))
            num_validation = max(1, round(n * rule.validation))
            while num_test + num_validation >= n:
                if num_validation > 1:
                    num_validation -= 1
                else:
                    num_test -= 1
        test_from, validation_from = times[-num_test], times[-num_test - num_validation]
        parts += expected_from(own, validation_from, test_from)
    return parts


def expected_from(
    rows: list[dict[str, Any]], validation_from: float, test_from: float
) -> list[int]:
    return [(row["time"] >= validation_from) + (row["time"] >= test_from) for row in rows]


def expected_as_given(rows: list[dict[str, Any]], rule: Split, has_validation: bool) -> list[int]:
    parts = []
    for own in by_user(rows).values():
        latest = [max(o["split"] for o in own if o["time"] == row["time"]) for row in own]
        split_at = {row["time"]: part for row, part in zip(own, latest, strict=True)}
        train_times = [time for time in target_times(own) if split_at[time] == TRAIN]
        n = len(train_times)
        if not has_validation and n >= 3:
            num_validation = min(max(1, round(n * rule.validation)), n - 1)
            begin = train_times[-num_validation]
            latest = [
                VALIDATION if part == TRAIN and row["time"] >= begin else part
                for row, part in zip(own, latest, strict=True)
            ]
        parts += latest
    return parts


# Every kind, row by row


def test_split_by_time_follows_the_definition():
    for seed in range(NUM_LOGS):
        log = random_shard(seed)
        for shares in ((0.1, 0.1), (0.2, 0.3), (0.05, 0.6)):
            rule = Split(validation=shares[0], test=shares[1])
            found = split_shard(log, rule)["split"].to_list()
            assert found == expected_by_time(log.to_dicts(), rule), seed


@pytest.mark.parametrize(
    "rule",
    [
        RULES["leave_one_out"],
        *(
            Split(kind="user_ratio", validation=validation, test=test)
            for validation, test in [(0.1, 0.1), (0.3, 0.3), (0.25, 0.5), (0.6, 0.39), (0.01, 0.9)]
        ),
    ],
    ids=lambda rule: f"{rule.kind}-{rule.validation}-{rule.test}",
)
def test_split_by_last_targets_follows_the_definition(rule: Split):
    seen: Counter[int] = Counter()
    for seed in range(NUM_LOGS):
        log = random_shard(seed)
        found = split_shard(log, rule)["split"].to_list()
        assert found == expected_by_last_targets(log.to_dicts(), rule), seed
        seen.update(found)
    assert min(seen[part] for part in (TRAIN, VALIDATION, TEST)) > NUM_LOGS


@pytest.mark.parametrize("has_validation", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.4, 0.89])
def test_split_as_given_follows_the_definition(has_validation: bool, share: float):
    rule = Split(kind="given", validation=share, test=0.1)
    for seed in range(NUM_LOGS):
        log = random_shard(seed)
        if not has_validation:
            marked = pl.when(pl.col("split") == VALIDATION).then(TRAIN).otherwise(pl.col("split"))
            log = log.with_columns(marked.cast(pl.Int8).alias("split"))
        found = split_shard(log, rule, has_validation=has_validation)["split"].to_list()
        assert found == expected_as_given(log.to_dicts(), rule, has_validation), seed


@pytest.mark.parametrize("name", RULES)
def test_events_of_one_instant_share_a_split(name: str):
    for seed in range(FEW_LOGS):
        log = split_shard(random_shard(seed), RULES[name])
        assert (
            log.group_by("user_index", "time").agg(pl.col("split").n_unique())["split"].max() == 1
        )


@pytest.mark.parametrize("name", ORDERED)
def test_ordered_splits_have_no_event_as_late_as_a_later_split(name: str):
    for seed in range(NUM_LOGS):
        for own in by_user(split_shard(random_shard(seed), RULES[name]).to_dicts()).values():
            for earlier in own:
                for later in own:
                    if earlier["split"] < later["split"]:
                        assert earlier["time"] < later["time"], seed


@pytest.mark.parametrize("name", RULES)
def test_splitting_changes_nothing_but_split_and_targets(name: str):
    log = random_shard(3)
    found = split_shard(log, RULES[name])
    assert found.drop("split", "is_target").equals(log.drop("split", "is_target"))
    assert found["split"].dtype == pl.Int8
    assert not (found["is_target"] & ~log["is_target"]).any()


@pytest.mark.parametrize("name", RULES)
def test_shard_without_events_gives_an_empty_split(name: str):
    found = split_events(shard([]), RULES[name], (1, 2), KEYS, 1, has_validation=False)
    assert found["split"].to_list() == []
    assert find_repeated_pairs(found).tolist() == []


# Time


@pytest.mark.parametrize(
    ("times", "shares", "cuts"),
    [
        ([3, 1, 2, 9, 8, 7, 6, 5, 4, 10], (0.2, 0.2), (7, 9)),
        # 10 * (0.1 + 0.2) is a little more than 3 in floating point.
        (list(range(1, 11)), (0.1, 0.2), (8, 9)),
        ([1, 2, 3, 4, 5, 5, 5, 5], (0.25, 0.25), (5, 5)),  # validation falls together with test
        ([1, 2, 3], (0.1, 0.1), (3, 3)),
        ([1, 2, 3, 4], (0.3, 0.1), (3, 4)),
    ],
)
def test_time_cuts_are_quantiles(times: list[int], shares: tuple, cuts: tuple):
    rule = Split(validation=shares[0], test=shares[1])
    assert time_cuts(np.array(times), rule) == cuts


@pytest.mark.parametrize(
    ("moment", "microseconds"),
    [
        ("1970-01-02", 86_400_000_000),
        ("1970-01-01T00:00:01.000001", 1_000_001),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1969-12-31T23:59:59Z", -1_000_000),
    ],
)
def test_time_cuts_are_the_given_moments(moment: str, microseconds: int):
    rule = Split(validation_from=moment, test_from="2000-01-01")
    assert time_cuts(np.array([5]), rule) == (microseconds, 946_684_800_000_000)


# Last targets


def test_leave_one_out_leaves_no_train_event_behind_the_validation_target():
    log = events(
        (1, 1, 1), (1, 2, 2), (1, 3, 9), (1, 4, 3), (1, 5, 9), (1, 5, 1), (1, 6, 4), (1, 7, 9),
        label=[1, 1, 0, 1, 0, 1, 1, 0],
    )  # fmt: skip
    # Targets at 1, 2, 4 and 6; the second click on item 1 at 5 is none.
    assert split_shard(log, RULES["leave_one_out"])["split"].to_list() == [0, 0, 0, 1, 1, 1, 2, 2]


def test_leave_one_out_keeps_the_last_of_targets_at_one_instant():
    log = events(
        (1, 1, 1), (1, 1, 2), (1, 2, 3), (1, 2, 4), (1, 3, 5), (1, 3, 6), (1, 3, 7),
        label=[1, 1, 1, 1, 1, 1, 0],
    )  # fmt: skip
    found = split_shard(log, RULES["leave_one_out"])
    assert found["split"].to_list() == [0, 0, 1, 1, 2, 2, 2]
    assert found["is_target"].to_list() == [True, True, False, True, False, True, False]


def test_leave_one_out_tests_one_target_of_each_user_with_three_instants():
    for seed in range(NUM_LOGS):
        log = random_shard(seed)
        found = by_user(split_shard(log, RULES["leave_one_out"]).to_dicts())
        for user, rows in by_user(log.to_dicts()).items():
            targets = Counter(row["split"] for row in found[user] if row["is_target"])
            has_three = len(target_times(rows)) >= 3
            assert (targets[VALIDATION], targets[TEST]) == (has_three, has_three), (seed, user)
            assert targets[TRAIN] >= has_three


def test_user_ratio_rounds_each_users_own_targets():
    rows = [(1, n, n) for n in range(1, 11)] + [(2, n, n) for n in (1, 2, 3)] + [(3, 1, 1)]
    rows += [(3, 2, 2)]
    rule = Split(kind="user_ratio", validation=0.1, test=0.3)
    assert split_shard(events(*rows), rule)["split"].to_list() == (
        [0] * 6 + [1] + [2] * 3  # ten targets: one and three
        + [0, 1, 2]  # three: at least one each
        + [0, 0]  # two: all train
    )  # fmt: skip


# Given


def test_given_split_of_an_instant_is_the_latest():
    log = events((1, 1, 1), (1, 1, 2), (1, 2, 3), (2, 1, 1), split=[0, 2, 1, 0])
    found = split_shard(log, RULES["given"], has_validation=True)
    assert found["split"].to_list() == [2, 2, 1, 0]


def test_given_split_without_validation_takes_it_from_the_end_of_train():
    log = events(*((1, n, n) for n in range(1, 7)), split=[0, 2, 0, 0, 0, 2])
    rule = Split(kind="given", validation=0.5)
    found = split_shard(log, rule, has_validation=False)
    assert found["split"].to_list() == [0, 2, 0, 1, 1, 2]  # two of four


def test_given_split_that_is_not_marked_is_refused():
    with pytest.raises(ValueError, match=r"Received: -1 to 0\."):
        split_shard(events((1, 1, 1), (1, 2, 2), split=[0, -1]), RULES["given"])


# Hashes


@pytest.mark.parametrize("name", HASHED)
def test_hashed_splits_depend_on_neither_other_users_nor_numbering(name: str):
    for seed in range(FEW_LOGS):
        log = split_shard(random_shard(seed), RULES[name])
        for number, user in enumerate(log["user_index"].unique()):
            own = log.filter(pl.col("user_index") == user)
            alone = own.with_columns(pl.lit(number + 1, pl.UInt32).alias("user_index"))
            keys = np.zeros(10, np.uint64)
            keys[number + 1] = KEYS[user]
            found = split_events(alone.drop("split"), RULES[name], None, keys, 1)
            assert found["split"].equals(own["split"]), seed


@pytest.mark.parametrize("name", HASHED)
def test_hashed_splits_do_not_depend_on_the_order_of_rows(name: str):
    for seed in range(FEW_LOGS):
        log = random_shard(seed)
        order = np.random.default_rng(seed).permutation(log.height)
        mixed = log[order].with_columns(pl.Series("row", range(log.height)))
        mixed = mixed.sort("user_index", "time", "row")
        both = [
            split_shard(part, RULES[name]).select("user_index", "time", "split").unique()
            for part in (log, mixed)
        ]
        assert both[0].sort(pl.all()).equals(both[1].sort(pl.all()))


@pytest.mark.parametrize(
    ("name", "shares"),
    [
        ("random", (0.5, 0.2, 0.3)),
        ("users", (0.5, 0.2, 0.3)),
        ("k_fold", (0.5, 0.25, 0.25)),
        ("k_fold_users", (1 / 3, 1 / 3, 1 / 3)),
    ],
)
def test_hashed_splits_have_the_declared_shares(name: str, shares: tuple):
    log = events(*((user, time, 1) for user in range(1, 5001) for time in range(2)))
    for seed in (1, 2):
        found = split_shard(log, RULES[name], seed)["split"].to_numpy()
        # Six standard deviations of 5000 draws are at most 0.043.
        assert np.bincount(found) / len(found) == pytest.approx(shares, abs=0.043)


@pytest.mark.parametrize("name", ["random", "k_fold"])
def test_hashed_instants_of_a_user_are_drawn_apart(name: str):
    log = events(*((user, time, 1) for user in range(1, 2001) for time in range(2)))
    found = split_shard(log, RULES[name])["split"].to_numpy().reshape(-1, 2)
    shares = np.bincount(found.ravel()) / found.size
    # Six standard deviations of 2000 draws are at most 0.068.
    assert (found[:, 0] == found[:, 1]).mean() == pytest.approx((shares**2).sum(), abs=0.068)


@pytest.mark.parametrize("name", HASHED)
def test_hashed_splits_of_two_seeds_differ(name: str):
    log = events(*((user, 1, 1) for user in range(1, 5001)))
    one, two, again = (split_shard(log, RULES[name], seed)["split"] for seed in (1, 2, 1))
    assert one.equals(again)
    assert 0.3 < (one != two).mean() < 0.8


@pytest.mark.parametrize("name", ["users", "k_fold_users"])
def test_whole_users_share_a_split(name: str):
    for seed in range(FEW_LOGS):
        log = split_shard(random_shard(seed), RULES[name])
        assert log.group_by("user_index").agg(pl.col("split").n_unique())["split"].max() == 1


@pytest.mark.parametrize("by", ["events", "users"])
def test_folds_test_and_validate_every_event_once(by: str):
    log = events(*((user, time, 1) for user in range(1, 101) for time in range(3)))
    folds = [
        split_shard(log, Split(kind="k_fold", folds=4, fold=fold, by=by))["split"].to_numpy()
        for fold in range(4)
    ]
    for fold in range(4):
        assert ((folds[fold] == VALIDATION) == (folds[(fold + 1) % 4] == TEST)).all()
    assert ((np.array(folds) == TEST).sum(axis=0) == 1).all()


def test_scramble_gives_the_numbers_of_the_reference():
    # SplitMix64 from the state 1234567: each step adds the golden gamma, then mixes.
    gamma = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + n * gamma) % 2**64 for n in range(3)], np.uint64)
    assert scramble(states).tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423,
    ]  # fmt: skip


def test_stable_hash_is_the_beginning_of_blake2b():
    ids = ["u1", "ü", "", "u1", "1"]
    expected = [
        int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little")
        for value in ids
    ]
    assert stable_hash(pl.Series(ids)).tolist() == expected
    assert stable_hash(pl.Series(ids[:3])).tolist() == expected[:3]
    assert stable_hash(pl.Series([], dtype=pl.String)).tolist() == []


# Repeated pairs


def test_repeated_pairs_are_dropped_from_the_earlier_split():
    log = events(
        (1, 1, 7), (1, 2, 7), (1, 3, 7), (1, 4, 8), (1, 5, 8), (1, 6, 9), (1, 7, 9), (2, 1, 7),
        split=[0, 1, 2, 0, 1, 0, 2, 0],
        label=[1, 0, 1, 0, 1, 1, 0, 1],
    )  # fmt: skip
    # Item 7 is wanted in test, item 8 in validation; item 9 is only shown in test.
    assert find_repeated_pairs(log).tolist() == [
        True, True, False, True, False, False, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["random", "k_fold"])
def test_no_pair_trains_that_is_wanted_in_test_or_validation(name: str):
    num_dropped = 0
    for seed in range(NUM_LOGS):
        rows = split_shard(random_shard(seed), RULES[name]).to_dicts()
        wanted_in = defaultdict(set)
        for row in rows:
            if row["label"] == 1 and (row["is_target"] or row["is_ranked"]):
                wanted_in[row["user_index"], row["item_index"]].add(row["split"])
        expected = [
            any(part > row["split"] for part in wanted_in[row["user_index"], row["item_index"]])
            for row in rows
        ]
        assert find_repeated_pairs(shard(rows)).tolist() == expected, seed
        num_dropped += sum(expected)
    assert num_dropped > NUM_LOGS


# Leaks


def expected_leaks(
    log: pl.DataFrame, contexts: pl.DataFrame, items: np.ndarray, starts: np.ndarray,
    ends: np.ndarray,
) -> dict[str, int]:  # fmt: skip
    """Counts by plain loops over a finished shard."""
    rows, requests = log.to_dicts(), contexts.to_dicts()
    counts: Counter[str] = Counter()
    pairs: dict[int, set] = defaultdict(set)
    for own in by_user(rows).values():
        for row in own:
            later = [other["time"] for other in own if other["split"] > row["split"]]
            if row["split"] == TRAIN:
                counts["train_events_not_before_test"] += row["time"] >= min(later, default=1e9)
            if row["split"] == VALIDATION:
                counts["validation_events_not_before_test"] += row["time"] >= min(
                    later, default=1e9
                )
            if row["label"] == 0 or not (row["is_target"] or row["is_ranked"]):
                continue
            pairs[row["split"]].add((row["user_index"], row["item_index"]))
            request = requests[row["context"]]
            allowed: list[int] = []
            for other in own:
                is_allowed = other["label"] == 1 and other["split"] <= request["split"]
                if is_allowed and other["time"] < request["time"]:
                    allowed += [other["item_index"]] * (allowed[-1:] != [other["item_index"]])
            held = items[starts[row["context"]] : ends[row["context"]]].tolist()
            item = row["item_index"]
            counts["labels_in_history"] += held.count(item) > allowed.count(item)
    users = {part: {r["user_index"] for r in rows if r["split"] == part} for part in range(3)}
    found = {
        "train_events_not_before_test": counts["train_events_not_before_test"],
        "validation_events_not_before_test": counts["validation_events_not_before_test"],
        "labels_in_history": counts["labels_in_history"],
        "pairs_in_train_and_test": len(pairs[TRAIN] & pairs[TEST]),
        "users_in_test": len(users[TEST]),
        "users_in_train_and_test": len(users[TRAIN] & users[TEST]),
    }
    for part, name in enumerate(["train", "validation", "test"]):
        times = [row["time"] for row in rows if row["split"] == part]
        if times:
            found |= {f"{name}_first_time": min(times), f"{name}_last_time": max(times)}
    return found


@pytest.mark.parametrize("name", RULES)
def test_finished_shards_have_no_leak_that_the_split_excludes(name: str):
    total: dict[str, int] = {}
    for seed in range(NUM_LOGS):
        log, contexts, histories = finish(random_shard(seed), RULES[name])
        found = measure_leaks(log, contexts, *histories)
        assert found == expected_leaks(log, contexts, *histories), seed
        # Logs of their own: each has its own moments, so only counts can be summed up.
        counts = {key: value for key, value in found.items() if "time" not in key}
        total = merge_leaks(total, counts)
        check_leaks(found, RULES[name])
    assert total["labels_in_history"] == 0
    if name in ORDERED:
        assert check_leaks(total, RULES[name]) == []
    else:
        assert check_leaks(total, RULES[name])[0].startswith(f"split.kind {RULES[name].kind}: ")
    if name in ("random", "k_fold"):
        assert total["pairs_in_train_and_test"] == 0


@pytest.mark.parametrize("name", ["leave_one_out", "random"])
def test_histories_that_reach_too_far_are_found(name: str):
    num_found = 0
    for seed in range(NUM_LOGS):
        log, contexts, (items, starts, ends) = finish(random_shard(seed), RULES[name])
        rng = np.random.default_rng(seed)
        longer = np.minimum(ends + rng.integers(0, 3, len(ends)), len(items))
        found = measure_leaks(log, contexts, items, starts, longer)
        assert found == expected_leaks(log, contexts, items, starts, longer), seed
        num_found += found["labels_in_history"]
    assert num_found > NUM_LOGS


def test_leaks_of_torn_instants_are_counted():
    for seed in range(NUM_LOGS):
        contexts, log = build_contexts(random_shard(seed), [])  # any split for any event
        histories = ranges(log, contexts, ordered=False)
        found = measure_leaks(log, contexts, *histories)
        assert found == expected_leaks(log, contexts, *histories), seed


def test_label_of_the_same_instant_in_its_history_is_found():
    log = split_shard(events((1, 1, 7), (1, 2, 7), (1, 2, 8), (1, 2, 7)), Split())
    contexts, log = build_contexts(log, [])
    items, starts, ends = ranges(log, contexts, ordered=True)
    assert items.tolist() == [7, 8, 7]
    found = measure_leaks(log, contexts, items, starts, ends)
    assert found["labels_in_history"] == 0
    # All of instant 2: item 8 and the second visit of item 7, which two events are asked for.
    found = measure_leaks(log, contexts, items, starts, np.array([0, 3]))
    assert found["labels_in_history"] == 3


@pytest.mark.parametrize("name", RULES)
def test_leaks_of_parts_merge_to_those_of_the_whole(name: str):
    for seed in range(FEW_LOGS):
        log = split_shard(random_shard(seed), RULES[name])
        whole, merged = measure(log), dict[str, int]()
        for user in log["user_index"].unique():
            merged = merge_leaks(merged, measure(log.filter(pl.col("user_index") == user)))
        assert merged == whole, seed
        assert merge_leaks(whole, {}) == whole


def measure(log: pl.DataFrame) -> dict[str, int]:
    contexts, log = build_contexts(log, [])
    return measure_leaks(log, contexts, *ranges(log, contexts, ordered=False))


@pytest.mark.parametrize("name", ORDERED)
def test_leaks_of_ordered_splits_are_errors(name: str):
    for leak in ("train_events_not_before_test", "labels_in_history"):
        with pytest.raises(DataError, match=f"{leak}: 3"):
            check_leaks({leak: 3}, RULES[name])


@pytest.mark.parametrize("name", RULES)
def test_labels_in_histories_are_errors_of_every_kind(name: str):
    with pytest.raises(DataError, match="labels_in_history: 1"):
        check_leaks({"labels_in_history": 1, "train_events_not_before_test": 0}, RULES[name])


def test_users_in_two_splits_are_errors_where_users_are_split():
    total = {"users_in_train_and_test": 2}
    for name in ("users", "k_fold_users"):
        with pytest.raises(DataError, match="users_in_train_and_test: 2"):
            check_leaks(total, RULES[name])
    assert check_leaks(total, RULES["leave_one_out"]) == []


def test_time_split_that_overlaps_for_different_users_is_an_error():
    total = {"train_first_time": 1, "train_last_time": 5, "test_first_time": 5}
    assert check_leaks(total | {"train_last_time": 4}, RULES["time"]) == []
    assert check_leaks(total, RULES["leave_one_out"]) == []  # each user has its own moments
    with pytest.raises(DataError, match="train_last_time 5 not before test_first_time 5"):
        check_leaks(total, RULES["time"])


def test_leaks_of_unordered_splits_are_told():
    total = {"train_events_not_before_test": 1234, "pairs_in_train_and_test": 5}
    assert check_leaks(total, RULES["random"]) == [
        "split.kind random: 1234 training events are not older than a validation or test event of "
        "the same user; histories hold only earlier training events. Use time, leave_one_out or "
        "user_ratio for an honest estimate of tomorrow.",
        "split.kind random: 5 pairs of a user and an item are positive in train and in test; a "
        "model may know them by heart.",
    ]
    assert check_leaks({"train_events_not_before_test": 0}, RULES["given"]) == []
