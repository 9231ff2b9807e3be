import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from small_model import small_model

from tfrec.config import Config
from tfrec.config.retrieval import Optimizer
from tfrec.data.dataset import PreparedData
from tfrec.environment import start_tensorflow
from tfrec.inference.embedder import Embedder
from tfrec.inference.embeddings import Embeddings
from tfrec.inference.pair_scorer import PairScorer, RowsByRequest, Vectors
from tfrec.inputs.batches import InputTables
from tfrec.inputs.ranked_rows import RankedRows, ranked_rows, training_rows
from tfrec.models.build import ranking_model
from tfrec.models.ranking import RankingModel
from tfrec.schema import Batch
from tfrec.training.loop import History
from tfrec.training.ranking import click_softmax, tower_weights, train_ranking

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
    data: PreparedData,
    tables: InputTables,
    embeddings: Embeddings,
    config: Config,
    folder: Path,
    towers: Embedder | None = None,
    teach: Callable[[RankedRows], np.ndarray] | None = None,
) -> tuple[History, list[np.ndarray], RankingModel]:
    start_tensorflow(config.seed)
    model = ranking_model(
        data.item_features,
        [*data.user_features, *data.context_features],
        config.ranking,
        num_items=data.num_items,
        embedding_dim=embeddings.items.shape[1],
        max_history=data.max_history,
        num_statistics=1,
    )
    folder.mkdir(exist_ok=True)
    history = train_ranking(model, data, tables, embeddings, config, folder, towers, teach)
    return history, [variable.numpy() for variable in model.variables], model


@pytest.fixture(scope="module")
def whole(data, tables, embeddings, config, tmp_path_factory):
    return train(data, tables, embeddings, config, tmp_path_factory.mktemp("whole"))


def test_optimizer_of_the_settings_trains_the_model(
    data, tables, embeddings, config, tmp_path: Path
):
    # Steps of gradients cut to 1e-4 are far shorter than those of AdamW.
    still = Optimizer(kind="sgd", options={"clipvalue": 1e-4})
    ranking = config.ranking.model_copy(update={"optimizer": still, "weight_decay": 0.0})
    moved = []
    for settings in (ranking, ranking.model_copy(update={"optimizer": Optimizer()})):
        own = config.model_copy(update={"ranking": settings})
        folder = tmp_path / settings.optimizer.kind
        model = train(data, tables, embeddings, own, folder)[2]
        moved.append(float(np.abs(model.position_bias.numpy()).max()))
    assert 0 < moved[0] < moved[1] / 100


def test_training_lowers_the_loss(whole):
    losses = [measured["loss"] for measured in whole[0].rounds]
    assert len(losses) == 3
    assert losses[-1] < losses[0]


def test_training_killed_within_rounds_and_resumed_is_bit_equal(
    whole, data, tables, embeddings, config, tmp_path, killed_at
):
    wanted_history, wanted, _ = whole
    rows = training_rows(data, config)
    num_requests = len(RowsByRequest(rows))
    steps = num_requests // round(2048 * num_requests / len(rows))
    assert steps >= 3
    for number in (2, 3, steps + 1, 2):
        with killed_at(number):
            train(data, tables, embeddings, config, tmp_path)
    history, got, _ = train(data, tables, embeddings, config, tmp_path)
    assert history == wanted_history
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(one, other)


def test_sparse_layers_have_their_zeros_whichever_round_is_kept(
    data, tables, embeddings, config, make_config, tmp_path
):
    settings = config.ranking.model_dump() | {"sparsity": 0.75, "epochs": 2}
    _, _, model = train(data, tables, embeddings, make_config(ranking=settings), tmp_path)
    matrices = [w.numpy() for w in model.trainable_variables if w.name == "kernel"]
    assert len(matrices) >= 3
    for matrix in matrices:
        assert (matrix == 0).sum() == int(0.75 * matrix.size + 1e-3)


def test_a_model_that_only_listens_to_its_teacher_comes_to_answer_alike(
    data, tables, embeddings, config, make_config, tmp_path
):
    taught = embeddings.items[:, 0] - embeddings.items[:, 1]  # no label follows it
    rows = ranked_rows(data, "test", config)
    likeness = {}

    def teach(rows: RankedRows) -> np.ndarray:
        return taught[rows.item_index]

    for weight in (1e-6, 1.0):
        settings = config.ranking.model_dump() | {
            "teacher": {"run": "any", "weight": weight}, "epochs": 1, "learning_rate": 0.01,
            "dropout": 0.0, "batch_size": 64,
        }  # fmt: skip
        taught_config, folder = make_config(ranking=settings), tmp_path / str(weight)
        _, _, model = train(data, tables, embeddings, taught_config, folder, teach=teach)
        scorer = PairScorer(model, tables, embeddings)
        raw = scorer.raw(rows)[:, 0]
        likeness[weight] = float(np.corrcoef(raw, taught[rows.item_index])[0, 1])
    assert likeness[1.0] > 0.5
    assert abs(likeness[1e-6]) < 0.3


@pytest.fixture
def make_towers(data, tables, vocabulary, config) -> Callable[[], Embedder]:
    def make() -> Embedder:
        embedder = Embedder(small_model(data, vocabulary, config), tables, live=False)
        embedder.renew_cache()
        return embedder

    return make


def embeddings_of(data: PreparedData, towers: Embedder) -> Embeddings:
    items = towers.catalogue()
    return Embeddings(items, towers.requests(np.arange(data.contexts.height), items))


def test_live_towers_score_as_their_finished_embeddings(
    make_towers, data, tables, config, tmp_path
):
    towers = make_towers()
    embeddings = embeddings_of(data, towers)
    _, _, model = train(data, tables, embeddings, config, tmp_path)
    rows = ranked_rows(data, "test", config)
    finished, live = (
        PairScorer(model, tables, embeddings),
        PairScorer(model, tables, None, None, towers),
    )
    np.testing.assert_allclose(live.raw(rows), finished.raw(rows), atol=1e-4)


@pytest.mark.parametrize("kind", ["tuned", "shared"])
def test_towers_are_trained_along_and_resumed_bit_equal(
    make_towers, data, tables, config, make_config, tmp_path, killed_at, kind
):
    ranking = config.ranking.model_dump() | {
        "towers": kind, "tower_learning_rate": 0.01, "epochs": 1
    }  # fmt: skip
    config = make_config(ranking=ranking)
    towers = make_towers()
    embeddings = embeddings_of(data, towers)
    before = [variable.numpy() for variable in towers.model.variables]
    history, weights, _ = train(data, tables, embeddings, config, tmp_path / "whole", towers)
    wanted = [variable.numpy() for variable in towers.model.variables]
    is_changed = {
        variable.path: bool((one != other).any())
        for variable, one, other in zip(towers.model.variables, before, wanted, strict=True)
    }
    of_encoder = {variable.path for variable in towers.model.encoder.variables}
    assert not any(is_changed[path] for path in of_encoder)
    of_towers = {weight.path for weight in tower_weights(towers.model)}
    assert all(is_changed[path] for path in of_towers), is_changed

    resumed = make_towers()
    with killed_at(2):
        train(data, tables, embeddings, config, tmp_path / "killed", resumed)
    resumed = make_towers()
    again, got, _ = train(data, tables, embeddings, config, tmp_path / "killed", resumed)
    assert again == history
    for one, other in zip(got, weights, strict=True):
        np.testing.assert_array_equal(one, other)
    for variable, value in zip(resumed.model.variables, wanted, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)


def test_softmax_over_clicked_items_equals_its_definition():
    rng = np.random.default_rng(0)
    users, items = rng.normal(size=(2, 4)), rng.normal(size=(5, 4))
    request, label, item = [0, 0, 0, 1, 1], [1, 0, 1, 1, 0], [3, 4, 5, 3, 6]
    shares, temperature = np.array([0, 0, 0, 0.5, 0, 0.2, 0.1]), 0.5
    batch = {
        Batch.LABEL: tf.constant(label, tf.float32),
        Batch.ITEM_INDEX: tf.constant(item),
        Batch.REQUEST_ROW: tf.constant(request),
    }
    vectors = Vectors(tf.constant(users, tf.float32), tf.constant(items, tf.float32))
    got = click_softmax(batch, vectors, tf.constant(shares, tf.float32), tf.constant(temperature))
    losses = []
    clicked = [n for n in range(5) if label[n]]
    for one in clicked:
        scores = users[request[one]] @ items.T / temperature
        others = [n for n in clicked if request[n] != request[one] and item[n] != item[one]]
        total = sum(np.exp(scores[n]) / (3 * shares[item[n]]) for n in others)
        losses.append(np.log(np.exp(scores[one]) + total) - scores[one])
    assert float(got) == pytest.approx(np.mean(losses), rel=1e-4)


def test_weights_hold_the_state_of_dropout(whole):
    model = whole[2]
    assert id(model.dropout.seed_generator.state) in {id(variable) for variable in model.variables}


def test_batch_of_no_rows_has_the_types_of_any_batch(whole, data, tables, embeddings, config):
    # The batches of an epoch take names, types and shapes from an empty one.
    scorer = PairScorer(whole[2], tables, embeddings)
    rows = training_rows(data, config)
    grouped = RowsByRequest(rows)
    empty, some = (scorer.batch(rows, grouped, np.arange(count)) for count in (0, 5))
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
        # An item drawn for a request that chose it is no negative.
        assert (rows.label == 1).sum() == num_logged
        assert 0.95 * num_logged < (rows.label == 0).sum() <= num_logged
    logged = ranked_rows(positive_train, "test", config)
    assert len(logged.label) == len(data.ranked_rows("test"))


def test_batches_of_requests_hold_each_of_their_rows_once(data, config):
    rows = training_rows(data, config)
    grouped = RowsByRequest(rows)
    chosen = np.array([5, 0, len(grouped) - 1])
    at, request = grouped.rows_of(chosen)
    assert (np.diff(request) >= 0).all()
    for number, one in enumerate(chosen):
        wanted = np.flatnonzero(rows.context == grouped.contexts[one])
        np.testing.assert_array_equal(np.sort(at[request == number]), wanted)
    blocks = grouped.blocks(100)
    assert len(blocks) > 1
    np.testing.assert_array_equal(np.concatenate(blocks), np.arange(len(grouped)))


def test_prediction_of_a_row_does_not_depend_on_the_others(whole, data, tables, embeddings, config):
    scorer = PairScorer(whole[2], tables, embeddings)
    rows = ranked_rows(data, "test", config)
    everything = scorer.raw(rows)
    some = np.random.default_rng(0).permutation(len(rows))[:50]
    np.testing.assert_allclose(scorer.raw(rows.take(some)), everything[some], atol=1e-4)
    assert scorer.raw(rows.take(some[:0])).shape == (0, whole[2].num_outputs)


def test_trained_model_is_calibrated_on_validation(whole, data, tables, embeddings, config):
    scorer = PairScorer(whole[2], tables, embeddings)
    rows = ranked_rows(data, "validation", config)
    assert scorer.probabilities(rows).mean() == pytest.approx(rows.label.mean(), rel=0.01)


def test_validation_of_one_class_leaves_the_model_uncalibrated(
    data, tables, embeddings, config, tmp_path
):
    is_validation = pl.Series(data.split_mask("validation"))
    examples = data.examples.with_columns(
        is_ranked=pl.col("is_ranked") & (~is_validation | (pl.col("label") == 0))
    )
    history, _, model = train(
        dataclasses.replace(data, examples=examples), tables, embeddings, config, tmp_path
    )
    assert np.isnan([measured["validation_auc"] for measured in history.rounds]).all()
    assert model.calibrators["click"].slopes.numpy().tolist() == [1.0, 1.0, 1.0]
    assert model.calibrators["click"].offset == 0
