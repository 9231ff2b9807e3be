from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest

from tfrec.data import convert
from tfrec.errors import DataError

NAN, INF = float("nan"), float("inf")
NOON = datetime(2026, 1, 31, 12)
WANTED_TIME = "a time (ISO 8601, as 2026-01-31 or 2026-01-31T12:00:00, or unix seconds)"


def frame(values: list[Any] | pl.Series, dtype: Any = None) -> pl.DataFrame:
    return pl.DataFrame({"x": pl.Series(values, dtype=dtype, strict=False)})


def refusal(to: Callable[..., pl.Series], table: pl.DataFrame) -> str:
    """Returns the error of a column that is refused, without its common beginning."""
    with pytest.raises(DataError) as caught:
        to(table, "x", "t.csv")
    assert str(caught.value).startswith("t.csv: ")
    return str(caught.value).removeprefix("t.csv: ")


# Ids


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (["a", "007", "é"], None, ["a", "007", "é"]),
        ([1, -2, 2**62], None, ["1", "-2", str(2**62)]),
        ([1, 2], pl.UInt8, ["1", "2"]),
        (["a", "b"], pl.Categorical, ["a", "b"]),
    ],
)
def test_ids_become_text(values: list, dtype: Any, expected: list[str]):
    ids = convert.to_ids(frame(values, dtype), "x", "t.csv")
    assert (ids.dtype, ids.to_list()) == (pl.String, expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", None], "row 2, column 'x': wanted an id, got nothing."),
        ([1, 2, None], "row 3, column 'x': wanted an id, got nothing."),
        (["", "b"], "row 1, column 'x': wanted an id, got nothing."),
        (
            ["a", "", None, ""],
            "row 2, column 'x': wanted an id, got nothing. (2 more rows like it)",
        ),
        (["a", "", None], "row 2, column 'x': wanted an id, got nothing. (1 more row like it)"),
        ([1.0, 2.0], "column 'x': wanted ids (text or whole numbers), got decimals."),
        ([["a"], ["b"]], "column 'x': wanted ids (text or whole numbers), got List(String)."),
    ],
)
def test_ids_that_are_none_are_refused(values: list, expected: str):
    assert refusal(convert.to_ids, frame(values)) == expected


# Text


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a", None, " b "], ["a", "", " b "]),
        ([1, None], ["1", ""]),
        ([None, None], ["", ""]),
        ([True, False], ["true", "false"]),
    ],
)
def test_text_keeps_cells_and_empties_nulls(values: list, expected: list[str]):
    assert convert.to_text(frame(values), "x", "t.csv").to_list() == expected


def test_text_in_lists_is_refused():
    assert refusal(convert.to_text, frame([["a"]])) == (
        "column 'x': wanted text, got List(String)."
    )


# Numbers


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, None, -3], [1.0, None, -3.0]),
        ([1.5, NAN, None, 0.0], [1.5, None, None, 0.0]),
        (["1", " 2.5 ", "-1e3", "", "  ", None, "nan"], [1, 2.5, -1000, None, None, None, None]),
        ([None, None], [None, None]),
        ([True, False], [1.0, 0.0]),
    ],
)
def test_numbers_become_floats_and_nulls(values: list, expected: list[float | None]):
    numbers = convert.to_numbers(frame(values), "x", "t.csv")
    assert (numbers.dtype, numbers.to_list()) == (pl.Float64, expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "two"], "row 2, column 'x': wanted a number, got 'two'."),
        (["1,5", "2"], "row 1, column 'x': wanted a number, got '1,5'."),
        (
            ["1", "", "x", "2", "y"],
            "row 3, column 'x': wanted a number, got 'x'. (1 more row like it)",
        ),
        ([1.0, INF], "row 2, column 'x': wanted a finite number, got inf."),
        ([-INF, 1.0], "row 1, column 'x': wanted a finite number, got -inf."),
        (["1", "inf"], "row 2, column 'x': wanted a finite number, got 'inf'."),
        ([[1.0], [2.0]], "column 'x': wanted numbers, got List(Float64)."),
        ([{"a": 1}], "column 'x': wanted numbers, got Struct({'a': Int64})."),
        (["z" * 200], f"row 1, column 'x': wanted a number, got '{'z' * 79}."),  # cut short
    ],
)
def test_numbers_that_are_none_are_refused(values: list, expected: str):
    assert refusal(convert.to_numbers, frame(values)) == expected


# Times


@pytest.mark.parametrize(
    "values",
    [
        [NOON],
        [datetime(2026, 1, 31, 12, tzinfo=UTC)],
        [datetime(2026, 1, 31, 14, tzinfo=timezone(timedelta(hours=2)))],
        ["2026-01-31T12:00:00"],
        ["2026-01-31 12:00:00"],
        ["2026-01-31T12:00"],
        ["2026-01-31T12:00:00.000"],
        [" 2026-01-31T12:00:00 "],
        ["2026-01-31T12:00:00Z"],
        ["2026-01-31T12:00:00.000000Z"],
        ["2026-01-31T14:00:00+02:00"],
        ["2026-01-31T07:00:00-0500"],
        [1769860800],  # 20,484 days * 86,400 s + 43,200 s
        [1769860800.0],
        ["1769860800"],
        ["1769860800.0"],
        ["1.7698608e9"],
    ],
)
def test_times_of_any_form_are_the_same_instant(values: list):
    times = convert.to_times(frame(values), "x", "t.csv")
    assert (times.dtype, times.to_list()) == (pl.Datetime("us"), [NOON])


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_of_any_unit_keep_milliseconds(unit: Any):
    time = NOON + timedelta(milliseconds=5)
    times = convert.to_times(frame([time], pl.Datetime(unit)), "x", "t.csv")
    assert (times.dtype, times.to_list()) == (pl.Datetime("us"), [time])


@pytest.mark.parametrize("values", [[date(2026, 1, 31)], ["2026-01-31"], ["2026-1-31"]])
def test_days_are_their_midnight(values: list):
    times = convert.to_times(frame(values), "x", "t.csv")
    assert times.to_list() == [datetime(2026, 1, 31)]


def test_times_in_mixed_text_are_read_cell_by_cell():
    values = ["2026-01-31", "1769860800", "2026-01-31T12:00:00.25", "2026-01-31T12:00:00Z"]
    times = convert.to_times(frame(values), "x", "t.csv").to_list()
    assert times == [datetime(2026, 1, 31), NOON, NOON + timedelta(seconds=0.25), NOON]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, datetime(1970, 1, 1)),
        (-1, datetime(1969, 12, 31, 23, 59, 59)),
        (0.000001, datetime(1970, 1, 1, 0, 0, 0, 1)),
        (253402300799, datetime(9999, 12, 31, 23, 59, 59)),
    ],
)
def test_unix_seconds_at_the_edges_are_exact(seconds: float, expected: datetime):
    assert convert.to_times(frame([seconds]), "x", "t.csv").to_list() == [expected]


@pytest.mark.parametrize(
    ("values", "row", "came"),
    [
        ([NOON, None], 2, "nothing"),
        ([date(2026, 1, 31), None], 2, "nothing"),
        (["2026-01-31", ""], 2, "nothing"),
        (["yesterday"], 1, "'yesterday'"),
        (["2026-01-31", "soon"], 2, "'soon'"),
        (["2026-02-30"], 1, "'2026-02-30'"),
        (["2026-01-31T25:00:00"], 1, "'2026-01-31T25:00:00'"),
        (["31/01/2026"], 1, "'31/01/2026'"),
        (["01/02/2026"], 1, "'01/02/2026'"),  # nobody knows whether February or January
        (["nan"], 1, "'nan'"),
        ([1.0, NAN], 2, "nan"),
        ([INF], 1, "inf"),
        ([1769860800, None], 2, "nothing"),
        ([1769860800000], 1, "1769860800000"),  # milliseconds
        (["1769860800000"], 1, "'1769860800000'"),
    ],
)
def test_times_that_are_none_are_refused(values: list, row: int, came: str):
    expected = f"row {row}, column 'x': wanted {WANTED_TIME}, got {came}."
    assert refusal(convert.to_times, frame(values)) == expected


@pytest.mark.parametrize(
    ("values", "dtype"), [([True], "Boolean"), ([None], "Null"), ([["2026-01-31"]], "List(String)")]
)
def test_times_of_other_types_are_refused(values: list, dtype: str):
    assert refusal(convert.to_times, frame(values)) == f"column 'x': wanted times, got {dtype}."


# Lists


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["a|b", "c", "", None, "|d||"], [["a", "b"], ["c"], [], [], ["d"]]),
        ([["a", "b"], [], None, ["", "c", None]], [["a", "b"], [], [], ["c"]]),
        ([[1, 2], None], [["1", "2"], []]),
    ],
)
def test_lists_in_cells_and_in_text_are_equal(values: list, expected: list[list[str]]):
    lists = convert.to_lists(frame(values), "x", "t.csv")
    assert (lists.dtype, lists.to_list()) == (pl.List(pl.String), expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], "column 'x': wanted lists or text separated by '|', got Int64."),
        ([[["a"]]], "column 'x': wanted lists of text, got List(List(String))."),
    ],
)
def test_lists_of_other_types_are_refused(values: list, expected: str):
    assert refusal(convert.to_lists, frame(values)) == expected


# Vectors


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([[1, 2], None, [3, 4]], None),
        ([[1.0, 2.0], None, [3.0, 4.0]], None),
        ([[1.0, 2.0], None, [3.0, 4.0]], pl.Array(pl.Float64, 2)),
    ],
)
def test_vectors_become_float32_lists(values: list, dtype: Any):
    vectors = convert.to_vectors(frame(values, dtype), "x", "t.csv")
    assert vectors.dtype == pl.List(pl.Float32)
    assert vectors.to_list() == [[1.0, 2.0], None, [3.0, 4.0]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[1, 2], [3], [4, 5]], "row 2, column 'x': wanted a vector of 2 numbers, got [3]."),
        (
            [[1], None, [1, 2], [3], [], [4]],
            "row 3, column 'x': wanted a vector of 1 numbers, got [1, 2]. (1 more row like it)",
        ),
        (
            [[1.0, 2.0], [INF, 0.0]],
            "row 2, column 'x': wanted a vector of finite numbers, got [inf, 0.0].",
        ),
        ([["a", "b"]], "column 'x': wanted vectors of numbers, got List(String)."),
        (["1 2"], "column 'x': wanted vectors, got String."),
        ([1.0], "column 'x': wanted vectors, got Float64."),
    ],
)
def test_vectors_that_are_none_are_refused(values: list, expected: str):
    assert refusal(convert.to_vectors, frame(values)) == expected


def test_vectors_all_unknown_are_accepted():
    vectors = convert.to_vectors(frame([None, None], pl.List(pl.Float32)), "x", "t.csv")
    assert vectors.to_list() == [None, None]
