"""What a round on ratings is judged by; how targets are ranked is tested with the training."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from small_model import small_model

from tfrec.config import Config, parse_config
from tfrec.data.dataset import PreparedData
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading.sources import read_source
from tfrec.inference.embedder import Embedder
from tfrec.inputs.batches import InputTables
from tfrec.models.retrieval import RetrievalModel
from tfrec.training.retrieval import train_retrieval
from tfrec.training.validation import Validation

NUM_USERS, NUM_ITEMS = 40, 30


def rated_config(split: dict[str, Any] | None = None) -> Config:
    return parse_config(
        {
            "name": "rated",
            "data": {
                "source": "tables",
                "events": {"time": None, "rating": "rating", "positive_rating": 3.0},
                "items": {"title": None, "text": []},
                "split": split or {"kind": "random", "validation": 0.2, "test": 0.1},
            },
            "retrieval": {
                "embedding_dim": 8,
                "item": {"id_dropout": 0.0},
                "user": {"id_dropout": 0.0, "dropout": 0.0, "history": {"kind": "none"}},
                "loss": {"kind": "mse", "similarity": "dot"},
                "batch_size": 64,
                "epochs": 10,
                "learning_rate": 0.05,
            },
        }
    )


def rated_log() -> pl.DataFrame:
    """Every user rates most items, by one taste of users and items: 3 + p q."""
    draw = np.random.default_rng(0)
    ratings = 3 + np.outer(draw.normal(size=NUM_USERS), draw.normal(size=NUM_ITEMS))
    user, item = np.nonzero(draw.random(ratings.shape) < 0.8)
    order = draw.permutation(len(user))
    return pl.DataFrame(
        {
            "user_id": [f"u{u}" for u in user[order]],
            "item_id": [f"i{i}" for i in item[order]],
            "rating": ratings[user, item][order],
        }
    )


def prepared(config: Config, folder: Path) -> tuple[PreparedData, InputTables]:
    folder.mkdir(exist_ok=True)
    prepare(read_source(config.data, 0, {"events": rated_log()}), config, folder)
    data = PreparedData.load(folder)
    no_text = np.zeros((data.num_items + 1, 4), np.int32)
    return data, InputTables(data, no_text, np.zeros((1, 4), np.int32))


def errors_by_definition(
    model: RetrievalModel, data: PreparedData, tables: InputTables
) -> tuple[float, float]:
    """Returns the root mean squared error of ours and of the mean of the training ratings."""
    embedder = Embedder(model, tables, live=False)
    embedder.renew_cache()
    items = embedder.catalogue()
    splits = data.contexts["split"].to_list()
    rated: dict[int, list[tuple[int, int, float]]] = {0: [], 1: [], 2: []}
    for row in data.examples.iter_rows(named=True):
        rated[splits[row["context"]]].append((row["context"], row["item_index"], row["rating"]))
    mean = sum(rating for *_, rating in rated[0]) / len(rated[0])
    squares = [0.0, 0.0]
    for context, item, rating in rated[1]:
        user = embedder.requests(np.array([context]), items)[0]
        squares[0] += (mean + sum(user * items[item]) - rating) ** 2
        squares[1] += (mean - rating) ** 2
    return tuple(float(np.sqrt(total / len(rated[1]))) for total in squares)


def test_matrix_factorisation_keeps_the_epoch_of_least_error(tmp_path):
    config = rated_config()
    data, tables = prepared(config, tmp_path / "prepare")
    model = small_model(data, ["[PAD]", "[UNK]"], config)
    (tmp_path / "c").mkdir()
    history = train_retrieval(model, data, tables, config, tmp_path / "c")

    ours, of_mean = errors_by_definition(model, data, tables)
    kept = history.rounds[history.best_round]
    assert kept["validation_rmse"] == min(r["validation_rmse"] for r in history.rounds)
    assert kept["validation_rmse"] == pytest.approx(ours, rel=1e-4)
    assert kept["mean_rating_rmse"] == pytest.approx(of_mean, rel=1e-4)
    assert ours < 0.5 * of_mean  # the log holds one taste and no noise


def test_line_of_an_epoch_tells_the_error_of_ours_and_of_the_mean(tmp_path):
    config = rated_config()
    data, tables = prepared(config, tmp_path)
    model = small_model(data, ["[PAD]", "[UNK]"], config)
    validation = Validation(Embedder(model, tables, live=False), data, config)
    measured = validation()
    line = validation.describe({"loss": 1.0, **measured})
    assert validation.monitor == "-validation_rmse"
    assert f"RMSE {measured['validation_rmse']:.4f}" in line
    assert f"mean rating {measured['mean_rating_rmse']:.4f}" in line


def test_without_validation_ratings_the_list_is_the_judge(tmp_path):
    config = rated_config()
    data, tables = prepared(config, tmp_path)
    rating = pl.when(pl.Series(data.split_mask("validation"))).then(None).otherwise("rating")
    examples = data.examples.with_columns(rating=rating.cast(pl.Float32))
    data = dataclasses.replace(data, examples=examples)
    model = small_model(data, ["[PAD]", "[UNK]"], config)
    validation = Validation(Embedder(model, tables, live=False), data, config)
    measured = validation()
    assert validation.monitor == "validation_ndcg_at_10"
    assert "validation_rmse" not in measured
    assert validation.monitor in measured
