import dataclasses
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.config import Feature
from tfrec.features import (
    Category,
    CategoryList,
    Date,
    FeatureType,
    Number,
    Vector,
    encode_frame,
    fit_features,
    load_feature,
)
from tfrec.features.frame import declare, filled_column

NAN, INF = float("nan"), float("inf")
CATEGORY = Category("c", vocabulary=["a", "b", "é"])
LIST = CategoryList("l", vocabulary=["a", "b", "é"])
NUMBER = Number("n", mean=3.0, std=2.0)
DATE = Date("d", mean=20000.0, std=100.0)
LOG = Number("n", scale="log", mean=1.0, std=0.5)
VECTOR = Vector("v", size=2)
TEXT, TEXTS, FLOAT, FLOATS = pl.String, pl.List(pl.String), pl.Float64, pl.List(pl.Float32)

CASES = [
    (CATEGORY, ["b", "zz", None, "", "é", "A"], TEXT, [2, 0, 0, 0, 3, 0]),
    (LIST, [["b", "zz", "a"], [], None, ["é"]], TEXTS,
     [[2, 0, 1], [0, 0, 0], [0, 0, 0], [3, 0, 0]]),
    # (5 - 3) / 2 = 1; (-1 - 3) / 2 = -2; (0 - 3) / 2 = -1.5; unknown is the mean and says so.
    (NUMBER, [5.0, -1.0, 3.0, 0.0, None, NAN], FLOAT,
     [[1, 0], [-2, 0], [0, 0], [-1.5, 0], [0, 1], [0, 1]]),
    # Days since 1970: (20250.5 - 20000) / 100 = 2.505; day 0 is -200, at most 10 deviations.
    (DATE, [20000.0, 20250.5, 0.0, None, INF], FLOAT,
     [[0, 0], [2.505, 0], [-10, 0], [0, 1], [0, 1]]),
    # Moved to 1 and 7: (1 - 3) / 2 = -1 and (7 - 3) / 2 = 2.
    (replace(NUMBER, low=1.0, high=7.0), [-50.0, 1.0, 6.0, 900.0, 0.0, None], FLOAT,
     [[-1, 0], [-1, 0], [1.5, 0], [2, 0], [-1, 0], [0, 1]]),
    # Raw numbers are moved before the log: 99 to e^2 - 1, of which (2 - 1) / 0.5 = 2.
    (replace(LOG, low=np.e - 1, high=np.e**2 - 1), [0.1, 99.0, -INF], FLOAT,
     [[0, 0], [2, 0], [0, 1]]),
    # A missing number is 7: (7 - 3) / 2 = 2, on the log scale log(e^3) = 3: (3 - 1) / 0.5 = 4.
    (replace(NUMBER, fill=7.0), [5.0, None, NAN, 0.0, -INF], FLOAT,
     [[1, 0], [2, 1], [2, 1], [-1.5, 0], [2, 1]]),
    (replace(LOG, fill=np.e**3 - 1), [np.e - 1, None], FLOAT, [[0, 0], [4, 1]]),
    # A fill of 0 is the number 0, not the mean: (0 - 3) / 2 = -1.5.
    (replace(NUMBER, fill=0.0, indicator=False), [5.0, None, 0.0], FLOAT,
     [[1, 0], [-1.5, 0], [-1.5, 0]]),
    # A fill beyond the bounds stays what the user wants: (-1 - 3) / 2 = -2; 10 deviations at most.
    (replace(NUMBER, fill=-1.0, low=1.0, high=7.0), [-1.0, None], FLOAT, [[-1, 0], [-2, 1]]),
    (replace(NUMBER, fill=1e6), [None], FLOAT, [[10, 1]]),
    (replace(CATEGORY, fill="b"), ["a", None, "", "zz"], TEXT, [1, 2, 2, 2]),
    # log(1 + (e - 1)) = 1, and (1 - 1) / 0.5 = 0; log(1 + (e^2 - 1)) = 2, and (2 - 1) / 0.5 = 2;
    # of the negative number the sign stays: (-1 - 1) / 0.5 = -4.
    # of 0 the log is 0: (0 - 1) / 0.5 = -2.
    (LOG, [np.e - 1, np.e**2 - 1, 1 - np.e, 0.0, None], FLOAT,
     [[0, 0], [2, 0], [-4, 0], [-2, 0], [0, 1]]),
    (VECTOR, [[1.0, -2.0], None, [0.0, 0.5]], FLOATS, [[1, -2], [0, 0], [0, 0.5]]),
    (VECTOR, [[1.0, NAN], [None, 3.0]], FLOATS, [[1, 0], [0, 3]]),
]  # fmt: skip


@pytest.mark.parametrize(("encoder", "values", "dtype", "expected"), CASES)
def test_encode_column_gives_the_numbers_by_hand(
    encoder: FeatureType, values: list, dtype: Any, expected: list
):
    encoded = encoder.encode_column(pl.Series("x", values, dtype=dtype))
    assert encoded.dtype == (np.int32 if dtype in (TEXT, TEXTS) else np.float32)
    np.testing.assert_allclose(encoded, expected, atol=1e-6)


def encode_request(feature: FeatureType, column: pl.Series) -> np.ndarray:
    """Encodes a column in the graph, written the way a request does."""
    import tensorflow as tf

    info, table = feature.signature(), feature.table()
    spec = tf.TensorSpec(info.shape, tf.as_dtype(info.dtype))
    graph = tf.function(lambda x: feature.encode_tensor(x, table), input_signature=[spec])
    return graph(tf.constant(feature.request_values(column), spec.dtype)).numpy()


@pytest.mark.parametrize(("encoder", "values", "dtype", "expected"), CASES)
def test_encode_tensor_in_graph_equals_encode_column(
    encoder: FeatureType, values: list, dtype: Any, expected: list
):
    column = pl.Series("x", values, dtype=dtype)
    served = encode_request(encoder, column)
    trained = encoder.encode_column(column)
    assert served.dtype == trained.dtype
    np.testing.assert_allclose(served, trained, atol=1e-6)
    assert served.shape == trained.shape


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_number_fitted_on_random_values_agrees_in_graph(scale: Any, seed: int):
    import tensorflow as tf

    draw = np.random.default_rng(seed)
    values = np.round(draw.lognormal(3, 0.8, 200) * draw.choice([1, 1, -1, 0], 200), 2)
    encoder = Number("n", scale=scale).fit(pl.Series(values))
    trained = encoder.encode_column(pl.Series(values))
    served = encoder.encode_tensor(tf.constant(values, tf.float32), None)
    np.testing.assert_allclose(served.numpy(), trained, rtol=1e-5, atol=1e-5)
    known = trained[trained[:, 1] == 0, 0]
    np.testing.assert_allclose([known.mean(), known.std()], [0, 1], atol=1e-5)


def test_absurd_number_is_bounded_alike_in_training_and_graph():
    import tensorflow as tf

    values = [1e30, -1e30, 1e6]
    encoder = Number("n").fit(pl.Series([1.0, 2.0, 3.0]))
    trained = encoder.encode_column(pl.Series(values))
    np.testing.assert_array_equal(trained[:, 0], [10.0, -10.0, 10.0])
    np.testing.assert_array_equal(encoder.encode_tensor(tf.constant(values), None), trained)


@pytest.mark.parametrize("bad", [INF, -INF, NAN])
def test_encode_tensor_of_number_that_is_not_finite_is_unknown(bad: float):
    import tensorflow as tf

    for encoder in (NUMBER, LOG):
        assert encoder.encode_tensor(tf.constant([bad]), None).numpy().tolist() == [[0.0, 1.0]]
    assert VECTOR.encode_tensor(tf.constant([[bad, 2.0]]), None).numpy().tolist() == [[0.0, 2.0]]


def test_lookup_without_vocabulary_knows_nothing():
    import tensorflow as tf

    encoder = Category("c")
    served = encoder.encode_tensor(tf.constant(["", "a"]), encoder.table())
    assert served.numpy().tolist() == encoder.encode_column(pl.Series(["", "a"])).tolist() == [0, 0]


# Learning


@pytest.mark.parametrize(
    ("min_count", "expected"), [(1, ["a", "b", "c"]), (2, ["a", "b"]), (3, ["b"]), (4, [])]
)
@pytest.mark.parametrize("kind", [Category, CategoryList])
def test_fit_of_category_leaves_out_rare_values(kind: Any, min_count: int, expected: list[str]):
    values = ["b", "a", "b", "c", "a", "b", "", "", "", "", None]
    column = pl.Series(
        [None if v is None else [v] for v in values] if kind is CategoryList else values
    )
    encoder = kind("c", min_count=min_count).fit(column)
    assert encoder.vocabulary == expected


def test_fit_of_category_does_not_depend_on_order():
    values = ["b", "a", "c", "a", "é", "B"]
    fitted = [
        Category("c").fit(pl.Series(order)) for order in (values, values[::-1], sorted(values))
    ]
    assert fitted[0] == fitted[1] == fitted[2]
    assert fitted[0].vocabulary == ["B", "a", "b", "c", "é"]


@pytest.mark.parametrize(
    ("values", "mean", "std"),
    [
        ([1.0, 3.0], 2.0, 1.0),
        ([1.0, None, 3.0, NAN, INF], 2.0, 1.0),
        ([0.0, 4.0, None], 2.0, 2.0),  # 0 is a number
        ([5.0, 5.0], 5.0, 1.0),  # a constant
        ([None, None], 0.0, 1.0),
        ([], 0.0, 1.0),
        ([0.0], 0.0, 1.0),
    ],
)
def test_fit_of_number_measures_known_values(values: list, mean: float, std: float):
    column = pl.Series(values, dtype=pl.Float64)
    encoder = Number("n").fit(column)
    assert (encoder.mean, encoder.std) == (mean, std)


def test_fit_of_number_on_log_scale_measures_scaled_values():
    # log(1 + x) is 1 and 3, so the mean is 2 and the deviation 1.
    column = pl.Series([np.e - 1, np.e**3 - 1])
    encoder = Number("n", scale="log").fit(column)
    np.testing.assert_allclose([encoder.mean, encoder.std], [2.0, 1.0])
    assert encoder.scale == "log"


@pytest.mark.parametrize(
    ("values", "size"), [([None, [1.0, 2.0, 3.0]], 3), ([None], 0), ([], 0), ([[1.0]], 1)]
)
def test_fit_of_vector_learns_its_length(values: list, size: int):
    encoder = Vector("v").fit(pl.Series(values, dtype=FLOATS))
    assert encoder.size == size
    assert encoder.encode_column(pl.Series([[4.0] * size, None], dtype=FLOATS)).shape == (2, size)


def test_vector_unseen_in_training_is_left_out():
    encoder = Vector("v").fit(pl.Series([None], dtype=FLOATS))
    later = pl.Series([[1.0, 2.0], None], dtype=FLOATS)
    assert encoder.encode_column(later).shape == (2, 0)


def fit(options: dict[str, Any], values: list, **more: Any) -> Any:
    declared = Feature.model_validate({"type": "number", **options, **more})
    (feature,) = declare({"x": declared})
    return feature.fit(pl.Series(values, dtype=feature.column_type))


@pytest.mark.parametrize(
    ("missing", "fill"),
    [
        ("unknown", None),
        ({"method": "constant", "value": -1.0}, -1.0),
        ({"method": "constant", "value": 0}, 0.0),
        ("mean", 4.0),  # (1 + 2 + 2 + 11) / 4
        ("median", 2.0),
        ("most_frequent", 2.0),
        ("interpolate", 2.0),  # the median stands where nothing was found
        ("nearest", 2.0),
    ],
)
def test_fit_of_number_learns_what_stands_for_missing(missing: Any, fill: float | None):
    values = [2.0, None, 1.0, 2.0, NAN, INF, 11.0]
    encoder = fit({"missing": missing}, values)
    assert encoder.fill == fill
    # The moments are of what is known: sqrt((9 + 4 + 4 + 49) / 4) = 4.062.
    np.testing.assert_allclose([encoder.mean, encoder.std], [4.0, 66**0.5 / 2])


def test_fit_of_number_with_several_most_frequent_takes_the_smallest():
    assert fit({"missing": "most_frequent"}, [5.0, 3.0, 3.0, 5.0, 1.0]).fill == 3.0


@pytest.mark.parametrize("values", [[], [None, NAN, INF]])
@pytest.mark.parametrize(
    "missing", ["mean", "median", "most_frequent", "nearest", {"method": "constant", "value": 7.0}]
)
def test_fit_of_number_with_nothing_known_leaves_missing_unknown(missing: Any, values: list):
    encoder = fit({"missing": missing, "clip": "quantile"}, values)
    assert (encoder.fill, encoder.low, encoder.mean, encoder.std) == (None, None, 0.0, 1.0)
    assert encoder.unknown_row().tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("clip", "values", "low", "high"),
    [
        # Of five sorted values the quantile 0.1 lies 0.1 * 4 = 0.4 of the way from 1 to 2.
        ({"method": "quantile", "low": 0.1, "high": 0.75}, [5.0, 1.0, 2.0, 40.0, 3.0], 1.4, 5.0),
        ({"method": "quantile", "low": 0, "high": 1}, [3.0, 1.0, NAN, None], 1.0, 3.0),
        ("quantile", [3.0], 3.0, 3.0),
        # Mean 3 and deviation 1: 3 - 4 and 3 + 4.
        ("z_score", [2.0, 4.0, None], -1.0, 7.0),
        ({"method": "z_score", "limit": 0.5}, [2.0, 4.0], 2.5, 3.5),
        ("z_score", [0.1, 0.1, 0.1], np.float32(0.1), np.float32(0.1)),
    ],
)
def test_fit_of_number_learns_bounds_of_outliers(clip: Any, values: list, low: float, high: float):
    encoder = fit({"clip": clip}, values)
    np.testing.assert_allclose([encoder.low, encoder.high], [low, high], rtol=1e-12)


def test_moments_and_fill_are_learned_of_clipped_values():
    # The quantiles 0 and 0.5 of 1, 3, 100 are 1 and 3: what counts is 1, 3, 3.
    clip = {"method": "quantile", "low": 0, "high": 0.5}
    encoder = fit({"clip": clip, "missing": "mean"}, [1.0, 3.0, 100.0])
    np.testing.assert_allclose([encoder.mean, encoder.fill], 7 / 3)
    np.testing.assert_allclose(encoder.std, np.std([1, 3, 3]))
    logged = fit({"clip": clip, "scale": "log"}, [1.0, 3.0, 100.0])
    np.testing.assert_allclose(logged.mean, np.log([2, 4, 4]).mean())


def test_feature_that_is_constant_in_training_is_encoded_as_zero():
    for options in ({}, {"clip": "z_score"}, {"clip": "quantile"}, {"scale": "log"}):
        encoder = fit(options, [0.1] * 7)
        encoded = encoder.encode_column(pl.Series([0.1, None]))
        np.testing.assert_allclose(encoded, [[0, 0], [0, 1]], atol=1e-12)
        assert encoder.std == 1.0
        assert encoder.describe(pl.Series([0.1] * 3))["clipped"] == 0


@pytest.mark.parametrize("options", [{}, {"missing": "median"}, {"clip": "z_score"}])
def test_fit_of_date_learns_like_a_number(options: dict):
    values = [20000.0, 20100.5, None, NAN]
    date, number = fit(options, values, type="date"), fit(options, values)
    assert dataclasses.asdict(date) == dataclasses.asdict(number)


@pytest.mark.parametrize(
    ("options", "vocabulary", "fill"),
    [
        ({}, ["a", "b", "c"], None),
        ({"missing": "most_frequent"}, ["a", "b", "c"], "a"),  # as frequent as b, before it
        ({"missing": "most_frequent", "min_count": 3}, [], None),
        ({"missing": {"method": "constant", "value": "b"}}, ["a", "b", "c"], "b"),
        ({"missing": {"method": "constant", "value": "aa"}}, ["a", "aa", "b", "c"], "aa"),
        ({"missing": {"method": "constant", "value": "c"}, "min_count": 2}, ["a", "b", "c"], "c"),
    ],
)
def test_fit_of_category_learns_what_stands_for_missing(options, vocabulary, fill):
    values = ["b", "a", "b", "c", "a", "", "", "", None, None, None]
    encoder = fit(options, values, type="category")
    assert (encoder.vocabulary, encoder.fill) == (vocabulary, fill)
    index = vocabulary.index(fill) + 1 if fill else 0
    assert encoder.encode_column(pl.Series([None, "", "new"])).tolist() == [index] * 3


@pytest.mark.parametrize("missing", ["most_frequent", {"method": "constant", "value": "x"}])
def test_category_with_nothing_known_in_training_keeps_a_constant_only(missing: Any):
    encoder = fit({"missing": missing, "oov_buckets": 2}, [None, ""], type="category")
    is_constant = missing != "most_frequent"
    assert encoder.vocabulary == ["x"] * is_constant
    assert encoder.unknown_row().tolist() == [int(is_constant)]
    assert encoder.encode_column(pl.Series(["new"]))[0] > len(encoder.vocabulary)


@pytest.mark.parametrize(
    ("options", "values", "other"),
    [
        ({"type": "number", "missing": m, "clip": c}, [1.0, 2.0, 2.0, 9.0], [7e5, 4.0])
        for m in ("mean", "median", "most_frequent")
        for c in (None, "quantile", "z_score")
    ]
    + [
        ({"type": "category", "missing": "most_frequent"}, ["a", "b", "a"], ["b", "b", "b", "z"]),
        ({"type": "category_list", "oov_buckets": 2}, [["a"], ["b"]], [["z", "a"]]),
    ],
)
def test_rows_outside_of_training_change_nothing_that_is_learned(options, values, other):
    frame = pl.DataFrame({"x": values + other})
    declared = {"x": Feature.model_validate(options)}
    is_train = np.arange(frame.height) < len(values)
    (fitted,) = fit_features(declared, frame.filter(pl.Series(is_train)))
    (alone,) = fit_features(declared, pl.DataFrame({"x": values}))
    assert fitted == alone
    (whole,) = fit_features(declared, frame)
    assert whole != alone  # the other rows would have mattered


# Values out of the vocabulary


@pytest.mark.parametrize(
    ("encoder", "num_rows"),
    [
        (CATEGORY, 4),
        (replace(CATEGORY, oov_buckets=5), 9),
        (replace(LIST, oov_buckets=1), 5),
        (Category("c"), 1),
    ],
)
def test_size_of_table_follows_from_what_was_learned(encoder: Any, num_rows: int):
    assert encoder.num_rows == num_rows


def test_values_out_of_the_vocabulary_share_buckets_behind_it_evenly():
    encoder = replace(CATEGORY, oov_buckets=4)
    values = [f"new {number}" for number in range(4000)]
    encoded = encoder.encode_column(pl.Series([*values, "é", "a", "", None])).tolist()
    assert encoded[-4:] == [3, 1, 0, 0]
    counts = Counter(encoded[:-4])
    assert sorted(counts) == [4, 5, 6, 7]  # V + 1 to V + b with V = 3, b = 4
    # Five standard deviations of a count: 5 sqrt(4000 * 1/4 * 3/4) = 137.
    assert all(abs(count - 1000) < 137 for count in counts.values())


def test_bucket_of_a_value_does_not_depend_on_the_rows_around_it():
    encoder = replace(CATEGORY, oov_buckets=1000)
    values = pl.Series([f"new {number}" for number in range(50)])
    together = encoder.encode_column(values)
    alone = [encoder.encode_column(values[row : row + 1])[0] for row in range(50)]
    assert together.tolist() == alone


def test_bucket_of_a_value_is_the_same_in_every_release():
    # A stored model must find its rows again. TensorFlow documents to_hash_bucket_fast with
    # ["Hello", "TensorFlow", "2.x"] and 3 buckets: [0, 2, 2]; index 0 is "unknown".
    encoder = Category("c", oov_buckets=3)
    column = pl.Series(["Hello", "TensorFlow", "2.x"])
    assert encoder.encode_column(column).tolist() == [1, 3, 3]


def test_missing_category_has_its_fill_and_not_a_bucket():
    encoder = replace(CATEGORY, fill="b", oov_buckets=1)
    assert encoder.encode_column(pl.Series([None, "", "zz", "a"])).tolist() == [2, 2, 4, 1]
    assert replace(LIST, oov_buckets=1).encode_column(
        pl.Series([["zz", "", None, "a"], None], dtype=TEXTS)
    ).tolist() == [[4, 0, 0, 1], [0, 0, 0, 0]]  # padding of a list is nothing


# The graph equals numpy for every option


NUMBER_OPTIONS = [
    {"type": kind, "scale": scale, "clip": clip, "missing": missing}
    for kind, scale, clip, missing in [
        ("number", "linear", None, "unknown"),
        ("number", "log", "quantile", "median"),
        ("number", "linear", {"method": "quantile", "low": 0.2, "high": 0.7}, "most_frequent"),
        ("number", "log", "z_score", {"method": "mean", "indicator": False}),
        ("number", "linear", {"method": "z_score", "limit": 0.5}, "nearest"),
        ("number", "log", None, {"method": "constant", "value": -1e9}),
        ("number", "linear", None, {"method": "constant", "value": 0.0, "indicator": False}),
        ("date", "linear", "quantile", "median"),
        ("date", "linear", None, "interpolate"),
    ]
]
CATEGORY_OPTIONS = [
    {"type": "category"},
    {"type": "category", "oov_buckets": 3, "min_count": 3},
    {"type": "category", "missing": "most_frequent"},
    {"type": "category", "missing": "most_frequent", "oov_buckets": 1, "min_count": 2},
    {"type": "category", "missing": {"method": "constant", "value": "never seen"}},
    {"type": "category", "missing": {"method": "constant", "value": "w1"}, "oov_buckets": 7},
    {"type": "category", "min_count": 10**6, "oov_buckets": 2},
    {"type": "category_list"},
    {"type": "category_list", "min_count": 4, "oov_buckets": 5},
]


def draw_numbers(options: dict, seed: int, count: int = 300) -> list[float | None]:
    draw = np.random.default_rng(seed)
    if options["type"] == "date":
        values = draw.uniform(19_000, 20_500, count)
    else:
        values = draw.lognormal(3, 1.5, count) * draw.choice([1, 1, -1], count)
    odd = [0.0, -0.0, NAN, INF, -INF, 1e-40, 1e-30, 3e38, -3e38, 1e39, None]
    return [*values.tolist(), *odd, *draw.choice(np.array([None, 0.0, 2.0]), 40).tolist()]


def draw_texts(seed: int, count: int = 300) -> list[str | None]:
    draw = np.random.default_rng(seed)
    words = ["", None, "É", "日本", "a\0b", "w1 ", "W1", *(f"w{number}" for number in range(30))]
    return [words[min(int(draw.exponential(9)), len(words) - 1)] for _ in range(count)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", NUMBER_OPTIONS, ids=str)
def test_number_of_every_option_is_encoded_alike_in_graph(options: dict, seed: int):
    encoder = fit(options, draw_numbers(options, seed)[:150])
    values = draw_numbers(options, seed + 100)
    column = pl.Series(values, dtype=FLOAT)
    trained = encoder.encode_column(column)
    np.testing.assert_allclose(encode_request(encoder, column), trained, rtol=1e-6, atol=1e-6)
    assert np.isfinite(trained).all()
    assert np.abs(trained).max() <= 10


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", CATEGORY_OPTIONS, ids=str)
def test_category_of_every_option_is_encoded_alike_in_graph(options: dict, seed: int):
    values: list = draw_texts(seed)
    if options["type"] == "category_list":
        lengths = np.random.default_rng(seed).integers(0, 5, 60)
        values = [
            None if n == 4 else values[4 * row : 4 * row + n] for row, n in enumerate(lengths)
        ]
        values = [v if v is None else [x or "" for x in v] for v in values]
    encoder = fit(options, values[: len(values) // 2])
    column = pl.Series(values, dtype=encoder.column_type)
    trained, served = encoder.encode_column(column), encode_request(encoder, column)
    np.testing.assert_array_equal(served, trained)
    assert trained.max(initial=0) < encoder.num_rows
    assert trained.dtype == served.dtype == np.int32


def test_date_keeps_its_minutes_in_the_graph():
    # Two minutes are 1/720 of a day, about the step of float32 at 20,000; the deviation is small.
    encoder = fit({}, [20000.0, 20000.5, 20001.0], type="date")
    column = pl.Series([20000.25, 20000.75, 20000.0])
    np.testing.assert_allclose(
        encode_request(encoder, column), encoder.encode_column(column), atol=1e-7
    )


def test_exported_graph_keeps_all_that_was_learned(tmp_path: Path):
    import tensorflow as tf

    options = {
        "n": {"type": "number", "scale": "log", "clip": "quantile", "missing": "median"},
        "d": {"type": "date", "missing": {"method": "mean", "indicator": False}},
        "c": {"type": "category", "missing": "most_frequent", "oov_buckets": 5, "min_count": 2},
        "l": {"type": "category_list", "oov_buckets": 5, "min_count": 2},
    }
    frame = pl.DataFrame(
        {
            "n": pl.Series([1.0, 0.0, None, 700.0], dtype=FLOAT),
            "d": pl.Series([20000.0, None, 20010.5, NAN], dtype=FLOAT),
            "c": ["a", "a", None, "rare"],
            "l": [["x"], ["x", "rare"], [], ["x", "x"]],
        }
    )
    encoders = fit_features({k: Feature.model_validate(v) for k, v in options.items()}, frame)
    module = tf.Module()
    module.tables = {e.name: e.table() for e in encoders if e.table() is not None}
    requests = {e.name: tf.constant(e.request_values(frame[e.name])) for e in encoders}
    module.encode = tf.function(
        lambda request: {
            e.name: e.encode_tensor(request[e.name], module.tables.get(e.name)) for e in encoders
        }
    )
    module.encode(requests)
    tf.saved_model.save(module, str(tmp_path))
    served = tf.saved_model.load(str(tmp_path)).encode(requests)
    for name, trained in encode_frame(encoders, frame, with_unknown_row=False).items():
        np.testing.assert_allclose(served[name], trained, atol=1e-6)


# Values found by preparation


@pytest.mark.parametrize("method", ["nearest", "interpolate"])
def test_filled_number_counts_where_the_raw_one_is_missing_and_stays_marked(method: str):
    encoder = replace(NUMBER, missing=method, fill=3.0, low=1.0, high=7.0)
    frame = pl.DataFrame({"n": [5.0, None, INF, NAN, None, None], filled_column("n"):
                          [9.0, 5.0, 0.0, 90.0, None, NAN]})  # fmt: skip
    encoded = encode_frame([encoder], frame, with_unknown_row=True)["n"]
    # (5 - 3) / 2 = 1; 0 found is the number 0, moved to 1: -1; 90 is moved to 7: 2; the fill: 0.
    wanted = [[0, 1], [1, 0], [1, 1], [-1, 1], [2, 1], [0, 1], [0, 1]]
    np.testing.assert_array_equal(encoded, wanted)
    counted = encoder.describe(frame["n"], frame[filled_column("n")])
    assert (counted["missing"], counted["filled"]) == (5, 3)


def test_filled_number_without_indicator_is_not_marked():
    encoder = replace(NUMBER, missing="nearest", fill=3.0, indicator=False)
    encoded = encoder.encode_column(pl.Series([None, 5.0]), pl.Series([5.0, None]))
    assert encoded.tolist() == [[1, 0], [1, 0]]


def test_column_named_like_a_filled_one_is_left_alone_without_filling():
    frame = pl.DataFrame({"n": [None, 5.0], filled_column("n"): [5.0, 7.0]})
    assert encode_frame([NUMBER], frame, with_unknown_row=False)["n"].tolist() == [[0, 1], [1, 0]]
    nearest = replace(NUMBER, missing="nearest")  # and the other way round: nothing was filled
    assert encode_frame([nearest], frame[["n"]], with_unknown_row=False)["n"][0].tolist() == [0, 1]


# Counting


def test_describe_of_number_counts_what_encoding_changes():
    encoder = replace(NUMBER, low=-30.0, high=7.0, fill=2.0)
    column = pl.Series([5.0, 7.0, 8.0, -31.0, -30.0, -17.0, -16.5, 0.0, None, NAN, INF, -INF])
    # Moved into the bounds: 8 and -31. More than 10 deviations of 2 from 3, so below -17: -31
    # (moved to -30) and -30.
    assert encoder.describe(column) == {
        "missing": 4, "filled": 0, "clipped": 2, "bounded": 2,
        "mean": 3.0, "std": 2.0, "low": -30.0, "high": 7.0, "fill": 2.0,
    }  # fmt: skip


def test_describe_of_categories_counts_rows_without_and_values_outside():
    learned = {"vocabulary": 3, "oov_buckets": 2}
    category = replace(CATEGORY, oov_buckets=2).describe(pl.Series(["a", "zz", "", None, "zz"]))
    assert category == {"missing": 2, "out_of_vocabulary": 2, **learned, "fill": None}
    column = pl.Series([["a", "zz", "y"], [], None, ["b", ""]], dtype=TEXTS)
    listed = replace(LIST, oov_buckets=2).describe(column)
    assert listed == {"missing": 2, "out_of_vocabulary": 2, **learned}


def test_describe_of_vector_counts_rows_and_entries():
    column = pl.Series([[1.0, NAN], None, [2e6, 1.0], [None, 0.0], [1.0]], dtype=FLOATS)
    counted = VECTOR.describe(column)
    assert counted == {"missing": 2, "missing_entries": 2, "bounded": 1, "size": 2}


@pytest.mark.parametrize("encoder", [CATEGORY, LIST, NUMBER, DATE, LOG, VECTOR])
def test_describe_fits_into_json_even_of_no_rows(encoder: FeatureType):
    counted = encoder.describe(pl.Series([], dtype=encoder.column_type))
    assert json.loads(json.dumps(counted, allow_nan=False)) == counted
    assert counted["missing"] == 0


# Rows of the unknown, frames, storage


@pytest.mark.parametrize(
    ("encoder", "expected"),
    [
        (CATEGORY, [0]),
        (LIST, [[0]]),
        (NUMBER, [[0.0, 1.0]]),
        (LOG, [[0.0, 1.0]]),
        (DATE, [[0.0, 1.0]]),
        (replace(NUMBER, fill=5.0), [[1.0, 1.0]]),
        (replace(CATEGORY, fill="é", oov_buckets=2), [3]),
        (VECTOR, [[0.0, 0.0]]),
        (Vector("v", size=0), [[]]),
    ],
)
def test_unknown_row_is_what_a_null_becomes(encoder: FeatureType, expected: list):
    assert encoder.unknown_row().tolist() == expected


FRAME = pl.DataFrame(
    {
        "c": ["b", None],
        "l": [["a", "b"], []],
        "n": [5.0, None],
        "v": pl.Series([[1.0, 2.0], None], dtype=FLOATS),
    }
)


def test_encode_frame_with_unknown_row_puts_it_first():
    encoders = [CATEGORY, LIST, NUMBER, VECTOR]
    without = encode_frame(encoders, FRAME, with_unknown_row=False)
    having = encode_frame(encoders, FRAME, with_unknown_row=True)
    assert list(having) == ["c", "l", "n", "v"]
    for name in having:
        np.testing.assert_array_equal(having[name][1:], without[name])
        assert having[name].dtype == without[name].dtype
    assert [having[name][0].tolist() for name in having] == [0, [0, 0], [0, 1], [0, 0]]


def test_encode_frame_of_no_rows_holds_the_unknown_only():
    encoded = encode_frame([CATEGORY, LIST, NUMBER, VECTOR], FRAME.clear(), with_unknown_row=True)
    assert {name: array.tolist() for name, array in encoded.items()} == {
        "c": [0],
        "l": [[0]],
        "n": [[0, 1]],
        "v": [[0, 0]],
    }


@pytest.mark.parametrize(
    "declared",
    [
        *NUMBER_OPTIONS,
        *CATEGORY_OPTIONS,
        {"type": "number", "scale": "log"},
        {"type": "vector"},
    ],
    ids=str,
)
def test_fitted_encoder_survives_json(declared: dict):
    name = {"category": "c", "category_list": "l", "vector": "v"}.get(declared["type"], "n")
    (encoder,) = fit_features({name: Feature.model_validate(declared)}, FRAME)
    stored = json.loads(json.dumps(encoder.to_dict(), allow_nan=False))
    assert load_feature(stored) == encoder
    assert stored["name"] == name


def test_fit_features_keeps_the_declared_order():
    declared = {name: Feature(type="number") for name in ("n", "m")}
    fitted = fit_features(declared, FRAME.with_columns(m=pl.col("n")))
    assert [encoder.name for encoder in fitted] == ["n", "m"]
