"""The objective of a batch against TensorFlow Recommenders, loops, and itself put another way."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
from small_model import NOTHING_HIDDEN, small_model

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.inference.embedder import Embedder
from tfrec.inputs.batches import InputTables
from tfrec.inputs.packed import PackedSequences
from tfrec.inputs.sequences import cut_sequences
from tfrec.schema import Batch, Columns
from tfrec.training.objective import Objective, Totals
from tfrec.training.strategy import Replicas
from tfrec.training.targets import Targets

SEED = tf.constant([3, 5])


class Case:
    """A model away from its symmetric beginning, and its objective on chosen targets."""

    def __init__(
        self, data: PreparedData, vocabulary: list[str], tables: InputTables, config: Config
    ) -> None:
        self.data, self.tables, self.config = data, tables, config
        self.model = small_model(data, vocabulary, config)
        draw = np.random.default_rng(1)
        for weight in self.model.trainable_variables:
            weight.assign(weight + draw.normal(0, 0.1, weight.shape))
        self.embedder = Embedder(self.model, tables, config.encoder.adaptation != "frozen")
        self.embedder.renew_cache()
        self.objective = Objective(self.embedder, config.retrieval, data.item_counts(), Replicas())

    def batch(self, rows: np.ndarray, negatives: np.ndarray | None = None) -> dict[str, Any]:
        """Returns targets with their requests, known positives found by a plain loop."""
        contexts = self.data.examples["context"].to_numpy()[rows]
        return {**self.tables.requests(contexts), **self.fields(rows, negatives)}

    def fields(self, rows: np.ndarray, negatives: np.ndarray | None = None) -> dict[str, Any]:
        chosen = chosen_items(self.data)
        contexts = self.data.examples["context"].to_numpy()[rows]
        users = self.data.contexts["user_index"].to_numpy()[contexts]
        pairs = [(row, item) for row, user in enumerate(users) for item in chosen[user]]
        return {
            Batch.ITEM_INDEX: self.data.examples["item_index"].to_numpy()[rows],
            Batch.WEIGHT: self.data.examples[Columns.WEIGHT].to_numpy()[rows],
            Batch.NEGATIVES: np.zeros((len(rows), 0), np.int32) if negatives is None else negatives,
            Batch.KNOWN_ROW: np.array([row for row, _ in pairs], np.int32),
            Batch.KNOWN_ITEM: np.array([item for _, item in pairs], np.int32),
        }

    def loss(self, batch: dict[str, Any]) -> tf.Tensor:
        batch = {name: tf.constant(values) for name, values in batch.items()}
        number = tf.math.count_nonzero(batch[Batch.ITEM_INDEX], dtype=tf.int32)
        return self.objective(batch, SEED, Totals(tf.reduce_sum(batch[Batch.WEIGHT]), number))[0]

    def gradients(self, batch: dict[str, Any]) -> tuple[float, list[np.ndarray]]:
        return gradients_of(lambda: self.loss(batch), self.model.trainable_variables)


def gradients_of(loss_of: Any, weights: list[Any]) -> tuple[float, list[np.ndarray]]:
    with tf.GradientTape() as tape:
        loss = loss_of()
    found = tape.gradient(loss, [w.value for w in weights], unconnected_gradients="zero")
    return float(loss), [tf.convert_to_tensor(gradient).numpy() for gradient in found]


def chosen_items(data: PreparedData) -> dict[int, list[int]]:
    """Lists the training targets of each user, by a loop."""
    chosen: dict[int, list[int]] = {user: [] for user in range(data.num_users + 1)}
    contexts, items = (data.examples[name].to_numpy() for name in ("context", "item_index"))
    users = data.contexts["user_index"].to_numpy()
    for row in data.target_rows("train"):
        chosen[users[contexts[row]]].append(items[row])
    return chosen


def assert_close(ours: tuple[float, list], theirs: tuple[float, list], atol: float = 1e-5) -> None:
    assert ours[0] == pytest.approx(theirs[0], abs=atol)
    for one, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(one, other, atol=atol)


@pytest.fixture(scope="module")
def make_case(data, vocabulary, tables_of, make_config):
    def make(loss: dict, history: dict | None = None, adaptation: str = "frozen", **more) -> Case:
        retrieval = NOTHING_HIDDEN | more | {"loss": loss}
        retrieval["user"] = NOTHING_HIDDEN["user"] | {"history": history or {}}
        config = make_config(adaptation, retrieval=retrieval)
        return Case(data, vocabulary, tables_of(config), config)

    return make


@pytest.fixture(scope="module")
def rows(data) -> np.ndarray:
    """Forty training targets; some items and users come more than once."""
    rows = np.random.default_rng(0).choice(data.target_rows("train"), 40, replace=False)
    contexts = data.examples["context"].to_numpy()[rows]
    assert len(np.unique(data.examples["item_index"].to_numpy()[rows])) < 40
    assert len(np.unique(data.contexts["user_index"].to_numpy()[contexts])) < 40
    return rows


@pytest.mark.parametrize("log_q", ["none", "all", "negatives"])
@pytest.mark.parametrize("masks", [False, True])
def test_tfrs_equals_the_softmax_over_the_batch(log_q, masks, make_case, rows):
    settings = {"log_q": log_q, "mask_known_positives": masks, "learn_temperature": True}
    ours, theirs = (make_case({"kind": kind, **settings}) for kind in ("softmax", "tfrs"))
    found = ours.gradients(ours.batch(rows))
    assert any(np.abs(gradient).max() > 1e-3 for gradient in found[1])
    assert_close(found, theirs.gradients(theirs.batch(rows)))


@pytest.mark.parametrize("log_q", ["none", "all"])
def test_in_batch_softmax_equals_tensorflow_recommenders(log_q, make_case, rows):
    case = make_case({"log_q": log_q, "mask_known_positives": False})
    batch = case.batch(rows)
    embedder, index = case.embedder, batch[Batch.ITEM_INDEX]
    counts = case.data.item_counts()
    probability = tf.constant((counts / counts.sum())[index], tf.float32)

    def embed(items: np.ndarray) -> tf.Tensor:  # each by itself, however often it comes
        flat = tf.constant(items.ravel())
        embedded = embedder.items(flat, embedder.cached_item_text(flat), training=True)
        return tf.reshape(embedded, [*items.shape, -1])

    def theirs() -> tf.Tensor:
        states = embedder.read_histories(batch, embed(batch[Batch.HISTORY]), training=True)
        users = embedder.request_embeddings(batch, states[:, -1], training=True)
        weight = tf.constant(batch[Batch.WEIGHT])
        task = tfrs.tasks.Retrieval(temperature=case.model.temperature, remove_accidental_hits=True)
        summed = task(
            users,
            embed(index),
            candidate_ids=tf.constant(index),
            candidate_sampling_probability=probability if log_q == "all" else None,
            sample_weight=weight,
            compute_metrics=False,
        )
        return summed / tf.reduce_sum(weight)

    ours = case.gradients(batch)
    assert any(np.abs(gradient).max() > 1e-3 for gradient in ours[1])
    assert_close(ours, gradients_of(theirs, case.model.trainable_variables))


def test_order_of_the_rows_does_not_count(make_case, rows, data):
    case = make_case({"negatives": {"uniform": 20, "popular": 20, "impressed": 2}})
    hard = np.random.default_rng(2).integers(0, data.num_items + 1, (len(rows), 2), np.int32)
    wanted = float(case.loss(case.batch(rows, hard)))
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(rows))
        found = float(case.loss(case.batch(rows[order], hard[order])))
        assert found == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(
    "history",
    [
        {"kind": "attention"},
        {"kind": "transformer", "dropout": 0.0},
        {"kind": "mean", "event_kinds": True, "time_gaps": True},
    ],
    ids=lambda history: history["kind"],
)
def test_positions_and_requests_are_the_same_loss(history, data, vocabulary, tables, make_config):
    whole = dataclasses.replace(data, max_history=128)
    contexts = data.examples["context"].to_numpy()
    users = data.contexts["user_index"].to_numpy()[contexts]
    start, end = data.history_ranges(contexts)
    train = data.target_rows("train")
    assert (end - start)[train].max() <= 128
    rows = train[np.isin(users[train], np.unique(users[train])[:12])]
    assert len(rows) > 40
    config = make_config(
        retrieval=NOTHING_HIDDEN
        | {
            "loss": {"kind": "full_softmax"},
            "user": NOTHING_HIDDEN["user"] | {"history": history},
        }
    )
    reads = {name: history.get(name, False) for name in ("event_kinds", "time_gaps")}
    tables = InputTables(whole, tables.item_tokens.numpy(), tables.text_tokens.numpy(), **reads)
    case = Case(whole, vocabulary, tables, config)
    packed = PackedSequences(cut_sequences(whole, rows, 128), tables, seed=0)
    histories, order = packed.gather(np.arange(packed.num_rows))
    assert sorted(order) == sorted(rows)
    assert packed.num_rows < 12  # several users share a row
    positions = {**histories, **case.fields(order), **tables.request_fields(contexts[order])}
    assert_close(case.gradients(positions), case.gradients(case.batch(rows)))


def test_users_and_requests_are_the_same_loss(make_case, rows, data, tables):
    settings = {"loss": {"kind": "full_softmax"}, "history": {"kind": "none"}}
    by_request = make_case(**settings)
    batch = by_request.batch(rows)
    # Requests with a text or a device of their own could not share an embedding.
    alike = {name: np.zeros_like(batch[name]) for name in (Batch.TEXT_INDEX, *data.context_inputs)}
    wanted = by_request.gradients(batch | alike)
    settings["loss"]["targets"] = "users"
    of_one_place = {Batch.HISTORY: np.zeros((len(rows), 1), np.int32)}
    case, whole = make_case(**settings), batch | alike | of_one_place
    assert_close(case.gradients(whole), wanted)
    weight = tf.constant(batch[Batch.WEIGHT])
    totals = Totals(tf.reduce_sum(weight), tf.size(weight))
    names = whole.keys() - {Batch.KNOWN_ROW, Batch.KNOWN_ITEM}
    parts = [  # as replicas share them, some users in both
        case.objective({name: tf.constant(whole[name][part]) for name in names}, SEED, totals)[0]
        for part in (slice(0, 17), slice(17, None))
    ]
    assert float(sum(parts)) == pytest.approx(wanted[0], abs=1e-5)


def pair_of_rows(data: PreparedData) -> tuple[np.ndarray, int]:
    """Finds two targets of one user, the first of which does not see the other in its history."""
    contexts = data.examples["context"].to_numpy()
    items = data.examples["item_index"].to_numpy()
    users = data.contexts["user_index"].to_numpy()
    train = data.target_rows("train")
    for first in train:
        seen = data.histories(contexts[[first]])
        for second in train[users[contexts[train]] == users[contexts[first]]]:
            if items[second] != items[first] and items[second] not in seen:
                return np.array([first, second]), int(items[second])
    raise AssertionError("no such pair")


@pytest.mark.parametrize("is_masked", [True, False])
@pytest.mark.parametrize("place", ["in the batch", "hard"])
def test_known_positives_are_no_negatives(place, is_masked, make_case, data):
    rows, known = pair_of_rows(data)
    # Three rows: the other target of the user, and one of somebody else to win against.
    users = data.contexts["user_index"].to_numpy()[data.examples["context"].to_numpy()]
    items = data.examples["item_index"].to_numpy()
    others = data.target_rows("train")
    others = others[(users[others] != users[rows[0]]) & ~np.isin(items[others], items[rows])]
    case = make_case({"mask_known_positives": is_masked})
    if place == "hard":
        rows = np.array([rows[0], others[0]])
        batch = case.batch(rows, np.array([[known], [0]], np.int32))
    else:
        batch = case.batch(np.append(rows, others[0]))
    batch[Batch.WEIGHT] = np.eye(1, len(batch[Batch.ITEM_INDEX]), dtype=np.float32)[0]

    table = case.model.item_tower.id_embedding.embeddings
    row = data.item_id_rows[known]
    before, gradients = case.gradients(batch)
    of_table = gradients[[id(w) for w in case.model.trainable_variables].index(id(table))]
    moved = table.numpy()
    moved[row] = 5.0
    table.assign(moved)
    after = float(case.loss(batch))
    assert before > 0.01
    assert (after == before) == is_masked
    assert (not of_table[row].any()) == is_masked


@pytest.mark.parametrize("place", ["in the batch", "hard"])
def test_own_item_among_the_candidates_loses_nothing(place, make_case, data):
    case = make_case({"mask_known_positives": False})
    items = data.examples["item_index"].to_numpy()
    train = data.target_rows("train")
    twice = np.flatnonzero(np.bincount(items[train]) > 1)[0]
    rows = train[items[train] == twice][:2]
    hard = None
    if place == "hard":
        rows, hard = rows[:1], np.array([[twice, 0, twice]], np.int32)
    loss, gradients = case.gradients(case.batch(rows, hard))
    assert loss == 0.0
    assert not any(gradient.any() for gradient in gradients)


def test_hard_negatives_belong_to_their_request(make_case, data, tables):
    case = make_case({"negatives": {"impressed": 4, "mined": 3, "mined_depth": 30}})
    targets = Targets(data, tables, case.config)
    targets.begin_round(case.embedder, 0, 0)
    batch = targets.gather(np.arange(targets.num_units))
    impressed, mined = np.split(batch[Batch.NEGATIVES], [4], axis=1)

    contexts, items = (data.examples[name].to_numpy() for name in ("context", "item_index"))
    is_ranked, label = (data.examples[name].to_numpy() for name in ("is_ranked", "label"))
    passed_over: dict[int, set[int]] = {}
    for row in np.flatnonzero(is_ranked & (label == 0)):
        passed_over.setdefault(contexts[row], set()).add(items[row])
    chosen = chosen_items(data)
    users = data.contexts["user_index"].to_numpy()
    assert (impressed > 0).mean() > 0.5
    assert (mined > 0).all()
    for row, shown, found in zip(data.target_rows("train"), impressed, mined, strict=True):
        assert set(shown) - {0} <= passed_over.get(contexts[row], set())
        assert not set(found) & set(chosen[users[contexts[row]]])


def test_full_softmax_is_a_sampled_one_with_the_whole_catalogue(make_case, rows, data):
    full = make_case({"kind": "full_softmax", "mask_known_positives": False})
    # An empty queue stands for no drawn candidates at all.
    sampled = make_case(
        {
            "log_q": "none",
            "mask_known_positives": False,
            "negatives": {"in_batch": False, "queue": 1},
        }
    )
    everything = np.tile(np.arange(1, data.num_items + 1, dtype=np.int32), (len(rows), 1))
    assert_close(
        full.gradients(full.batch(rows)), sampled.gradients(sampled.batch(rows, everything))
    )


def test_gradient_cache_changes_nothing_but_memory(make_case, rows):
    whole = make_case({}, adaptation="full")
    chunked = make_case({}, adaptation="full", gradient_cache=7)
    wanted = whole.gradients(whole.batch(rows))
    backbone = {id(v) for v in whole.model.encoder.trainable_variables}
    assert any(
        np.abs(gradient).max() > 1e-3
        for weight, gradient in zip(whole.model.trainable_variables, wanted[1], strict=True)
        if id(weight) in backbone
    )
    assert_close(chunked.gradients(chunked.batch(rows)), wanted)


@pytest.mark.parametrize("kind", ["softmax", "full_softmax"])
def test_learned_temperature_has_the_gradient_of_a_small_step(kind, make_case, rows):
    case = make_case({"kind": kind, "learn_temperature": True})
    batch, weight, step = case.batch(rows), case.model.log_temperature, 1e-2
    place = [id(w) for w in case.model.trainable_variables].index(id(weight))
    _, gradients = case.gradients(batch)
    at = float(weight.numpy())
    weight.assign(at + step)
    above = float(case.loss(batch))
    weight.assign(at - step)
    below = float(case.loss(batch))
    assert gradients[place] == pytest.approx((above - below) / (2 * step), rel=1e-2)
    assert abs(gradients[place]) > 1e-3
