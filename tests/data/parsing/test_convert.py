from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.data.parsing import convert
from tfrec.data.parsing.checks import Findings, RowChecks
from tfrec.data.reading.batch import RawBatch
from tfrec.errors import DataError
from tfrec.features import CategoryList, Vector, cells

NAN, INF = float("nan"), float("inf")
ID = "an id"
EXACT_ID = "an id (text or a whole number that is exact)"


def checks(values: list[Any], dtype: Any = None, policy: Any = "raise") -> RowChecks:
    """Returns a batch of one column x whose rows are 10, 20, 30 ... of t.csv."""
    column = pl.Series("x", values, dtype=dtype, strict=False)
    rows = 10 * np.arange(1, len(values) + 1)
    return RowChecks(RawBatch(column.to_frame(), "t.csv", rows), "items", Findings(policy))


def refusal(to: Callable[..., pl.Series], values: list[Any], dtype: Any = None) -> str:
    """Returns the error of a column that is refused, without its common beginning."""
    with pytest.raises(DataError) as caught:
        to(checks(values, dtype), "x")
    assert str(caught.value).startswith("t.csv: ")
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("t.csv: ")


def repaired(to: Callable[..., pl.Series], values: list[Any], dtype: Any = None) -> tuple:
    """Returns values, dropped rows, and count and place of each problem."""
    batch = checks(values, dtype, "repair")
    found = to(batch, "x").to_list()
    problems = [(p.wanted, p.count, [place.row for place in p.places]) for p in batch.findings]
    return found, batch.dropped.tolist(), problems


def to_lists(batch: RowChecks, column: str) -> pl.Series:
    return CategoryList(column).parse(batch)


def to_vectors(batch: RowChecks, column: str) -> pl.Series:
    return Vector(column).parse(batch)


# Ids


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (["a", "007", "é", "7.0"], None, ["a", "007", "é", "7.0"]),
        ([" a", "b\t", "\u00a0c "], None, ["a", "b", "c"]),
        ([1, -2, 2**62], None, ["1", "-2", str(2**62)]),
        ([1, 2**64 - 1], pl.UInt64, ["1", str(2**64 - 1)]),
        ([1, 2], pl.UInt8, ["1", "2"]),
        ([7.0, -0.0, 2.0**53 - 1], None, ["7", "0", "9007199254740991"]),
        ([7.0, 2.0**24 - 1], pl.Float32, ["7", "16777215"]),
        ([Decimal("7.00"), Decimal("10")], pl.Decimal(20, 2), ["7", "10"]),
        ([Decimal(10) ** 30], pl.Decimal(38, 0), ["1" + "0" * 30]),
        (["a", "b"], pl.Categorical, ["a", "b"]),
        (["a", "b"], pl.Enum(["b", "a"]), ["a", "b"]),
        ([b"a", "é".encode()], pl.Binary, ["a", "é"]),
        ([], pl.String, []),
        ([], pl.Float64, []),
    ],
)
def test_ids_become_text(values: list, dtype: Any, expected: list[str]):
    ids = convert.to_ids(checks(values, dtype), "x")
    assert (ids.dtype, ids.to_list()) == (pl.String, expected)


def test_ids_as_numbers_here_and_text_there_are_equal():
    forms = [[7, None], [7.0, None], ["7", None], [" 7 ", None], [Decimal("7.0"), None]]
    assert {repaired(convert.to_ids, values)[0][0] for values in forms} == {"7"}


@pytest.mark.parametrize(
    ("values", "dtype", "row", "wanted", "got"),
    [
        (["a", None], None, 20, ID, "nothing"),
        ([1, 2, None], None, 30, ID, "nothing"),
        (["", "b"], None, 10, ID, "nothing"),
        (["a", "  "], None, 20, ID, "'  '"),
        ([None, None], None, 10, ID, "nothing. (1 more row like it)"),
        ([1.0, NAN], None, 20, ID, "nan"),
        ([1.0, 2.5], None, 20, EXACT_ID, "2.5"),
        ([1.0, INF], None, 20, EXACT_ID, "inf"),
        # From here on several whole numbers are one float: two users would become one.
        ([1.0, 2.0**53], None, 20, EXACT_ID, "9007199254740992.0"),
        ([1.0, 2.0**24], pl.Float32, 20, EXACT_ID, "16777216.0"),
        ([Decimal("7.5")], None, 10, EXACT_ID, "Decimal('7.5')"),
        (["a", "b\x00"], None, 20, "an id without control characters", r"'b\x00'"),
        (["a\tb", "b"], None, 10, "an id without control characters", r"'a\tb'"),
    ],
)
def test_ids_that_are_none_are_refused(values: list, dtype: Any, row: int, wanted: str, got: str):
    expected = f"row {row}, column 'x': wanted {wanted}, got {got}"
    assert refusal(convert.to_ids, values, dtype).removesuffix(".") == expected.removesuffix(".")


@pytest.mark.parametrize(
    ("values", "dtype", "got"),
    [
        ([["a"]], None, "List(String)"),
        ([{"a": 1}], None, "Struct({'a': Int64})"),
        ([True], None, "Boolean"),
        ([date(2026, 1, 31)], None, "Date"),
        ([datetime(2026, 1, 31)], None, "Datetime(time_unit='us', time_zone=None)"),
        ([b"\xff"], pl.Binary, "bytes that are no UTF-8"),
        ([object()], pl.Object, "Object"),
    ],
)
def test_ids_of_other_types_are_refused(values: list, dtype: Any, got: str):
    expected = f"column 'x': wanted ids (text or whole numbers), got {got}."
    assert refusal(convert.to_ids, values, dtype) == expected


def test_ids_that_are_none_drop_their_rows():
    assert repaired(convert.to_ids, ["a", "", "b\n\x01c", None, "d"]) == (
        ["a", None, None, None, "d"],
        [False, True, True, True, False],
        [(ID, 2, [20, 40]), ("an id without control characters", 1, [30])],
    )


# Text


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (["a", None, " b "], None, ["a", "", " b "]),
        ([1, None], None, ["1", ""]),
        ([1.0, 2.5, None, NAN], None, ["1", "2.5", "", ""]),  # whole numbers beside nulls
        ([None, None], None, ["", ""]),
        ([True, False, None], None, ["true", "false", ""]),
        ([Decimal("2.50"), None], None, ["2.50", ""]),
        ([date(2026, 1, 31)], None, ["2026-01-31"]),
        (["a", None], pl.Categorical, ["a", ""]),
        ([], pl.Null, []),
    ],
)
def test_text_keeps_cells_and_empties_nulls(values: list, dtype: Any, expected: list[str]):
    text = cells.to_text(checks(values, dtype), "x")
    assert (text.dtype, text.to_list()) == (pl.String, expected)


def test_text_in_lists_is_refused():
    assert refusal(cells.to_text, [["a"]]) == "column 'x': wanted text, got List(String)."


# Numbers


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, None, -3], None, [1.0, None, -3.0]),
        ([1.5, NAN, None, 0.0], None, [1.5, None, None, 0.0]),
        (
            ["1", " 2.5 ", "-1e3", "", "  ", None, "nan", "NaN"],
            None,
            [1, 2.5, -1000, None, None, None, None, None],
        ),
        ([None, None], None, [None, None]),
        ([True, False], None, [1.0, 0.0]),
        ([Decimal("2.50")], None, [2.5]),
        ([2**64 - 1], pl.UInt64, [2.0**64]),
        (["10", "9"], pl.Categorical, [10.0, 9.0]),  # the text, not the code of the category
        (["10", "9"], pl.Enum(["9", "10"]), [10.0, 9.0]),
        ([], pl.String, []),
    ],
)
def test_numbers_become_floats_and_nulls(values: list, dtype: Any, expected: list):
    numbers = cells.to_numbers(checks(values, dtype), "x")
    assert (numbers.dtype, numbers.to_list()) == (pl.Float64, expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1", "two"], "row 20, column 'x': wanted a number, got 'two'."),
        (["1,5", "2"], "row 10, column 'x': wanted a number, got '1,5'."),
        (
            ["1", "", "x", "2", "y"],
            "row 30, column 'x': wanted a number, got 'x'. (1 more row like it)",
        ),
        ([1.0, INF], "row 20, column 'x': wanted a finite number, got inf."),
        ([-INF, 1.0], "row 10, column 'x': wanted a finite number, got -inf."),
        (["1", "inf"], "row 20, column 'x': wanted a finite number, got 'inf'."),
        (["1", "1e999"], "row 20, column 'x': wanted a finite number, got '1e999'."),
        ([[1.0], [2.0]], "column 'x': wanted numbers, got List(Float64)."),
        ([{"a": 1}], "column 'x': wanted numbers, got Struct({'a': Int64})."),
        ([date(2026, 1, 31)], "column 'x': wanted numbers, got Date."),
        ([timedelta(1)], "column 'x': wanted numbers, got Duration(time_unit='us')."),
    ],
)
def test_numbers_that_are_none_are_refused(values: list, expected: str):
    assert refusal(cells.to_numbers, values) == expected


def test_numbers_that_are_none_become_unknown_and_keep_their_rows():
    assert repaired(cells.to_numbers, ["1", "x", "inf", "", "nan", "y"]) == (
        [1.0, None, None, None, None, None],
        [False] * 6,
        [("a number", 2, [20, 60]), ("a finite number", 1, [30])],
    )


def test_numbers_that_rows_need_drop_rows_without():
    def to(batch: RowChecks, column: str) -> pl.Series:
        return cells.to_numbers(batch, column, reject=True)

    assert repaired(to, ["1", "x", "inf", "", "nan", None]) == (
        [1.0, None, None, None, None, None],
        [False, True, True, True, True, True],
        [("a number", 4, [20, 40, 50, 60]), ("a finite number", 1, [30])],
    )


@pytest.mark.parametrize(
    ("values", "dtype", "expected", "dropped"),
    [
        (["7", " 8 ", "9.0", "-1"], None, [7, 8, 9, -1], []),
        (["7.5", "x", "", None, "1e3"], None, [None] * 5, [0, 1, 2, 3, 4]),
        ([7.0, 7.5, NAN, INF, 1e300], None, [7, None, None, None, None], [1, 2, 3, 4]),
        ([2**64 - 1, 5], pl.UInt64, [None, 5], [0]),
        ([2**63 - 1, -(2**63)], None, [2**63 - 1, -(2**63)], []),
        ([None], None, [None], [0]),
        ([], pl.String, [], []),
    ],
)
def test_whole_numbers_are_exact_or_drop_their_rows(
    values: list, dtype: Any, expected: list, dropped: list[int]
):
    found, is_dropped, _ = repaired(convert.to_whole_numbers, values, dtype)
    assert (found, np.flatnonzero(is_dropped).tolist()) == (expected, dropped)


# Labels and weights


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0, 1, 2, -1, None], None, [0, 1, None, None, None]),
        ([0.0, 1.0, 0.5, NAN, INF], None, [0, 1, None, None, None]),
        ([True, False, None], None, [1, 0, None]),
        (["0", " 1 ", "1.0", "True", "FALSE", "yes", "", "01"], None, [0, 1, 1, 1, 0] + [None] * 3),
        ([Decimal("1.0"), Decimal("0")], None, [1, 0]),
        (["1"], pl.Categorical, [1]),
        ([None], None, [None]),
        ([], pl.Int64, []),
    ],
)
def test_labels_are_zero_or_one_or_drop_their_rows(values: list, dtype: Any, expected: list):
    found, dropped, problems = repaired(convert.to_labels, values, dtype)
    assert found == expected
    assert dropped == [label is None for label in expected]
    assert [(wanted, count) for wanted, count, _ in problems] == [("0 or 1", sum(dropped))] * any(
        dropped
    )


def test_labels_that_are_none_are_refused():
    assert refusal(convert.to_labels, [0, 1, 3]) == "row 30, column 'x': wanted 0 or 1, got 3."


def test_weights_are_above_zero_or_drop_their_rows():
    found, dropped, _ = repaired(
        convert.to_weights, ["2.5", "0", "-1", "", "nan", "inf", "1e-40", "1e39", "heavy"]
    )
    assert found == [2.5] + [None] * 8
    assert dropped == [False] + [True] * 8


# Lists


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (["a|b", "c", "", None, "|d||"], None, [["a", "b"], ["c"], [], [], ["d"]]),
        ([" e | f ", " "], None, [["e", "f"], []]),
        ([["a", "b"], [], None, ["", " c ", None]], None, [["a", "b"], [], [], ["c"]]),
        ([[1, 2], None], None, [["1", "2"], []]),
        ([[1.0, 2.5, NAN, None]], None, [["1", "2.5"]]),
        ([[True, False]], None, [["true", "false"]]),
        ([["a"]], pl.List(pl.Categorical), [["a"]]),
        ([[b"a"]], pl.List(pl.Binary), [["a"]]),
        ([["a", "b"]], pl.Array(pl.String, 2), [["a", "b"]]),
        ([[]], None, [[]]),
        ([None], None, [[]]),
        (["a|b"], pl.Categorical, [["a", "b"]]),
        ([], pl.String, []),
    ],
)
def test_lists_in_cells_and_in_text_are_equal(values: list, dtype: Any, expected: list):
    lists = to_lists(checks(values, dtype), "x")
    assert (lists.dtype, lists.to_list()) == (pl.List(pl.String), expected)


def test_lists_in_text_are_split_at_the_declared_separator():
    lists = CategoryList("x", separator=",").parse(checks(["a, b|c", "d"]))
    assert lists.to_list() == [["a", "b|c"], ["d"]]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([1, 2], None, "wanted lists, or text with '|' between the values, got Int64."),
        ([[["a"]]], None, "wanted lists of text, got List(List(String))."),
        ([[{"a": 1}]], None, "wanted lists of text, got List(Struct({'a': Int64}))."),
        ([[b"\xff"]], pl.List(pl.Binary), "wanted lists of text, got bytes that are no UTF-8."),
    ],
)
def test_lists_of_other_types_are_refused(values: list, dtype: Any, expected: str):
    assert refusal(to_lists, values, dtype) == f"column 'x': {expected}"


# Vectors


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([[1, 2], None, [3, 4]], None),
        ([[1.0, 2.0], None, [3.0, 4.0]], None),
        ([[1.0, 2.0], None, [3.0, 4.0]], pl.Array(pl.Float64, 2)),
        ([[Decimal(1), Decimal(2)], None, [Decimal(3), Decimal(4)]], None),
        ([["1", "2.0"], None, ["3", "4e0"]], None),
        (["[1, 2]", "", "[3.0, 4]"], None),
        (["1 2", None, "  3\n  4 "], None),
        (["(1;2)", "[]", "3|4"], None),
    ],
)
def test_vectors_become_float32_lists(values: list, dtype: Any):
    vectors = to_vectors(checks(values, dtype), "x")
    assert vectors.dtype == pl.List(pl.Float32)
    assert vectors.to_list() == [[1.0, 2.0], None, [3.0, 4.0]]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([[1, 2], [3], [4, 5]], "row 20, column 'x': wanted a vector of 2 numbers, got [3]."),
        (
            [[1], None, [1, 2], [3], [], [4]],
            "row 30, column 'x': wanted a vector of 1 numbers, got [1, 2]. (1 more row like it)",
        ),
        (
            [[1.0, 2.0], [INF, 0.0]],
            "row 20, column 'x': wanted a vector of finite numbers, got [inf, 0.0].",
        ),
        ([["a", "b"]], "row 10, column 'x': wanted a vector of finite numbers, got ['a', 'b']."),
        (["1 2", "a b"], "row 20, column 'x': wanted a vector of finite numbers, got 'a b'."),
        ([1.0], "column 'x': wanted vectors, got Float64."),
        ([[True]], "column 'x': wanted vectors of numbers, got List(Boolean)."),
        ([[[1.0]]], "column 'x': wanted vectors of numbers, got List(List(Float64))."),
        ([time(1)], "column 'x': wanted vectors, got Time."),
        (
            [datetime(2026, 1, 1, tzinfo=UTC)],
            "column 'x': wanted vectors, got Datetime(time_unit='us', time_zone='UTC').",
        ),
    ],
)
def test_vectors_that_are_none_are_refused(values: list, expected: str):
    assert refusal(to_vectors, values) == expected


def test_vectors_that_do_not_fit_become_unknown_and_keep_their_rows():
    # 1e39 is no float32. The lengths of cells that do not fit anyway have no say in the size.
    values = [[1.0, 2.0], [3.0], [None, 1.0, 2.0], [NAN, 1.0, 3.0], [1e39, 1.0, 2.0], [5.0, 6.0]]
    assert repaired(to_vectors, values) == (
        [[1.0, 2.0], None, None, None, None, [5.0, 6.0]],
        [False] * 6,
        [
            ("a vector of finite numbers", 3, [30, 40, 50]),
            ("a vector of 2 numbers", 1, [20]),
        ],
    )


@pytest.mark.parametrize(
    ("values", "size"),
    [([[1.0], [2.0, 3.0]], 2), ([[], [], [1.0]], 1), ([None, None, [1.0, 2.0, 3.0]], 3)],
)
def test_vectors_of_undecided_size_are_the_longest_and_never_empty(values: list, size: int):
    found, _, problems = repaired(to_vectors, values)
    assert [len(vector) for vector in found if vector is not None] == [size]
    assert all(wanted == f"a vector of {size} numbers" for wanted, _, _ in problems)


def test_vectors_follow_the_given_size_against_the_majority():
    batch = checks([[1.0], [2.0], [3.0, 4.0]], policy="repair")
    vectors = Vector("x", size=2).parse(batch)
    assert vectors.to_list() == [None, None, [3.0, 4.0]]


@pytest.mark.parametrize("dtype", [pl.List(pl.Float32), pl.Null, pl.String])
def test_vectors_all_unknown_are_accepted(dtype: Any):
    vectors = to_vectors(checks([None, None], dtype), "x")
    assert (vectors.dtype, vectors.to_list()) == (pl.List(pl.Float32), [None, None])
