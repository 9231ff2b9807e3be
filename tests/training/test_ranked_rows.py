"""Drawn negatives, and what their rates are for."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.inputs.ranked_rows import NOT_LOGGED, RankedRows, ranked_rows, training_rows

DEPTH = 8


@pytest.fixture(scope="module")
def positives(data: PreparedData) -> PreparedData:
    """The small data set as a log of clicks alone."""
    examples = data.examples.with_columns(is_ranked=pl.col("is_ranked") & (pl.col("label") == 1))
    return dataclasses.replace(data, examples=examples)


def config_of(make_config, seed: int = 0, **negatives: int) -> Config:
    return make_config(seed=seed, ranking={"negatives": negatives})


def best_items(contexts: np.ndarray, depth: int) -> np.ndarray:
    """Retrieval that finds the items from `context` % 50 on."""
    return 1 + (contexts[:, None] % 50) + np.arange(depth)


def pairs(rows: RankedRows) -> set[tuple[int, int]]:
    return set(zip(rows.context.tolist(), rows.item_index.tolist(), strict=True))


def test_rows_of_a_log_with_impressions_have_no_rate(data, make_config):
    rows = training_rows(data, config_of(make_config, uniform=2))
    assert not rows.log_rate.any()
    assert (rows.weights == 1).all()
    drawn = rows.example == NOT_LOGGED
    assert 0 < drawn.sum() <= 2 * rows.label.sum()
    assert not rows.label[drawn].any()


def test_drawn_items_are_never_chosen_by_their_request(positives, make_config):
    rows = training_rows(
        positives, config_of(make_config, uniform=60, retrieved=5, depth=DEPTH), best_items
    )
    drawn = rows.example == NOT_LOGGED
    assert drawn.any()
    assert not pairs(rows.take(~drawn)) & pairs(rows.take(drawn))


def test_rate_is_how_often_a_row_is_drawn_on_average(positives, make_config):
    num_seeds = 300
    context = np.int32(ranked_rows(positives, "train", config_of(make_config)).context[3])
    counts = np.zeros(positives.num_items + 1)
    for seed in range(num_seeds):
        config = config_of(make_config, seed, uniform=30, retrieved=4, depth=DEPTH)
        rows = training_rows(positives, config, best_items)
        mine = rows.take((rows.context == context) & (rows.example == NOT_LOGGED))
        counts += np.bincount(mine.item_index, minlength=len(counts))
    rates = dict(zip(mine.item_index.tolist(), np.exp(mine.log_rate).tolist(), strict=True))
    listed = set(best_items(np.array([context]), DEPTH)[0].tolist())
    for inside in (True, False):
        items = [item for item in rates if (item in listed) == inside]
        expected = num_seeds * np.sum([rates[item] for item in items])
        assert abs(counts[items].sum() - expected) < 4 * np.sqrt(expected)
    assert np.average(rows.weights, weights=rows.label == 0) > 1


def test_odds_corrected_by_the_rate_are_those_among_the_whole_catalogue(positives, make_config):
    """King & Zeng: one logistic model, fitted on draws, against the truth of all pairs."""
    num_items, truth = positives.num_items, np.array([-5.0, 1.5])
    rng = np.random.default_rng(0)
    feature = rng.normal(size=num_items + 1)
    for negatives in ({"uniform": 2}, {"uniform": 2, "retrieved": 3, "depth": DEPTH}):
        config = config_of(make_config, **negatives)
        base = ranked_rows(positives, "train", config)
        contexts = np.unique(base.context)
        # Each request chooses items by the truth; its examples are these choices.
        chosen = rng.random((len(contexts), num_items)) < expit(truth[0] + truth[1] * feature[1:])
        row, item = np.nonzero(chosen)
        examples = pl.DataFrame(
            {
                "context": contexts[row],
                "item_index": (item + 1).astype(np.int32),
                "label": np.ones(len(row), np.int8),
                "position": np.zeros(len(row), np.int16),
                "is_ranked": True,
            }
        )
        data = dataclasses.replace(positives, examples=examples)
        rows = training_rows(data, config, best_items)
        # A logistic regression with the fixed offset -log_rate.
        design = np.column_stack([np.ones(len(rows)), feature[rows.item_index]])

        def loss(weights: np.ndarray) -> float:
            logits = design @ weights - rows.log_rate  # noqa: B023  called within the loop
            return float(np.mean(np.logaddexp(0, logits) - rows.label * logits))  # noqa: B023

        np.testing.assert_allclose(minimize(loss, np.zeros(2)).x, truth, atol=0.15)
    naive = LogisticRegression(C=np.inf).fit(design[:, 1:], rows.label)
    assert naive.intercept_[0] > truth[0] + 1  # without the correction it is far off


def test_drawn_items_stand_where_shown_ones_do_and_not_where_clicks_are(data, make_config):
    # Clicks at the first position, everything else further down.
    examples = data.examples.with_columns(
        position=pl.when(pl.col("label") == 1).then(1).otherwise(7).cast(pl.Int32)
    )
    rows = training_rows(
        dataclasses.replace(data, examples=examples), config_of(make_config, uniform=6)
    )
    is_drawn = rows.example == NOT_LOGGED
    clicked = rows.label[~is_drawn].mean()
    assert (rows.position[is_drawn] == 1).mean() == pytest.approx(clicked, abs=0.02)
    assert clicked < 0.5
