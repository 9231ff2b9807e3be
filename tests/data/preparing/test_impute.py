from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.impute import KNNImputer

from tfrec.config import Feature, Features
from tfrec.data.preparing import impute
from tfrec.data.preparing.impute import fill_interpolated, fill_nearest, list_filled
from tfrec.errors import DataError
from tfrec.features.frame import encode_frame, filled_column, fit_features

NAN, INF = float("nan"), float("inf")


def declare(**options: Any) -> Features:
    """Returns numbers; a value is the feature's `missing`, or all of its options with `type`."""
    return {
        name: Feature.model_validate(
            value if isinstance(value, dict) and "type" in value
            else {"type": "number", "missing": value}
        )
        for name, value in options.items()
    }  # fmt: skip


def found(frame: pl.DataFrame, name: str) -> list[float | None]:
    return frame[filled_column(name)].to_list()


# Nearest


def draw_table(seed: int, rows: int = 120, columns: int = 4, missing: float = 0.25) -> np.ndarray:
    """Draws correlated numbers of very different size, NaN where missing."""
    draw = np.random.default_rng(seed)
    mixed = draw.normal(size=(rows, columns)) @ draw.normal(size=(columns, columns))
    table = mixed * 10.0 ** np.arange(columns) + 50
    table[draw.random(table.shape) < missing] = np.nan
    return table.astype(np.float32).astype(np.float64)


def as_frame(table: np.ndarray) -> pl.DataFrame:
    names = [f"n{number}" for number in range(table.shape[1])]
    return pl.DataFrame(table, schema=names).fill_nan(None)


@pytest.mark.parametrize("neighbours", [1, 3, 500])
@pytest.mark.parametrize("seed", range(3))
def test_nearest_equals_scikit_learn_on_standardised_numbers(seed: int, neighbours: int):
    table = draw_table(seed)
    is_train = np.random.default_rng(seed).random(len(table)) < 0.6
    nearest = {"method": "nearest", "neighbours": neighbours}
    features = declare(n0=nearest, n1="unknown", n2=nearest, n3="median")
    filled, changes = fill_nearest(as_frame(table), features, is_train)

    mean, std = np.nanmean(table[is_train], axis=0), np.nanstd(table[is_train], axis=0)
    standardised = (table - mean) / std
    imputer = KNNImputer(n_neighbors=neighbours).fit(standardised[is_train])
    wanted = imputer.transform(standardised) * std + mean
    to_fill = np.isnan(table) & ~np.isnan(table).all(axis=1)[:, None]
    for column in (0, 2):
        got = filled[filled_column(f"n{column}")].to_numpy()
        np.testing.assert_array_equal(~np.isnan(got), to_fill[:, column])
        rows = to_fill[:, column]
        np.testing.assert_allclose(got[rows], wanted[rows, column], rtol=1e-4, atol=1e-4)
    assert changes.height == to_fill[:, [0, 2]].sum()
    assert filled_column("n1") not in filled.columns
    assert filled.select(as_frame(table).columns).equals(as_frame(table))  # raw stays raw


def test_nearest_by_hand_is_the_mean_of_the_two_most_alike():
    features = declare(a={"method": "nearest", "neighbours": 2}, b="unknown")
    frame = pl.DataFrame({"a": [None, 10.0, 20.0, 90.0], "b": [1.0, 1.1, 1.2, 5.0]})
    filled, changes = fill_nearest(frame, features, np.ones(4, bool))
    # b says rows 1 and 2 are nearest: (10 + 20) / 2.
    np.testing.assert_allclose(found(filled, "a")[0], 15, rtol=1e-6)
    assert found(filled, "a")[1:] == [None] * 3
    assert changes.select("row", "column", "old").rows() == [(0, "a", None)]
    assert changes["new"].to_list() == found(filled, "a")[:1]


def test_nearest_compares_and_averages_on_the_declared_scale():
    features = declare(
        a={"type": "number", "scale": "log", "missing": {"method": "nearest", "neighbours": 2}},
        b="unknown",
    )
    frame = pl.DataFrame({"a": [None, 1.0, 7.0, 1e6], "b": [1.0, 1.1, 1.2, 9.0]})
    filled, _ = fill_nearest(frame, features, np.ones(4, bool))
    # log(1 + 1) = log 2 and log(1 + 7) = 3 log 2; their mean 2 log 2 is log(1 + 3).
    np.testing.assert_allclose(found(filled, "a")[0], 3, rtol=1e-5)


@pytest.mark.parametrize("unknown", [None, NAN, -INF, INF])
def test_nearest_fills_what_the_encoder_takes_for_missing(unknown: float | None):
    features = declare(a={"method": "nearest", "neighbours": 1}, b="unknown")
    frame = pl.DataFrame(
        {"a": [unknown, 10.0, 20.0], "b": [1.0, 1.1, 3.0]},
        schema={"a": pl.Float64, "b": pl.Float64},
    )
    filled, changes = fill_nearest(frame, features, np.ones(3, bool))
    np.testing.assert_allclose(found(filled, "a")[0], 10, rtol=1e-6)
    assert changes.height == 1
    encoded = encode_frame(fit_features(features, frame), filled, with_unknown_row=False)
    # Mean 15 and deviation 5: 10 is -1. It is still known to have been missing.
    np.testing.assert_allclose(encoded["a"], [[-1, 1], [-1, 0], [1, 0]], atol=1e-6)


def test_nearest_learns_from_training_rows_only():
    table = draw_table(5)
    is_train = np.arange(len(table)) < 80
    features = declare(n0="nearest", n1="nearest", n2="unknown", n3="unknown")
    filled, _ = fill_nearest(as_frame(table), features, is_train)
    other = table.copy()
    other[80:] = np.where(np.isnan(table[80:]), np.nan, 1e6)
    changed, _ = fill_nearest(as_frame(other), features, is_train)
    for name in ("n0", "n1"):
        assert found(changed, name)[:80] == found(filled, name)[:80]
    # Rows outside are filled too, each on its own: the others among them do not matter.
    alone = np.concatenate([np.arange(80), [100]])
    row, _ = fill_nearest(as_frame(table[alone]), features, is_train[alone])
    for name in ("n0", "n1"):
        assert found(row, name)[80] == pytest.approx(found(filled, name)[100])


def test_nearest_finds_nothing_without_a_number_that_a_donor_shares():
    features = declare(a="nearest", b="unknown", c="unknown")
    frame = pl.DataFrame(
        {
            "a": [10.0, 20.0, None, None, None],
            "b": [1.0, 2.0, 1.0, None, None],
            "c": [None, None, 5.0, 7.0, None],
        }
    )
    filled, changes = fill_nearest(frame, features, np.ones(5, bool))
    # Row 3 shares c with row 2 only, whose a is missing as well; of row 4 nothing is known.
    assert [value is not None for value in found(filled, "a")] == [False, False, True, False, False]
    assert changes["row"].to_list() == [2]
    encoded = encode_frame(fit_features(features, frame), filled, with_unknown_row=False)["a"]
    np.testing.assert_allclose(encoded[3:], [[0, 1], [0, 1]])  # the median, 15, is the mean


@pytest.mark.parametrize(
    ("values", "is_train"),
    [([], []), ([None, None], [True, True]), ([1.0, None], [False, False]), ([1.0], [True])],
)
def test_nearest_without_donors_fills_nothing(values: list, is_train: list):
    frame = pl.DataFrame({"a": values, "b": values}, schema={"a": pl.Float64, "b": pl.Float64})
    features = declare(a="nearest", b="unknown")
    filled, changes = fill_nearest(frame, features, np.array(is_train, bool))
    assert found(filled, "a") == [None] * len(values)
    assert changes.is_empty()
    assert changes.columns == ["row", "column", "old", "new"]


def test_nearest_of_one_number_alone_fills_nothing():
    frame = pl.DataFrame({"a": [1.0, None, 3.0]})
    assert found(fill_nearest(frame, declare(a="nearest"), np.ones(3, bool))[0], "a") == [None] * 3


def test_nearest_in_blocks_equals_nearest_at_once(monkeypatch: pytest.MonkeyPatch):
    frame, is_train = as_frame(draw_table(2)), np.arange(120) % 2 == 0
    features = declare(n0="nearest", n1="unknown", n2="unknown", n3="unknown")
    at_once, _ = fill_nearest(frame, features, is_train)
    monkeypatch.setattr(impute, "_BLOCK_ROWS", 7)
    in_blocks, _ = fill_nearest(frame, features, is_train)
    np.testing.assert_allclose(
        in_blocks[filled_column("n0")], at_once[filled_column("n0")], rtol=1e-9
    )


def test_nearest_with_many_rows_takes_donors_evenly_spaced(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(impute, "_MAX_DONORS", 5)
    # Of the training rows 0 to 40 donors are 0, 10, 20, 30 and 40; row 41 is most like row 33.
    frame = pl.DataFrame(
        {
            "a": [*(float(row) + 100 for row in range(41)), None],
            "b": [*map(float, range(1, 42)), 34.2],
        }
    )
    features = declare(a={"method": "nearest", "neighbours": 1}, b="unknown")
    filled, _ = fill_nearest(frame, features, np.arange(42) < 41)
    np.testing.assert_allclose(found(filled, "a")[41], 130, rtol=1e-6)


def test_nearest_takes_dates_for_numbers_and_leaves_other_types_out():
    features = declare(
        day={"type": "date", "missing": {"method": "nearest", "neighbours": 1}},
        price="unknown",
        brand={"type": "category"},
    )
    frame = pl.DataFrame(
        {"day": [20000.0, 20100.0, None], "price": [1.0, 9.0, 8.0], "brand": ["a", None, "b"]}
    )
    filled, _ = fill_nearest(frame, features, np.ones(3, bool))
    np.testing.assert_allclose(found(filled, "day")[2], 20100)


def test_frame_without_declared_filling_stays_as_it_is():
    frame = pl.DataFrame({"a": [1.0, None], "user_index": [1, 1], "split": [0, 0], "time": [1, 2]})
    features = declare(a="median")
    filled, changes = fill_nearest(frame, features, np.ones(2, bool))
    assert filled.equals(frame)
    assert changes.is_empty()
    assert fill_interpolated(frame, features).equals(frame)


# Interpolation


def make_events(**columns: Any) -> pl.DataFrame:
    frame = pl.DataFrame(columns)
    count = frame.height
    defaults = {"user_index": [1] * count, "split": [0] * count, "time": list(range(count))}
    missing = {name: values for name, values in defaults.items() if name not in columns}
    return frame.with_columns(pl.Series(name, values) for name, values in missing.items())


def test_interpolation_by_hand_is_linear_in_time_with_nothing_beyond_the_ends():
    events = make_events(x=[None, 10.0, None, None, 50.0, None], time=[0, 100, 110, 175, 200, 300])
    filled = fill_interpolated(events, declare(x="interpolate"))
    # 10 + 40 * 10/100 = 14; 10 + 40 * 75/100 = 40.
    np.testing.assert_allclose(found(filled, "x")[2:4], [14, 40])
    assert [found(filled, "x")[row] for row in (0, 1, 4, 5)] == [None] * 4
    assert filled.drop(filled_column("x")).equals(events)
    assert list_filled(filled, declare(x="interpolate")).select("row", "old").rows() == [
        (2, None),
        (3, None),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_interpolation_equals_numpy_within_each_user_and_split(seed: int):
    draw = np.random.default_rng(seed)
    count = 400
    events = pl.DataFrame(
        {
            "user_index": draw.integers(1, 8, count).astype(np.int32),
            "split": draw.integers(0, 3, count).astype(np.int8),
            "time": 1_700_000_000_000_000 + draw.permutation(count) * 1_000_003,
            "x": draw.normal(size=count),
        }
    ).with_columns(
        pl.when(pl.Series(draw.random(count) < 0.6)).then(None).otherwise("x").alias("x")
    )
    filled = fill_interpolated(events, declare(x="interpolate"))[filled_column("x")].to_numpy()
    wanted = np.full(count, np.nan)
    for user in range(1, 8):
        for split in range(3):
            is_row = ((events["user_index"] == user) & (events["split"] == split)).to_numpy()
            rows = np.flatnonzero(is_row)
            rows = rows[np.argsort(events["time"].to_numpy()[rows])]
            time = events["time"].to_numpy()[rows] - 1_700_000_000_000_000
            x = events["x"].to_numpy()[rows]
            known = ~np.isnan(x)
            if known.any():
                line = np.interp(time, time[known], x[known], left=np.nan, right=np.nan)
                wanted[rows] = np.where(known, np.nan, line)
    np.testing.assert_allclose(filled, wanted, rtol=1e-5, atol=1e-6)
    assert 20 < np.isfinite(filled).sum() < 200


def test_interpolation_uses_no_value_of_another_user_or_split():
    x = [1.0, None, 3.0, None, 5.0]
    by_user = make_events(x=x, user_index=[1, 1, 2, 2, 3])
    by_split = make_events(x=x, split=[0, 0, 1, 1, 2])
    for events in (by_user, by_split):
        assert found(fill_interpolated(events, declare(x="interpolate")), "x") == [None] * 5


def test_interpolation_of_training_events_does_not_see_later_splits():
    events = make_events(x=[1.0, None, 3.0, None, 50.0], split=[0, 0, 0, 0, 2])
    other = make_events(x=[1.0, None, 3.0, None, -7e5], split=[0, 0, 0, 0, 2])
    features = declare(x="interpolate")
    assert found(fill_interpolated(events, features), "x") == [None, 2.0, None, None, None]
    assert found(fill_interpolated(other, features), "x") == [None, 2.0, None, None, None]


def test_interpolation_at_the_moment_of_a_known_value_is_that_value():
    events = make_events(x=[None, 4.0, None, None, 8.0, None], time=[5, 5, 5, 6, 7, 7])
    filled = fill_interpolated(events, declare(x="interpolate"))
    assert found(filled, "x") == [4.0, None, 4.0, 6.0, None, 8.0]


@pytest.mark.parametrize("unknown", [None, NAN, INF])
def test_interpolation_fills_what_the_encoder_takes_for_missing(unknown: float | None):
    events = make_events(x=pl.Series([-1.0, unknown, 1.0], dtype=pl.Float64))
    features = declare(x="interpolate")
    filled = fill_interpolated(events, features)
    assert found(filled, "x") == [None, 0.0, None]
    encoded = encode_frame(fit_features(features, events), filled, with_unknown_row=False)["x"]
    assert encoded.tolist() == [[-1, 0], [0, 1], [1, 0]]  # mean 0, deviation 1


@pytest.mark.parametrize("x", [[], [None], [2.0], [None, None], [None, 2.0, None]])
def test_interpolation_without_two_known_values_fills_nothing(x: list):
    events = make_events(x=pl.Series(x, dtype=pl.Float64))
    assert found(fill_interpolated(events, declare(x="interpolate")), "x") == [None] * len(x)


def test_interpolation_keeps_the_order_of_events_that_are_not_sorted():
    events = make_events(x=[9.0, None, None, 3.0], time=[30, 20, 10, 0])
    filled = fill_interpolated(events, declare(x="interpolate"))
    np.testing.assert_allclose(found(filled, "x")[1:3], [7.0, 5.0])
    assert filled["time"].to_list() == [30, 20, 10, 0]


# Both


@pytest.mark.parametrize(
    ("method", "fill"),
    [
        ("nearest", lambda frame, features: fill_nearest(frame, features, np.ones(2, bool))),
        ("interpolate", fill_interpolated),
    ],
)
def test_name_of_a_filled_column_that_is_taken_is_refused(method: str, fill: Any):
    frame = make_events(x=[1.0, None]).with_columns(pl.lit(1.0).alias(filled_column("x")))
    with pytest.raises(DataError, match="column 'x__filled': wanted this name free") as error:
        fill(frame, declare(x=method))
    assert "\n" not in str(error.value)
