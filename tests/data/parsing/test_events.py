import math
import random
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.config import Cleaning, Events
from tfrec.data.parsing.checks import Findings, RowChecks
from tfrec.data.parsing.events import declared_columns, type_events
from tfrec.data.reading.batch import RawBatch
from tfrec.errors import DataError
from tfrec.schema import SPLITS

NOW = datetime(2026, 1, 31, 12)
KINDS: dict[str, dict[str, Any]] = {
    "view": {"label": 0, "target": False},
    "click": {"label": 1},
    "buy": {"label": 1, "weight": 3.0, "ranked": False},
}
SCHEMA = {
    "user_id": pl.String,
    "item_id": pl.String,
    "time": pl.Datetime("us"),
    "sequence": pl.Int64,
    "label": pl.Int8,
    "weight": pl.Float32,
    "is_ranked": pl.Boolean,
    "is_target": pl.Boolean,
    "query": pl.String,
    "position": pl.Int16,
    "watch_time": pl.Float32,
    "impression": pl.String,
    "true_probability": pl.Float32,
    "split": pl.Int8,
}
# Every role; rows differ so that a wrong order of rows would show.
FULL = {
    "sequence": "step",
    "kind": "kind",
    "kinds": KINDS,
    "weight": "importance",
    "watch_time": "watched",
    "query": "search",
    "position": "place",
    "impression": "list",
    "true_probability": "p",
    "split": "part",
    "context": {"device": "category", "temperature": "number", "delivery": "date"},
}
LOG = pl.DataFrame(
    {
        "user_id": ["u1", "u2", "u3", "u4"],
        "item_id": ["a", "b", "c", "d"],
        "time": [f"2026-01-0{day}T00:00:00" for day in (1, 2, 3, 4)],
        "step": ["1", "2", "3", "4"],
        "kind": ["view", "click", "buy", "click"],
        "importance": ["1", "2", "0.5", "1"],
        "watched": ["0", "10.5", "", "3"],
        "search": ["red  shoes", "", None, "R&amp;D"],
        "place": ["1", "", "2000", "-1"],
        "list": [" l1", "l1", "", None],
        "p": ["0", "1", "", "0.5"],
        "part": ["train", "Validation", " TEST ", "dev"],
        "device": ["phone", None, "", "desktop"],
        "temperature": ["20.5", "", "nan", "-3"],
        "delivery": ["1970-01-02", "", None, "1970-01-03"],
        "note": ["no role", "", "", ""],
    }
)
ROWS = np.array([4, 17, 18, 40])


def declare(**roles: Any) -> tuple[Events, Cleaning]:
    return Events.model_validate(roles), Cleaning()


def checks(frame: pl.DataFrame, policy: Any = "raise", rows: np.ndarray | None = None) -> RowChecks:
    rows = np.arange(1, frame.height + 1) if rows is None else rows
    return RowChecks(RawBatch(frame, "log.csv", rows), "events", Findings(policy))


def run(frame: pl.DataFrame, **roles: Any) -> pl.DataFrame:
    return type_events(checks(frame), *declare(**roles), NOW, Counter())


def log(**columns: list) -> pl.DataFrame:
    """Returns a log of as many rows as the columns have."""
    n = len(next(iter(columns.values())))
    ids = {"user_id": ["u"] * n, "item_id": ["i"] * n, "time": ["2026-01-01"] * n}
    return pl.DataFrame(ids | columns, strict=False)


def same(found: list, expected: list) -> bool:
    """Compares values of which NaN equals NaN and nothing else."""
    return [repr(a) if a != a else a for a in found] == [repr(b) if b != b else b for b in expected]


# Columns


def test_events_of_every_role_are_typed():
    typed = run(LOG, **FULL)
    context = {"device": pl.String, "temperature": pl.Float64, "delivery": pl.Float64}
    assert dict(typed.schema) == SCHEMA | {"event_kind": pl.Int16} | context
    nan = math.nan
    expected = {
        "user_id": ["u1", "u2", "u3", "u4"],
        "item_id": ["a", "b", "c", "d"],
        "time": [datetime(2026, 1, day) for day in (1, 2, 3, 4)],
        "sequence": [1, 2, 3, 4],
        "label": [0, 1, 1, 1],
        "weight": [1.0, 2.0, 1.5, 1.0],  # a purchase of weight 3 at half importance
        "is_ranked": [True, True, False, True],
        "is_target": [False, True, True, True],
        "query": ["red shoes", "", "", "R&D"],
        "position": [1, 0, 1000, 0],
        "watch_time": [0.0, 10.5, nan, 3.0],
        "impression": ["l1", "l1", "", ""],
        "true_probability": [0.0, 1.0, nan, 0.5],
        "split": [SPLITS.index(name) for name in ("train", "validation", "test", "validation")],
        "event_kind": [1, 2, 3, 2],
        "device": ["phone", "", "", "desktop"],
        "temperature": [20.5, None, None, -3.0],
        "delivery": [1.0, None, None, 2.0],
    }
    for name, values in expected.items():
        assert same(typed[name].to_list(), values), name


def test_ratings_are_kept_beside_the_label():
    typed = run(log(rating=["3", "2.5", " 5 "]), **BY_RATING)
    assert dict(typed.schema) == SCHEMA | {"rating": pl.Float32}
    assert typed["rating"].to_list() == [3.0, 2.5, 5.0]
    assert typed["label"].to_list() == [1, 0, 1]


def test_events_of_three_roles_get_defaults():
    typed = run(log(user_id=["u", "v"]), time=None)
    assert dict(typed.schema) == SCHEMA
    for row in typed.iter_rows(named=True):
        assert (row["time"], row["sequence"], row["label"], row["weight"]) == (None, 0, 1, 1.0)
        assert (row["is_ranked"], row["is_target"], row["query"]) == (True, True, "")
        assert (row["position"], row["impression"], row["split"]) == (0, "", -1)
        assert math.isnan(row["watch_time"])
        assert math.isnan(row["true_probability"])


@pytest.mark.parametrize("roles", [FULL, {}])
def test_events_of_an_empty_batch_keep_their_columns(roles: dict):
    typed = run(LOG.clear(), **roles)
    assert typed.is_empty()
    assert dict(typed.schema) == dict(run(LOG, **roles).schema)


def test_events_of_one_row_are_typed_as_among_many():
    whole = run(LOG, **FULL)
    parts = [run(LOG[row], **FULL) for row in range(LOG.height)]
    assert pl.concat(parts).equals(whole, null_equal=True)


def test_events_in_other_storage_are_the_same():
    typed = LOG.with_columns(
        pl.col("user_id").cast(pl.Categorical),
        pl.col("kind").cast(pl.Enum(list(KINDS))),
        pl.col("time").str.to_datetime().dt.replace_time_zone("UTC"),
        pl.col("step").cast(pl.UInt64),
        pl.col("importance").cast(pl.Decimal(10, 2)),
        pl.col("place").cast(pl.Float32, strict=False),
        pl.col("delivery").str.to_date(strict=False),
        pl.col("temperature").cast(pl.Float32, strict=False),
        pl.col("part").cast(pl.Binary),
    )
    assert run(typed, **FULL).equals(run(LOG, **FULL), null_equal=True)


def test_events_lose_no_row_to_columns_that_are_all_null():
    optional = ["search", "place", "list", "p", "watched", "device", "temperature", "delivery"]
    empty = LOG.with_columns(pl.lit(None).alias(name) for name in optional)
    batch = checks(empty)
    typed = type_events(batch, *declare(**FULL), NOW, Counter())
    assert not batch.dropped.any()
    assert typed.schema == run(LOG, **FULL).schema
    assert typed["query"].to_list() == [""] * 4
    assert typed["temperature"].null_count() == 4


def test_columns_are_declared_once_each():
    events, _ = declare(**FULL)
    assert declared_columns(events) == [
        "user_id", "item_id", "time", "step", "kind", "watched", "importance", "search", "place",
        "list", "p", "part", "device", "temperature", "delivery",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("roles", "missing", "meant"),
    [
        ({"item_id": "itemid"}, "itemid", "item_id"),
        ({"query": "serach"}, "serach", "search"),
        ({"context": {"devise": "category"}}, "devise", "device"),
    ],
)
def test_events_without_a_declared_column_are_refused(roles: dict, missing: str, meant: str):
    with pytest.raises(DataError) as caught:
        run(LOG, **roles)
    assert str(caught.value).startswith(
        f"log.csv: column {missing!r} is missing. Did you mean {meant!r}? "
    )


# Cells that do not fit

BY_RATING = {"rating": "rating", "positive_rating": 3}
BY_LABEL = {"label": "clicked"}
BY_WATCH_TIME = {"watch_time": "seconds", "positive_watch_time": 30}
TIME = "a time (ISO 8601, as 2026-01-31T12:00:00, or seconds since 1970)"
BOUNDS = "a time from 1970-01-01 00:00:00 to 2026-02-01 12:00:00 (numbers count seconds)"
KIND = "one of view, click, buy"
SPLIT = "one of train, validation, test"
WEIGHT = "a weight above 0 (1e-30 to 1e30)"
SECONDS = "a number of seconds, 0 or more"

# Roles, column, its second cell, what is wanted, what the message shows.
BAD_ROWS = [
    (FULL, "user_id", "", "an id", "nothing"),
    (FULL, "user_id", None, "an id", "nothing"),
    (FULL, "user_id", " ", "an id", "' '"),
    (FULL, "item_id", None, "an id", "nothing"),
    (FULL, "item_id", "a\x00", "an id without control characters", r"'a\x00'"),
    (FULL, "time", "soon", TIME, "'soon'"),
    (FULL, "time", None, TIME, "nothing"),
    (FULL, "time", "2026-02-30", TIME, "'2026-02-30'"),
    (FULL, "time", "1969-12-31", BOUNDS, "'1969-12-31'"),
    (FULL, "time", "2026-02-02", BOUNDS, "'2026-02-02'"),  # two days ahead of the reading
    (FULL, "time", "1769860800000", BOUNDS, "'1769860800000'"),  # milliseconds
    (FULL, "step", "1.5", "a whole number", "'1.5'"),
    (FULL, "step", None, "a whole number", "nothing"),
    (FULL, "kind", "hover", KIND, "'hover'"),
    (FULL, "kind", "", KIND, "nothing"),
    (FULL, "kind", None, KIND, "nothing"),
    (FULL, "kind", "Click", KIND, "'Click'"),
    (FULL, "importance", "0", WEIGHT, "'0'"),
    (FULL, "importance", "-1", WEIGHT, "'-1'"),
    (FULL, "importance", "", "a number", "nothing"),
    (FULL, "importance", "inf", "a finite number", "'inf'"),
    (FULL, "part", "holdout", SPLIT, "'holdout'"),
    (FULL, "part", None, SPLIT, "nothing"),
    (BY_RATING, "rating", "good", "a number", "'good'"),
    (BY_RATING, "rating", None, "a number", "nothing"),
    (BY_RATING, "rating", "nan", "a number", "'nan'"),
    (BY_LABEL, "clicked", "2", "0 or 1", "'2'"),
    (BY_LABEL, "clicked", "yes", "0 or 1", "'yes'"),
    (BY_LABEL, "clicked", "", "0 or 1", "nothing"),
    (BY_WATCH_TIME, "seconds", "", "a number", "nothing"),
    (BY_WATCH_TIME, "seconds", "-5", SECONDS, "'-5'"),
    (BY_WATCH_TIME, "seconds", "1e39", SECONDS, "'1e39'"),
]
# The same with what the cell becomes.
BAD_CELLS = [
    (FULL, "watched", "-5", SECONDS, "'-5'", "watch_time", math.nan),
    (FULL, "watched", "long", "a number", "'long'", "watch_time", math.nan),
    (FULL, "watched", "inf", "a finite number", "'inf'", "watch_time", math.nan),
    (FULL, "watched", "1e39", SECONDS, "'1e39'", "watch_time", math.nan),  # no float32
    (FULL, "place", "top", "a number", "'top'", "position", 0),
    (FULL, "p", "1.5", "a probability from 0 to 1", "'1.5'", "true_probability", math.nan),
    (FULL, "temperature", "warm", "a number", "'warm'", "temperature", None),
    (FULL, "temperature", "-inf", "a finite number", "'-inf'", "temperature", None),
    (
        FULL, "delivery", "soon", "a date (ISO 8601, as 2026-01-31, or seconds since 1970)",
        "'soon'", "delivery", None,
    ),
]  # fmt: skip
SOUND = LOG.with_columns(
    pl.Series("rating", ["1", "5", "3", "2.5"]),
    pl.Series("clicked", ["1", "0", "true", "False"]),
    pl.Series("seconds", ["0", "30", "29.9", "1e3"]),
)


def spoil(column: str, cell: Any) -> pl.DataFrame:
    cells = SOUND[column].to_list()
    return SOUND.with_columns(pl.Series(column, [cells[0], cell, *cells[2:]], dtype=pl.String))


@pytest.mark.parametrize(
    ("roles", "column", "cell", "wanted", "got"), [*BAD_ROWS, *(case[:5] for case in BAD_CELLS)]
)
def test_cells_that_do_not_fit_are_refused(
    roles: dict, column: str, cell: Any, wanted: str, got: str
):
    batch = checks(spoil(column, cell), rows=ROWS)
    with pytest.raises(DataError) as caught:
        type_events(batch, *declare(**roles), NOW, Counter())
    assert str(caught.value) == f"log.csv: row 17, column {column!r}: wanted {wanted}, got {got}."


@pytest.mark.parametrize(("roles", "column", "cell", "wanted", "got"), BAD_ROWS)
def test_rows_that_do_not_fit_are_dropped_and_counted(
    roles: dict, column: str, cell: Any, wanted: str, got: str
):
    batch = checks(spoil(column, cell), "repair", ROWS)
    typed = type_events(batch, *declare(**roles), NOW, Counter())
    assert batch.dropped.tolist() == [False, True, False, False]
    (problem,) = batch.findings
    assert (problem.table, problem.column, problem.wanted) == ("events", column, wanted)
    assert (problem.count, problem.repair) == (1, "row dropped")
    assert [(place.row, place.got) for place in problem.places] == [(17, got)]
    # The row stays in its place; the others are what they are without it.
    kept = typed.filter(pl.Series(~batch.dropped))
    assert typed.height == SOUND.height
    assert kept.equals(run(SOUND[[0, 2, 3]], **roles), null_equal=True)
    for name in ("label", "weight", "is_ranked", "is_target", "split", "sequence"):
        assert not typed[name].null_count()


@pytest.mark.parametrize(("roles", "column", "cell", "wanted", "got", "role", "value"), BAD_CELLS)
def test_cells_that_do_not_fit_become_unknown_and_are_counted(
    roles: dict, column: str, cell: Any, wanted: str, got: str, role: str, value: Any
):
    batch = checks(spoil(column, cell), "repair", ROWS)
    typed = type_events(batch, *declare(**roles), NOW, Counter())
    assert not batch.dropped.any()
    assert same([typed[role][1]], [value])
    (problem,) = batch.findings
    assert (problem.count, problem.repair) == (1, "cell made unknown")
    assert [(place.row, place.got) for place in problem.places] == [(17, got)]
    assert typed.drop(role).equals(run(SOUND, **roles).drop(role), null_equal=True)


def test_problems_of_one_row_are_counted_each_and_drop_it_once():
    frame = SOUND.with_columns(
        pl.Series("user_id", ["u1", "", "u3", "u4"]),
        pl.Series("time", ["x", "y", "2026-01-03", "2026-01-04"]),
    )
    batch = checks(frame, "repair", ROWS)
    type_events(batch, *declare(), NOW, Counter())
    assert batch.dropped.tolist() == [True, True, False, False]
    assert {problem.column: problem.count for problem in batch.findings} == {
        "user_id": 1,
        "time": 2,
    }


def test_all_rows_may_be_dropped():
    batch = checks(log(time=["x", "y"]), "collect")
    typed = type_events(batch, *declare(), NOW, Counter())
    assert batch.dropped.all()
    assert typed["time"].to_list() == [None, None]


# Times


def test_times_fit_within_the_declared_bounds():
    events, _ = declare()
    cleaning = Cleaning(earliest="2020-01-01", latest="2021-01-01T00:00:00+01:00")
    times = ["2019-12-31T23:59:59", "2020-01-01", "2020-12-31T23:00:00", "2020-12-31T23:00:01"]
    batch = checks(log(time=times), "repair")
    type_events(batch, events, cleaning, NOW, Counter())
    assert batch.dropped.tolist() == [True, False, False, True]


def test_times_up_to_a_day_ahead_fit():
    times = [NOW + timedelta(hours=hours) for hours in (0, 24, 25)]
    batch = checks(log(time=times), "repair")
    type_events(batch, *declare(), NOW, Counter())
    assert batch.dropped.tolist() == [False, False, True]


def test_times_of_a_declared_form_and_unit_are_read():
    expected = [datetime(2026, 1, 31, 12)]
    for cell, how in (
        ("01/31/2026 12:00:00 PM", {"time_format": "%m/%d/%Y %I:%M:%S %p"}),
        (1769860800000, {"time_unit": "ms"}),
    ):
        assert run(log(time=[cell]), **how)["time"].to_list() == expected


# Labels


def test_ids_as_numbers_and_as_text_are_equal():
    forms = [
        pl.Series([1, 22]), pl.Series([1.0, 22.0]), pl.Series(["1", "22"]),
        pl.Series(["1", "22"], dtype=pl.Categorical), pl.Series([1, 22], dtype=pl.UInt64),
    ]  # fmt: skip
    for form in forms:
        typed = run(pl.DataFrame({"user_id": form, "item_id": form, "time": [1, 2]}))
        assert typed["user_id"].to_list() == typed["item_id"].to_list() == ["1", "22"]


def test_kinds_that_are_numbers_are_named_as_text():
    kinds = {"0": {"label": 0}, "1": {"label": 1}}
    for cells in ([0, 1], [0.0, 1.0], ["0", " 1 "], [False, True]):
        names = kinds
        if isinstance(cells[0], bool):
            names = {"false": kinds["0"], "true": kinds["1"]}
        assert run(log(what=cells), kind="what", kinds=names)["label"].to_list() == [0, 1]


@pytest.mark.parametrize("seed", range(8))
def test_labels_of_random_tables_follow_plain_python(seed: int):
    draw = random.Random(seed)
    source = ("kind", "label", "rating", "watch_time")[seed % 4]
    settings: dict[str, Any] = {
        "kind": {"kind": "x", "kinds": KINDS},
        "label": {"label": "x"},
        "rating": {"rating": "x", "positive_rating": 3.5},
        "watch_time": {"watch_time": "x", "positive_watch_time": 20},
    }[source]
    pool: list[str | None] = {
        "kind": ["view", "click", "buy", " buy", "VIEW", "", None, "other"],
        "label": ["0", "1", "true", "False", "0.0", "1.0", "2", "", None, "yes", "nan"],
        "rating": ["3.5", "3.49", "5", "0", "-1", "1e1", "", None, "nan", "inf", "five", " 4 "],
        "watch_time": ["20", "19.9", "0", "-1", "1e6", "", None, "nan", "-inf", "x"],
    }[source]
    cells = [draw.choice(pool) for _ in range(200)]
    weights = [draw.choice(["1", "0.25", "0", "-2", "", "8"]) for _ in range(200)]

    labels = [oracle_label(source, cell) for cell in cells]
    products = [float(weight or 0) for weight in weights]
    if source == "kind":
        products = [
            product * KINDS.get((cell or "").strip(), {}).get("weight", 1.0)
            for product, cell in zip(products, cells, strict=True)
        ]
    pairs = zip(labels, products, strict=True)
    dropped = [label is None or product <= 0 for label, product in pairs]

    batch = checks(log(x=cells, w=weights), "repair")
    typed = type_events(batch, *declare(**settings, weight="w"), NOW, Counter())
    assert batch.dropped.tolist() == dropped
    kept = [row for row in range(200) if not dropped[row]]
    assert typed["label"].gather(kept).to_list() == [labels[row] for row in kept]
    assert typed["weight"].gather(kept).to_list() == [products[row] for row in kept]


def oracle_label(source: str, cell: str | None) -> int | None:
    text = (cell or "").strip()
    if source == "kind":
        return KINDS[text]["label"] if text in KINDS else None
    if source == "label":
        return {"0": 0, "0.0": 0, "false": 0, "1": 1, "1.0": 1, "true": 1}.get(text.lower())
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number) or (source == "watch_time" and number < 0):
        return None
    return int(number >= (3.5 if source == "rating" else 20))


# Queries


def test_queries_are_cleaned_and_counted():
    counts = Counter({"texts_cut": 2})
    events, _ = declare(query="q")
    frame = log(q=["a &lt; b", " a\t\n b ", "12345678901234", None, "x &amp y"])
    typed = type_events(checks(frame), events, Cleaning(max_text_chars=10), NOW, counts)
    assert typed["query"].to_list() == ["a < b", "a b", "1234567890", "", "x & y"]
    assert counts == {"texts_cut": 3, "texts_with_html_entities": 2}
