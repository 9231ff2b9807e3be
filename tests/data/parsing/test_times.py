import random
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.data.parsing.checks import Findings, RowChecks
from tfrec.data.parsing.times import to_times
from tfrec.data.reading.batch import RawBatch
from tfrec.errors import DataError
from tfrec.features import Date

NAN, INF = float("nan"), float("inf")
NOON = datetime(2026, 1, 31, 12)
SECONDS = 1769860800  # of NOON: 20,484 days * 86,400 s + 43,200 s
FIRST, LAST = datetime(1970, 1, 1), datetime(2026, 2, 1)
TIME = "a time (ISO 8601, as 2026-01-31T12:00:00, or seconds since 1970)"
BOUNDS = "a time from 1970-01-01 00:00:00 to 2026-02-01 00:00:00 (numbers count seconds)"


def checks(values: list[Any], dtype: Any = None, policy: Any = "raise") -> RowChecks:
    """Returns a batch of one column x whose rows are 10, 20, 30 ... of t.csv."""
    column = pl.Series("x", values, dtype=dtype, strict=False)
    rows = 10 * np.arange(1, len(values) + 1)
    return RowChecks(RawBatch(column.to_frame(), "t.csv", rows), "events", Findings(policy))


def times(values: list[Any], dtype: Any = None, **settings: Any) -> list[datetime]:
    found = to_times(checks(values, dtype), "x", **({"earliest": FIRST, "latest": LAST} | settings))
    assert found.dtype == pl.Datetime("us")
    return found.to_list()


def refusal(values: list[Any], dtype: Any = None, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        times(values, dtype, **settings)
    return str(caught.value)


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
        ["2026-01-31T12:00:00,000"],
        [" 2026-01-31T12:00:00 "],
        ["2026-01-31T12:00:00Z"],
        ["2026-01-31t12:00:00z"],
        ["2026-01-31 12:00:00 UTC"],
        ["2026-01-31 12:00:00+00"],
        ["2026-01-31T12:00:00.000000Z"],
        ["2026-01-31T12:00:00.0000000000Z"],
        ["2026-01-31T14:00:00+02:00"],
        ["2026-01-31T07:00:00-0500"],
        [SECONDS],
        [float(SECONDS)],
        [Decimal(SECONDS)],
        [str(SECONDS)],
        [f"{SECONDS}.0"],
        ["1.7698608e9"],
    ],
)
def test_times_of_any_form_are_the_same_instant(values: list):
    assert times(values) == [NOON]


@pytest.mark.parametrize("dtype", [pl.Categorical, pl.Binary, pl.Enum(["2026-01-31T12:00:00"])])
def test_times_in_text_of_any_storage_are_read(dtype: Any):
    assert times(["2026-01-31T12:00:00"], dtype) == [NOON]


def test_times_in_a_zone_of_the_column_are_in_utc():
    zoned = pl.Series([NOON]).dt.replace_time_zone("Europe/Berlin").to_list()  # 12:00 CET
    assert times(zoned, pl.Datetime("ns", "Europe/Berlin")) == [NOON - timedelta(hours=1)]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_datetimes_of_any_unit_keep_milliseconds(unit: Any):
    moment = NOON + timedelta(milliseconds=5)
    assert times([moment], pl.Datetime(unit)) == [moment]


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1000), ("us", 10**6), ("ns", 10**9)])
def test_numbers_count_the_declared_unit(unit: Any, factor: int, as_text: bool):
    number = SECONDS * factor
    assert times([str(number) if as_text else number], unit=unit) == [NOON]


def test_numbers_of_nanoseconds_are_exact_to_the_microsecond():
    number = SECONDS * 10**9 + 123_456_999
    for value in (number, str(number)):
        assert times([value], unit="ns") == [NOON + timedelta(microseconds=123_456)]


@pytest.mark.parametrize("values", [[date(2026, 1, 31)], ["2026-01-31"], ["2026-1-31"]])
def test_days_are_their_midnight(values: list):
    assert times(values) == [datetime(2026, 1, 31)]


def test_times_in_mixed_text_are_read_cell_by_cell():
    values = ["2026-01-31", str(SECONDS), "2026-01-31T12:00:00.25", "2026-01-31T12:00:00Z"]
    assert times(values) == [datetime(2026, 1, 31), NOON, NOON + timedelta(seconds=0.25), NOON]


@pytest.mark.parametrize("dtype", [pl.String, pl.Int64, pl.Float64])
def test_eight_digits_are_a_day(dtype: Any):
    values = [20260131, 20250228]
    assert times(values, dtype) == [datetime(2026, 1, 31), datetime(2025, 2, 28)]


def test_eight_digits_among_days_that_are_none_are_refused():
    # As seconds it would be a night in August 1970.
    values = ["20260131", "20261331", "20250228"]
    assert refusal(values) == f"t.csv: row 20, column 'x': wanted {TIME}, got '20261331'."


def test_eight_digits_of_which_half_are_days_are_days():
    assert "got '12345678'" in refusal(["20260131", "12345678"])


def test_eight_digits_with_a_fraction_are_seconds():
    moment = FIRST + timedelta(seconds=20_250_228.5)
    assert times([20_260_131.0, 20_250_228.5]) == [datetime(2026, 1, 31), moment]


def test_eight_digits_among_other_numbers_are_seconds():
    # A log that counts from its own start; 20,200,101 would be a day of 2020.
    values = [9_999_999, 20_200_101, 20_200_199, 30_000_000]
    assert times(values) == [FIRST + timedelta(seconds=value) for value in values]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, datetime(1970, 1, 1)),
        (-1, datetime(1969, 12, 31, 23, 59, 59)),
        (0.000001, datetime(1970, 1, 1, 0, 0, 0, 1)),
        (253402300799, datetime(9999, 12, 31, 23, 59, 59)),
        (-62135596800, datetime(1, 1, 1)),
    ],
)
def test_unix_seconds_at_the_edges_are_exact(seconds: float, expected: datetime):
    assert times([seconds], earliest=datetime.min, latest=datetime.max) == [expected]


@pytest.mark.parametrize(
    ("values", "row", "got"),
    [
        ([NOON, None], 20, "nothing"),
        ([date(2026, 1, 31), None], 20, "nothing"),
        (["2026-01-31", ""], 20, "nothing"),
        ([None], 10, "nothing"),
        (["yesterday"], 10, "'yesterday'"),
        (["2026-01-31", "soon"], 20, "'soon'"),
        (["2026-02-30"], 10, "'2026-02-30'"),
        (["2026-01-31T25:00:00"], 10, "'2026-01-31T25:00:00'"),
        (["2026-01-31T12:00:00 and more"], 10, "'2026-01-31T12:00:00 and more'"),
        (["31/01/2026"], 10, "'31/01/2026'"),
        (["01/02/2026"], 10, "'01/02/2026'"),  # nobody knows whether February or January
        (["nan"], 10, "'nan'"),
        ([1.0, NAN], 20, "nan"),
        ([INF], 10, "inf"),
        ([SECONDS, None], 20, "nothing"),
    ],
)
def test_times_that_are_none_are_refused(values: list, row: int, got: str):
    assert refusal(values) == f"t.csv: row {row}, column 'x': wanted {TIME}, got {got}."


@pytest.mark.parametrize(
    ("values", "dtype", "got"),
    [
        ([SECONDS, SECONDS * 1000], None, f"{SECONDS * 1000}"),  # milliseconds
        (["0", f"{SECONDS * 1000}"], None, f"'{SECONDS * 1000}'"),
        ([0, -1], None, "-1"),
        ([0, 2**64 - 1], pl.UInt64, f"{2**64 - 1}"),
        ([0, 2**63 - 1], None, f"{2**63 - 1}"),
        ([0, -(2**63)], None, f"{-(2**63)}"),
        ([0.0, 1e300], None, "1e+300"),
        (["2026-01-31", "2026-02-02"], None, "'2026-02-02'"),
        (["2026-01-31", "1969-12-31T23:59:59"], None, "'1969-12-31T23:59:59'"),
        ([NOON, datetime(2062, 1, 1)], None, "datetime.datetime(2062, 1, 1, 0, 0)"),
    ],
)
def test_times_out_of_bounds_are_refused(values: list, dtype: Any, got: str):
    assert refusal(values, dtype) == f"t.csv: row 20, column 'x': wanted {BOUNDS}, got {got}."


def test_bounds_belong_to_what_fits():
    assert times([FIRST, LAST]) == [FIRST, LAST]
    assert "wanted a time from" in refusal([LAST + timedelta(microseconds=1)])


@pytest.mark.parametrize(
    ("values", "dtype", "got"),
    [
        ([True], None, "Boolean"),
        ([["2026-01-31"]], None, "List(String)"),
        ([time(12)], None, "Time"),
        ([timedelta(1)], None, "Duration(time_unit='us')"),
        ([b"\xff"], pl.Binary, "bytes that are no UTF-8"),
    ],
)
def test_times_of_other_types_are_refused(values: list, dtype: Any, got: str):
    assert refusal(values, dtype) == f"t.csv: column 'x': wanted times, got {got}."


@pytest.mark.parametrize(
    ("value", "time_format", "expected"),
    [
        ("01/31/2026 12:00:00 PM", "%m/%d/%Y %I:%M:%S %p", NOON),
        ("31.01.2026", "%d.%m.%Y", datetime(2026, 1, 31)),
        ("31/Jan/2026:13:00:00 +0100", "%d/%b/%Y:%H:%M:%S %z", NOON),
        (20260131, "%Y%m%d", datetime(2026, 1, 31)),
        (NOON, "%d.%m.%Y", NOON),
    ],
)
def test_times_of_a_declared_form_are_read(value: Any, time_format: str, expected: datetime):
    assert times([value], time_format=time_format) == [expected]


def test_times_of_another_form_than_declared_are_refused():
    assert refusal(["31.01.2026", "2026-01-31"], time_format="%d.%m.%Y") == (
        "t.csv: row 20, column 'x': wanted a time of the form '%d.%m.%Y', got '2026-01-31'."
    )


def test_times_that_do_not_fit_drop_their_rows():
    batch = checks(["2026-01-31", "x", "2030-01-01", "", "1970-01-01"], policy="repair")
    found = to_times(batch, "x", FIRST, LAST)
    assert found.to_list() == [datetime(2026, 1, 31), None, None, None, FIRST]
    assert batch.dropped.tolist() == [False, True, True, True, False]
    assert [(p.wanted, p.count) for p in batch.findings] == [(TIME, 2), (BOUNDS, 1)]


@pytest.mark.parametrize("seed", range(5))
def test_times_of_random_tables_follow_plain_python(seed: int):
    draw = random.Random(seed)
    cells, expected = [], []
    for _ in range(300):
        moment = FIRST + timedelta(microseconds=draw.randrange(2_000_000_000_000_000))
        if draw.random() < 0.5:
            moment = moment.replace(microsecond=0)
        zone = timezone(timedelta(minutes=15 * draw.randrange(-48, 48)))
        zoned = moment.replace(tzinfo=UTC).astimezone(zone)
        form = draw.randrange(7)
        if form == 0:
            cell = moment.isoformat()
        elif form == 1:
            cell = zoned.isoformat(" ")
        elif form == 2:
            cell = zoned.strftime("%Y-%m-%dT%H:%M:%S.%f%z")
        elif form == 3:
            moment = moment.replace(microsecond=0)
            cell = str(int(moment.replace(tzinfo=UTC).timestamp()))
        elif form == 4:
            moment = moment.replace(hour=0, minute=0, second=0, microsecond=0)
            cell = moment.strftime("%Y-%m-%d")
        elif form == 5:
            moment = moment.replace(second=0, microsecond=0)
            cell = moment.strftime("%Y-%m-%d %H:%M")
        else:
            cell = draw.choice(["", "never", "2026-13-01", "12:00", "2026-01-31T", "--", "NULL"])
            moment = None  # type: ignore[assignment]
        if moment is not None and not FIRST <= moment <= LAST:
            moment = None  # type: ignore[assignment]
        cells.append(cell)
        expected.append(moment)
    batch = checks(cells, policy="repair")
    assert to_times(batch, "x", FIRST, LAST).to_list() == expected
    assert batch.dropped.tolist() == [moment is None for moment in expected]


# Dates as features


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        (["1970-01-02", "1969-12-31", "", "  ", None], None, [1.0, -1.0, None, None, None]),
        (["19700111", "1970-01-01T12:00:00Z", "86400"], None, [10.0, 0.5, 1.0]),
        ([date(1950, 1, 1), None], None, [-7305.0, None]),  # 20 * 365 + 5 leap days
        ([datetime(1970, 1, 1, 6)], None, [0.25]),
        ([86400, None], None, [1.0, None]),
        ([86400.0, NAN], None, [1.0, None]),
        ([None], None, [None]),
        ([], pl.String, []),
    ],
)
def test_days_count_from_1970(values: list, dtype: Any, expected: list):
    days = Date("x").parse(checks(values, dtype))
    assert (days.dtype, days.to_list()) == (pl.Float64, expected)


def test_days_that_are_none_become_unknown_and_keep_their_rows():
    batch = checks(["1970-01-02", "soon", "1e300", "inf", "1970-01-32"], policy="repair")
    assert Date("x").parse(batch).to_list() == [1.0, None, None, None, None]
    assert not batch.dropped.any()
    assert [(p.count, p.places[0].row, p.places[0].got) for p in batch.findings] == [
        (4, 20, "'soon'")
    ]


def test_days_that_are_none_are_refused():
    with pytest.raises(DataError) as caught:
        Date("x").parse(checks(["1970-01-02", "soon"]))
    assert str(caught.value) == (
        "t.csv: row 20, column 'x': wanted a date (ISO 8601, as 2026-01-31, or seconds since "
        "1970), got 'soon'."
    )
