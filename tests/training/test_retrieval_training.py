import dataclasses
from pathlib import Path

import keras
import numpy as np
import polars as pl
import pytest
import tensorflow as tf

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.encoders.adaptation import adapt
from tfrec.encoders.bert import BertEncoder, build_backbone
from tfrec.environment import start_tensorflow
from tfrec.errors import ConfigError
from tfrec.inference.embedder import Embedder
from tfrec.inputs.batches import InputTables
from tfrec.losses.retrieval import RetrievalLoss, Sampled
from tfrec.metrics.retrieval import target_ranks
from tfrec.models.build import new_retrieval
from tfrec.training.loop import History
from tfrec.training.retrieval import train_retrieval
from tfrec.training.samplers import NegativeSampler


class Margin(RetrievalLoss):
    """A loss of somebody else."""

    def __init__(self, *, margin: float):
        self.margin = margin

    def __call__(self, given: Sampled) -> tf.Tensor:
        behind = self.margin + given.temperature * (given.logits - given.target_logits[:, None])
        lost = tf.where(given.is_negative, tf.nn.relu(behind), 0.0)
        rows = tf.reduce_sum(lost, axis=1)
        return tf.reduce_sum(given.weight * rows) / tf.reduce_sum(given.weight)

    def get_config(self) -> dict[str, float]:
        return {"margin": self.margin}


class Newest(NegativeSampler):
    """Draws the last ten items."""

    def draw(self, seed: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
        end = self.num_items + 1
        return tf.random.stateless_uniform(shape, seed, end - 10, end, tf.int32)

    def probabilities(self) -> np.ndarray:
        share = np.zeros(self.num_items + 1, np.float32)
        share[-10:] = 0.1
        return share


class SlowAdam(keras.optimizers.Adam):
    """An optimiser with state."""

    def __init__(self, learning_rate: float, slowness: float):
        super().__init__(learning_rate)
        self.slowness = slowness

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient, variable, learning_rate / self.slowness)


class Trained:
    """A model built and trained from the seed on, with its weights before and after."""

    def __init__(
        self, data: PreparedData, vocabulary: list[str], tables: InputTables, config: Config,
        folder: Path,
    ) -> None:  # fmt: skip
        start_tensorflow(config.seed)
        encoder = BertEncoder(build_backbone("nano", len(vocabulary), 16, dropout=0.0))
        self.model = new_retrieval(config, data, encoder)
        adapt(self.model.encoder, config.encoder.adaptation)
        self.before = self.weights()
        folder.mkdir(exist_ok=True)
        self.history: History = train_retrieval(self.model, data, tables, config, folder)
        self.after = self.weights()

    def weights(self) -> dict[int, np.ndarray]:
        return {number: v.numpy() for number, v in enumerate(self.model.variables)}

    def changed(self, of: list[object]) -> list[bool]:
        ids = [id(variable) for variable in self.model.variables]
        numbers = [ids.index(id(variable)) for variable in of]
        return [bool((self.before[n] != self.after[n]).any()) for n in numbers]


@pytest.fixture(scope="module")
def frozen(data, vocabulary, tables, make_config, tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("frozen") / "checkpoints"
    return Trained(data, vocabulary, tables, make_config(), folder)


@pytest.fixture(scope="module")
def full(data, vocabulary, tables, make_config, tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("full") / "checkpoints"
    return Trained(data, vocabulary, tables, make_config("full", retrieval={"epochs": 2}), folder)


@pytest.mark.parametrize("adaptation", ["frozen", "full"])
def test_training_lowers_the_loss(adaptation, request):
    losses = [r["loss"] for r in request.getfixturevalue(adaptation).history.rounds]
    assert len(losses) == (4 if adaptation == "frozen" else 2)
    assert losses[-1] < losses[0] - 0.1


def test_training_finds_more_validation_items_than_chance(frozen, data):
    # Chance finds 100 of about 566 items: 0.18. Too good would be suspicious too.
    chance = 100 / data.num_items
    best = frozen.history.rounds[frozen.history.best_round]["validation_recall_at_100"]
    assert 1.3 * chance < best < 0.95


def test_best_round_is_what_the_model_holds(frozen, data, tables):
    embedder = Embedder(frozen.model, tables, live=False)
    embedder.renew_cache()
    catalogue = embedder.catalogue()
    rows = data.target_rows("validation")
    contexts = data.examples["context"].to_numpy()[rows]
    users = embedder.requests(contexts, catalogue)
    ranks = target_ranks(
        lambda block: users[block] @ catalogue.T,
        data.examples["item_index"].to_numpy()[rows],
        lambda block: data.seen_pairs(contexts[block]),
    )
    values = [r["validation_ndcg_at_100"] for r in frozen.history.rounds]
    assert max(values) == values[frozen.history.best_round]
    # One of 66 targets may change its place by rounding.
    gains = np.where(ranks <= 100, 1 / np.log2(1 + ranks), 0)
    assert gains.mean() == pytest.approx(max(values), abs=0.005)


def test_catalogue_and_requests_have_length_one_and_row_zero_is_zeros(frozen, data, tables):
    embedder = Embedder(frozen.model, tables, live=False)
    embedder.renew_cache()
    catalogue = embedder.catalogue()
    assert catalogue.shape == (data.num_items + 1, 16)
    assert not catalogue[0].any()
    np.testing.assert_allclose(np.linalg.norm(catalogue[1:], axis=1), 1, atol=1e-5)
    users = embedder.requests(np.arange(50), catalogue)
    np.testing.assert_allclose(np.linalg.norm(users, axis=1), 1, atol=1e-5)
    assert embedder.requests(np.arange(0), catalogue).shape == (0, 16)


def test_frozen_training_measures_the_texts_and_leaves_bert_as_it_was(frozen):
    encoder = frozen.model.encoder
    assert not any(frozen.changed(encoder.backbone.variables))
    assert frozen.changed([encoder.mean, encoder.deviation]) == [True, True]
    towers = [*frozen.model.item_tower.trainable_variables]
    towers += frozen.model.user_tower.trainable_variables
    assert all(frozen.changed(towers))


def test_full_training_changes_bert_but_no_constant(full, tables):
    encoder = full.model.encoder
    kernels = [v for v in encoder.backbone.trainable_variables if "pooled" not in v.path]
    changed = full.changed(kernels)
    assert sum(changed) >= len(changed) - 1  # segments hold one row that is used
    assert full.changed(encoder.backbone.get_layer("token_embedding").variables[:1]) == [True]
    # Mean and deviation are measured before the first step and stay: of the last texts they are
    # no longer exact.
    vectors = encoder(tables.item_tokens[1:]).numpy()
    assert np.abs(vectors.mean(axis=0)).max() > 1e-3


@pytest.mark.parametrize("adaptation", ["frozen", "full"])
def test_training_twice_with_one_seed_is_bit_equal(
    adaptation, data, vocabulary, tables, make_config, tmp_path, request
):
    first: Trained = request.getfixturevalue(adaptation)
    epochs = {"frozen": 4, "full": 2}[adaptation]
    config = make_config(adaptation, retrieval={"epochs": epochs})
    second = Trained(data, vocabulary, tables, config, tmp_path / "checkpoints")
    assert second.history == first.history
    for number, value in first.after.items():
        np.testing.assert_array_equal(second.after[number], value)


@pytest.mark.parametrize("adaptation", ["frozen", "full"])
def test_training_killed_within_rounds_and_resumed_is_bit_equal(
    adaptation, data, vocabulary, tables, make_config, tmp_path, request, killed_at
):
    wanted: Trained = request.getfixturevalue(adaptation)
    epochs = {"frozen": 4, "full": 2}[adaptation]
    config = make_config(adaptation, retrieval={"epochs": epochs})
    # A round has about nine steps, and a checkpoint more at its end: this is in the second round,
    # where, with adaptation "full", the cached texts are older than the encoder.
    with killed_at(13):
        Trained(data, vocabulary, tables, config, tmp_path)
    resumed = Trained(data, vocabulary, tables, config, tmp_path)
    assert resumed.history == wanted.history
    for number, value in wanted.after.items():
        np.testing.assert_array_equal(resumed.after[number], value)


def test_weights_hold_the_state_of_every_random_generator(frozen):
    # Ids and histories are hidden by chance; `fit` restores what `variables` lists.
    listed = {id(variable) for variable in frozen.model.variables}
    for tower in (frozen.model.item_tower, frozen.model.user_tower):
        assert id(tower.seed_generator.state) in listed


def test_training_without_user_ids_and_correction_runs(
    data, vocabulary, tables, make_config, tmp_path
):
    config = make_config(
        retrieval={
            "epochs": 1,
            "user": {"use_id": False},
            "item": {"id_dropout": 0.0},
            "loss": {"log_q": "none"},
        }
    )
    trained = Trained(data, vocabulary, tables, config, tmp_path / "checkpoints")
    assert trained.model.user_tower.id_embedding.embeddings.shape == (1, 16)
    assert np.isfinite(trained.history.rounds[0]["loss"])


# Each of these switches on several levers that do not hide one another.
LEVERS = {
    "transformer": {
        "loss": {"targets": "positions", "kind": "full_softmax"},
        "user": {"history": {"kind": "transformer", "layers": 1, "dropout": 0.1}},
        "batch_size": 16,
    },
    "queue and events": {
        "loss": {"negatives": {"queue": 100}, "log_q": "all", "similarity": "dot"},
        "user": {"history": {"kind": "mean", "event_kinds": True, "time_gaps": True}},
    },
    "hard negatives": {
        "loss": {
            "negatives": {"impressed": 4, "mined": 3, "mined_depth": 30, "uniform": 9},
            "label_smoothing": 0.1,
        },
        "average_decay": 0.9,
        "schedule": {"kind": "linear"},
    },
    "drawn per target": {
        "loss": {"negatives": {"in_batch": False, "uniform": 9, "popular": 9, "per_target": True}},
        "user": {"history": {"kind": "none"}},
    },
    "tensorflow recommenders": {"loss": {"kind": "tfrs", "learn_temperature": True}},
    "own parts": {
        "loss": {
            "kind": f"{__name__}:Margin",
            "options": {"margin": 0.2},
            "negatives": {"samplers": [{"kind": f"{__name__}:Newest", "count": 20}]},
        },
        "optimizer": {"kind": f"{__name__}:SlowAdam", "options": {"slowness": 2.0}},
    },
    "pushed packed sequences": {
        "loss": {"adversarial": {"method": "fgm"}, "targets": "positions"},
        "batch_size": 16,
    },
}
WHOLE_USERS = {
    "loss": {"targets": "users", "kind": "full_softmax"},
    "user": {"history": {"kind": "none"}},
    "batch_size": 16,
}
WITH_STATE = ("own parts", "transformer", "queue and events", "hard negatives")


def trained_with(
    lever: dict, data, vocabulary, tables_of, make_config, folder: Path, epochs: int = 2
) -> Trained:
    config = make_config(retrieval={"epochs": epochs} | lever)
    return Trained(data, vocabulary, tables_of(config), config, folder)


@pytest.mark.parametrize("name", [name for name in LEVERS if name not in WITH_STATE])
def test_lever_lowers_the_loss(name, data, vocabulary, tables_of, make_config, tmp_path):
    trained = trained_with(LEVERS[name], data, vocabulary, tables_of, make_config, tmp_path / "c")
    first, last = (r["loss"] for r in trained.history.rounds)
    assert last < first


@pytest.mark.parametrize("name", WITH_STATE)
def test_lever_killed_within_a_round_and_resumed_is_bit_equal(
    name, data, vocabulary, tables_of, make_config, tmp_path, killed_at
):
    arguments = (LEVERS[name], data, vocabulary, tables_of, make_config)
    wanted = trained_with(*arguments, tmp_path / "whole")
    steps = 2 if LEVERS[name].get("loss", {}).get("targets") == "positions" else 9
    with killed_at(steps + 2):
        trained_with(*arguments, tmp_path / "killed")
    resumed = trained_with(*arguments, tmp_path / "killed")
    assert resumed.history == wanted.history
    for number, value in wanted.after.items():
        np.testing.assert_array_equal(resumed.after[number], value)


def saying_nothing(data: PreparedData) -> PreparedData:
    """Leaves of requests only who asks."""
    contexts = data.contexts.with_columns(pl.lit(0, pl.Int32).alias("text_index"))
    return dataclasses.replace(data, contexts=contexts, context_features=[])


def test_whole_users_train_all_targets_and_resume_bit_equal(
    data, vocabulary, tables, make_config, tmp_path, killed_at
):
    alike = saying_nothing(data)
    inputs = InputTables(alike, tables.item_tokens.numpy(), tables.text_tokens.numpy())
    config = make_config(retrieval={"epochs": 3} | WHOLE_USERS)
    wanted = Trained(alike, vocabulary, inputs, config, tmp_path / "whole")
    assert wanted.history.rounds[-1]["loss"] < wanted.history.rounds[0]["loss"]
    with killed_at(5):
        Trained(alike, vocabulary, inputs, config, tmp_path / "killed")
    resumed = Trained(alike, vocabulary, inputs, config, tmp_path / "killed")
    assert resumed.history == wanted.history
    for number, value in wanted.after.items():
        np.testing.assert_array_equal(resumed.after[number], value)


def test_whole_users_whose_requests_say_more_are_refused(
    data, vocabulary, tables, make_config, tmp_path
):
    with pytest.raises(ConfigError, match="beside who asks, got device, text"):
        Trained(data, vocabulary, tables, make_config(retrieval=WHOLE_USERS), tmp_path / "c")


def test_learned_temperature_moves(data, vocabulary, tables_of, make_config, tmp_path):
    lever = {"loss": {"learn_temperature": True, "temperature": 1.0}}
    trained = trained_with(lever, data, vocabulary, tables_of, make_config, tmp_path / "c")
    assert abs(trained.model.temperature - 1.0) > 0.01


def test_full_softmax_with_a_trained_encoder_is_refused(
    data, vocabulary, tables, make_config, tmp_path
):
    config = make_config("full", retrieval={"loss": {"kind": "full_softmax"}})
    with pytest.raises(ConfigError, match="full_softmax"):
        Trained(data, vocabulary, tables, config, tmp_path / "c")


def test_ratings_without_a_rating_column_are_refused(
    data, vocabulary, tables, make_config, tmp_path
):
    config = make_config(retrieval={"loss": {"kind": "mse"}})
    with pytest.raises(ConfigError, match="rating"):
        Trained(data, vocabulary, tables, config, tmp_path / "c")
