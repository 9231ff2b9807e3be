"""Statistics that come in batches equal those of the whole, computed in plain Python."""

import itertools
import json
import math
import pickle
import statistics
from collections import Counter
from datetime import datetime, timedelta

import numpy as np
import polars as pl
import pytest

from tfrec.data.parsing.profile import TableProfile
from tfrec.data.parsing.tallies import (
    Correlation,
    DistinctCount,
    FrequentValues,
    LabelTie,
    Moments,
)


def profile(*batches: pl.DataFrame) -> dict:
    table = TableProfile()
    for batch in batches:
        table.add(batch)
    return table.to_dict()


def facts(values: pl.Series) -> dict:
    return profile(values.alias("x").to_frame())["x"]


def in_parts(values: pl.Series, *ends: int) -> dict:
    bounds = [0, *ends, len(values)]
    frame = values.alias("x").to_frame()
    return profile(*(frame[a:b] for a, b in itertools.pairwise(bounds)))["x"]


# Each kind of column


def test_profile_of_numbers_is_that_of_the_known_ones():
    found = facts(pl.Series([1.0, None, 4.0, math.nan, 7.0, math.inf]))
    assert found["kind"] == "number"
    assert (found["rows"], found["unknown"]) == (6, 3)
    assert (found["min"], found["max"]) == (1.0, 7.0)
    assert found["mean"] == pytest.approx(4.0)
    assert found["std"] == pytest.approx(math.sqrt((9 + 0 + 9) / 3))


def test_profile_of_numbers_without_any_value_has_none():
    found = facts(pl.Series([None, None], dtype=pl.Float64))
    assert found == {
        "kind": "number", "rows": 2, "unknown": 2,
        "min": None, "mean": None, "max": None, "std": None,
    }  # fmt: skip


def test_profile_of_whole_numbers_does_not_overflow():
    found = facts(pl.Series([100] * 1000, dtype=pl.Int8))
    assert (found["mean"], found["std"]) == (100.0, 0.0)


def test_profile_of_booleans_is_the_rate_of_true():
    found = facts(pl.Series([True, False, None, True]))
    assert found == {"kind": "boolean", "rows": 4, "unknown": 1, "rate": pytest.approx(2 / 3)}


def test_profile_of_times_spans_all_and_counts_midnights():
    day = datetime(2026, 1, 5)
    times = [day, None, day - timedelta(days=400), day + timedelta(hours=7, microseconds=5)]
    found = facts(pl.Series(times, dtype=pl.Datetime("us")))
    assert found == {
        "kind": "time", "rows": 4, "unknown": 1, "at_midnight": 2,
        "first": "2024-12-01 00:00:00", "last": "2026-01-05 07:00:00.000005",
    }  # fmt: skip


def test_midnights_before_1970_are_found():
    times = [datetime(1969, 12, 31), datetime(1969, 12, 31, 1)]
    assert facts(pl.Series(times, dtype=pl.Datetime("us")))["at_midnight"] == 1


def test_profile_of_texts_counts_characters_not_bytes():
    found = facts(pl.Series(["é", "", None, "abc", "é"]))
    assert (found["kind"], found["rows"], found["unknown"]) == ("text", 5, 2)
    assert found["chars"] == {"min": 1, "mean": pytest.approx(5 / 3), "max": 3}
    assert (found["distinct"], found["is_distinct_exact"]) == (2, True)
    assert found["most_frequent"] == [["é", 2], ["abc", 1]]


def test_profile_shows_the_beginning_of_long_values():
    found = facts(pl.Series(["x" * 1_000_000]))
    assert found["chars"]["max"] == 1_000_000
    assert found["most_frequent"] == [["x" * 40 + "...", 1]]


def test_profile_of_lists_counts_sizes_and_elements():
    found = facts(pl.Series([["a", "b"], [], None, ["a", "a", "c"]]))
    assert (found["kind"], found["rows"], found["unknown"]) == ("list", 4, 2)
    assert found["size"] == {"min": 2, "mean": 2.5, "max": 3}
    assert found["distinct"] == 3
    assert found["most_frequent"] == [["a", 3], ["b", 1], ["c", 1]]


@pytest.mark.parametrize("dtype", [pl.List(pl.Float32), pl.Array(pl.Float32, 2)])
def test_profile_of_vectors_has_their_lengths(dtype: pl.DataType):
    found = facts(pl.Series([[3.0, 4.0], None, [0.0, 0.0], [5.0, 12.0]], dtype=dtype))
    assert (found["kind"], found["rows"], found["unknown"]) == ("vector", 4, 1)
    assert found["size"] == {"min": 2, "mean": 2.0, "max": 2}
    assert found["norm"] == {"min": 0.0, "mean": pytest.approx(6.0), "max": 13.0}
    assert found["zero"] == 1


def test_profile_of_vectors_of_many_sizes_keeps_them_apart():
    found = facts(pl.Series([[2.0], [], [3.0, 4.0, 12.0]], dtype=pl.List(pl.Float32)))
    assert found["unknown"] == 1
    assert found["norm"] == {"min": 2.0, "mean": 7.5, "max": 13.0}


def test_profile_of_column_without_any_value_is_all_unknown():
    for dtype in (pl.Null, pl.String, pl.List(pl.String), pl.List(pl.Float32), pl.Boolean):
        found = facts(pl.Series([None, None], dtype=dtype))
        assert (found["rows"], found["unknown"]) == (2, 2), dtype


def test_profile_of_table_without_rows_can_be_written():
    schema = {"a": pl.String, "b": pl.Float64, "c": pl.Datetime("us"), "d": pl.List(pl.Float32)}
    found = profile(pl.DataFrame(schema=schema))
    assert [found[name]["rows"] for name in "abcd"] == [0, 0, 0, 0]
    json.dumps(found, allow_nan=False)


# Batches against the whole


@pytest.mark.parametrize("seed", range(3))
def test_profile_in_batches_is_that_of_the_whole(seed: int):
    draw = np.random.default_rng(seed)
    n = 1000
    numbers = pl.Series(draw.normal(1e6, 1.0, n))
    words = pl.Series(draw.choice(["a", "bb", "", "dddd"], n))
    times = pl.Series(draw.integers(0, 10**15, n)).cast(pl.Datetime("us"))
    ends = sorted(draw.integers(0, n, 4).tolist())
    for values in (numbers, words, times, numbers > 1e6):
        parts, whole = in_parts(values, *ends), facts(values)
        assert parts.keys() == whole.keys()
        for name, value in whole.items():
            if name == "chars":
                assert parts["chars"] == pytest.approx(value, rel=1e-9)
            elif isinstance(value, float):
                assert parts[name] == pytest.approx(value, rel=1e-9)
            else:
                assert parts[name] == value


def test_moments_of_far_away_values_keep_their_deviation():
    values = [1e9, 1e9 + 1, 1e9 + 2] * 50
    moments = Moments()
    for start in range(0, 150, 7):
        moments.add(np.array(values[start : start + 7]))
    # The mean of squares minus the square of the mean would be lost in 1e18.
    assert moments.std == pytest.approx(statistics.pstdev(values), rel=1e-7)


@pytest.mark.parametrize("seed", range(3))
def test_correlation_in_parts_equals_numpy(seed: int):
    draw = np.random.default_rng(seed)
    first = draw.normal(size=500)
    second = 0.3 * first + draw.normal(size=500) + 50
    pairs = Correlation()
    for start in range(0, 500, 60):
        pairs.add(first[start : start + 60], second[start : start + 60])
    assert pairs.value == pytest.approx(np.corrcoef(first, second)[0, 1], rel=1e-9)


def test_correlation_with_what_does_not_vary_is_none():
    pairs = Correlation()
    pairs.add(np.ones(5), np.arange(5.0))
    assert pairs.value is None


# Many values


def test_distinct_values_are_exact_up_to_the_limit():
    count = DistinctCount(limit=100)
    for start in (0, 30, 50):
        count.add(pl.Series([str(number) for number in range(start, start + 50)]))
    assert (count.count, count.is_exact) == (100, True)
    count.add(pl.Series(["one more"]))
    assert not count.is_exact


@pytest.mark.parametrize("limit", [1_000, 10_000])
@pytest.mark.parametrize("distinct", [20_000, 300_000])
def test_estimated_distinct_values_are_within_four_errors(limit: int, distinct: int):
    count = DistinctCount(limit=limit)
    values = pl.Series(np.arange(distinct)).cast(pl.String)
    for start in range(0, distinct, 50_000):
        count.add(values[start : start + 50_000])
        count.add(values[:1000])  # what was seen counts once
    assert not count.is_exact
    assert count.count == pytest.approx(distinct, rel=4 / math.sqrt(limit))


def counts_of(values: list[str]) -> pl.DataFrame:
    return pl.Series("value", values).value_counts().cast({"count": pl.Int64})


def test_frequent_values_are_exact_within_the_limit():
    frequent = FrequentValues(limit=3)
    for batch in ("aab", "bca", "c"):
        frequent.add(counts_of(list(batch)))
    assert frequent.error == 0
    assert frequent.top(2) == [("a", 3), ("b", 2)]


@pytest.mark.parametrize("seed", range(3))
def test_frequent_values_beyond_the_limit_are_too_low_by_at_most_the_error(seed: int):
    draw = np.random.default_rng(seed)
    values = [str(value) for value in draw.zipf(1.3, 20_000) % 5000]
    truth = Counter(values)
    frequent = FrequentValues(limit=200)
    for start in range(0, len(values), 1500):
        frequent.add(counts_of(values[start : start + 1500]))
    assert 0 < frequent.error <= len(values) / 200
    found = frequent.top(5)
    assert [value for value, _ in found] == [value for value, _ in truth.most_common(5)]
    for value, count in found:
        assert truth[value] - frequent.error <= count <= truth[value]


def test_frequent_values_of_a_column_of_ids_are_none():
    frequent = FrequentValues(limit=100)
    for start in range(0, 5000, 1000):
        frequent.add(counts_of([str(number) for number in range(start, start + 1000)]))
    assert frequent.top(5) == []


def test_memory_of_profile_does_not_grow_with_the_rows():
    def batch(number: int) -> pl.DataFrame:
        ids = np.arange(number * 20_000, (number + 1) * 20_000)
        return pl.DataFrame({"user_id": pl.Series(ids).cast(pl.String), "x": ids / 7})

    table = TableProfile()
    for number in range(4):  # by now every bound is reached
        table.add(batch(number))
    before = len(pickle.dumps(table))
    for number in range(4, 14):
        table.add(batch(number))
    assert len(pickle.dumps(table)) < 1.1 * before


# Labels


def test_label_tie_of_a_number_is_its_correlation():
    labels = pl.Series("label", [0, 1] * 50, dtype=pl.Int8)
    frame = pl.DataFrame({"label": labels, "dwell": [0.0, 9.0] * 50, "user_id": ["u"] * 100})
    found = profile(frame[:30], frame[30:])
    assert found["dwell"]["label_tie"]["correlation"] == pytest.approx(1.0)
    assert "label_tie" not in found["user_id"]
    assert "label_tie" not in found["label"]


def tie_of(values: list, labels: list[int | None], batch: int = 3) -> dict:
    tie = LabelTie()
    for start in range(0, len(values), batch):
        tie.add(
            pl.Series(values, strict=False)[start : start + batch],
            pl.Series(labels, dtype=pl.Int8)[start : start + batch],
        )
    return tie.to_dict()


def test_label_tie_of_texts_is_what_their_majorities_explain():
    # Always guessing 0 errs 4 times. By value: a -> 0 errs once, b -> 1 errs once.
    values = ["a"] * 5 + ["b"] * 4
    labels = [0, 0, 0, 0, 1, 1, 1, 1, 0]
    assert tie_of(values, labels)["explained"] == pytest.approx(1 - 2 / 4)


def test_label_tie_sees_what_is_known_for_one_label_only():
    found = tie_of([2.5, None, 3.5, None] * 20, [1, 0, 1, 0] * 20)
    assert found["known_correlation"] == pytest.approx(1.0)
    assert found["correlation"] is None  # all known ones have label 1


def test_label_tie_of_many_values_says_nothing():
    assert tie_of([str(n) for n in range(200)], [0, 1] * 100, batch=50)["explained"] is None


def test_label_tie_leaves_out_rows_without_label():
    found = tie_of([1.0, 2.0, 9.0, 3.0], [0, 1, None, 1])
    expected = np.corrcoef([1.0, 2.0, 3.0], [0, 1, 1])[0, 1]
    assert found["correlation"] == pytest.approx(expected)
