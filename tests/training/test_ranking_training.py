import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.environment import start_tensorflow
from tfrec.features.batches import InputTables
from tfrec.models.ranking import RankingModel
from tfrec.training.loop import History
from tfrec.training.ranking import (
    Embeddings,
    PairScorer,
    ranked_rows,
    train_ranking,
    training_rows,
)

DIM = 8


@pytest.fixture(scope="module")
def config(make_config) -> Config:
    return make_config(
        ranking={"epochs": 3, "batch_size": 2048, "hidden": [16], "dropout": 0.2,
                 "negatives": {"uniform": 1}}
    )  # fmt: skip


@pytest.fixture(scope="module")
def embeddings(data: PreparedData) -> Embeddings:
    draw = np.random.default_rng(0)
    items = draw.normal(size=(data.num_items + 1, DIM)).astype(np.float32)
    items[0] = 0
    return Embeddings(items, draw.normal(size=(data.contexts.height, DIM)).astype(np.float32))


def train(
    data: PreparedData, tables: InputTables, embeddings: Embeddings, config: Config, folder: Path
) -> tuple[History, list[np.ndarray], RankingModel]:
    start_tensorflow(config.seed)
    model = RankingModel(
        data.num_items,
        DIM,
        data.item_features,
        [*data.user_features, *data.context_features],
        config.ranking,
    )
    folder.mkdir(exist_ok=True)
    history = train_ranking(model, data, tables, embeddings, config, folder)
    return history, [variable.numpy() for variable in model.variables], model


@pytest.fixture(scope="module")
def whole(data, tables, embeddings, config, tmp_path_factory):
    return train(data, tables, embeddings, config, tmp_path_factory.mktemp("whole"))


def test_training_lowers_the_loss(whole):
    losses = [measured["loss"] for measured in whole[0].rounds]
    assert len(losses) == 3
    assert losses[-1] < losses[0]


def test_training_killed_within_rounds_and_resumed_is_bit_equal(
    whole, data, tables, embeddings, config, tmp_path, killed_at
):
    wanted_history, wanted, _ = whole
    steps = len(training_rows(data, config).label) // 2048
    assert steps >= 3
    for number in (2, 3, steps + 1, 2):
        with killed_at(number):
            train(data, tables, embeddings, config, tmp_path)
    history, got, _ = train(data, tables, embeddings, config, tmp_path)
    assert history == wanted_history
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_hold_the_state_of_dropout(whole):
    model = whole[2]
    assert id(model.dropout.seed_generator.state) in {id(variable) for variable in model.variables}


def test_batch_of_no_rows_has_the_types_of_any_batch(whole, data, tables, embeddings, config):
    # The batches of an epoch take names, types and shapes from an empty one.
    scorer = PairScorer(whole[2], tables, embeddings)
    rows = training_rows(data, config)
    empty, some = (scorer.batch(rows, np.arange(count)) for count in (0, 5))
    assert list(empty) == list(some)
    for name, values in some.items():
        assert empty[name].shape == (0, *values.shape[1:])
        assert empty[name].dtype == values.dtype


def test_split_that_logs_no_negative_gets_drawn_ones_whatever_other_splits_log(data, config):
    is_train = pl.Series(data.split_mask("train"))
    examples = data.examples.with_columns(
        label=pl.when(is_train).then(1).otherwise("label").cast(pl.Int8)
    )
    positive_train = dataclasses.replace(data, examples=examples)
    num_logged = len(data.ranked_rows("train"))
    for rows in (
        ranked_rows(positive_train, "train", config),
        training_rows(positive_train, config),
    ):
        assert (rows.label == 1).sum() == (rows.label == 0).sum() == num_logged
    logged = ranked_rows(positive_train, "test", config)
    assert len(logged.label) == len(data.ranked_rows("test"))
