"""In-batch softmax training of the towers.

Each distinct item and each distinct text of a step is encoded once. The items of histories take
their text vectors from a cache that is renewed every round (or never, with a frozen encoder), so a
step runs BERT over its targets only; ids, features and projections of history items are trained.
"""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.features.batches import InputTables, epoch_batches, num_batches, trim
from tfrec.losses.retrieval import in_batch_softmax
from tfrec.metrics.retrieval import recall_at_k, target_ranks
from tfrec.models.retrieval import RetrievalModel
from tfrec.progress import progress_bar
from tfrec.schema import Batch
from tfrec.training.loop import History, Run, fit

_ENCODE_BLOCK = 1024
_REQUEST_BLOCK = 4096
_MAX_VALIDATION_TARGETS = 4000


class Embedder:
    """Runs the towers over rows of the input tables.

    Args:
        model: The retrieval model.
        tables: What the towers read.
        live: Whether the texts of targets and requests are encoded anew in each call; otherwise
            all texts come from the cache.

    Attributes:
        item_text: float32 variable [num_items + 1, text_dim], the cached BERT(I).
    """

    def __init__(self, model: RetrievalModel, tables: InputTables, live: bool) -> None:
        self.model = model
        self.tables = tables
        self.live = live
        self._is_cache_valid = False
        text_dim = model.encoder.hidden_dim
        self.item_text = keras.Variable(
            tf.zeros([tables.item_tokens.shape[0], text_dim]), trainable=False, name="item_text"
        )
        self._request_text = tf.Variable(tf.zeros([tables.text_tokens.shape[0], text_dim]))
        self._encode_block = tf.function(
            lambda tokens: model.encoder(trim(tokens), training=False),
            input_signature=[tf.TensorSpec([None, None], tf.int32)],
            autograph=False,
        )
        self._embed_items_block = tf.function(
            lambda rows: self.items(rows, self._cached_item_text(rows), training=False),
            input_signature=[tf.TensorSpec([None], tf.int32)],
            autograph=False,
        )
        self._embed_requests_block = tf.function(
            self._requests_from_table, reduce_retracing=True, autograph=False
        )

    def standardize_text(self) -> None:
        """Lets the encoder measure the catalogue's texts; see `TextEncoder.standardize`."""
        self.model.encoder.standardize(self._encode(self.tables.item_tokens).numpy())
        self._is_cache_valid = False

    def renew_cache(self) -> None:
        """Encodes the text of every item, and of every request text unless `live`."""
        if self._is_cache_valid and not self.live:
            return
        self.item_text.assign(self._encode(self.tables.item_tokens))
        if not self.live:
            self._request_text.assign(self._encode(self.tables.text_tokens))
        self._is_cache_valid = True

    def catalogue(self) -> np.ndarray:
        """Embeds all items from the cache; float32 [num_items + 1, embedding_dim], row 0 zeros."""
        count = self.tables.item_tokens.shape[0]
        blocks = [
            self._embed_items_block(tf.range(start, min(start + _REQUEST_BLOCK, count))).numpy()
            for start in range(0, count, _REQUEST_BLOCK)
        ]
        embeddings = np.concatenate(blocks)
        embeddings[0] = 0.0
        return embeddings

    def requests(self, contexts: np.ndarray, catalogue: np.ndarray) -> np.ndarray:
        """Embeds requests as the exported model does: histories from finished item embeddings.

        Args:
            contexts: int [n], rows of the prepared contexts.
            catalogue: float32 [num_items + 1, embedding_dim].

        Returns:
            float32 [n, embedding_dim].
        """
        table = tf.constant(catalogue)
        blocks = [
            self._embed_requests_block(
                self.tables.requests(contexts[start : start + _REQUEST_BLOCK]), table
            ).numpy()
            for start in range(0, len(contexts), _REQUEST_BLOCK)
        ]
        return np.concatenate([np.zeros((0, self.model.embedding_dim), np.float32), *blocks])

    def items(self, rows: tf.Tensor, text_vector: tf.Tensor, training: bool) -> tf.Tensor:
        """Embeds the items at `rows`, int32 [n], given their text vectors."""
        features = {
            name: tf.gather(values, rows) for name, values in self.tables.item_features.items()
        }
        id_row = tf.gather(self.tables.item_id_rows, rows)
        return self.model.embed_items(text_vector, id_row, features, training=training)

    def target_items(self, rows: tf.Tensor, training: bool) -> tf.Tensor:
        """Embeds the distinct target items of a step, through BERT when `live`."""
        if not self.live:
            return self.items(rows, self._cached_item_text(rows), training)
        tokens = trim(tf.gather(self.tables.item_tokens, rows))
        return self.items(rows, self.model.encoder(tokens, training=training), training)

    def request_items(self, history: tf.Tensor, training: bool) -> tf.Tensor:
        """Embeds the items of histories, int32 [n, length], each distinct one once."""
        rows, position = tf.unique(tf.reshape(history, [-1]))
        embedded = self.items(rows, self._cached_item_text(rows), training)
        embedded = tf.gather(embedded, position)
        shape = tf.concat([tf.shape(history), [self.model.embedding_dim]], axis=0)
        return tf.reshape(embedded, shape)

    def request_embeddings(
        self, batch: dict[str, tf.Tensor], history_items: tf.Tensor, training: bool
    ) -> tf.Tensor:
        """Embeds the requests of a batch, given their histories' item embeddings."""
        texts, position = tf.unique(batch[Batch.TEXT_INDEX])
        if self.live:
            tokens = trim(tf.gather(self.tables.text_tokens, texts))
            vectors = self.model.encoder(tokens, training=training)
        else:
            vectors = tf.gather(self._request_text, texts)
        return self.model.embed_requests(
            tf.gather(vectors, position),
            tf.gather(self.tables.user_id_rows, batch[Batch.USER_INDEX]),
            self.tables.request_features(batch),
            history_items,
            batch[Batch.HISTORY] > 0,
            training=training,
        )

    def _requests_from_table(self, batch: dict[str, tf.Tensor], table: tf.Tensor) -> tf.Tensor:
        history_items = tf.gather(table, batch[Batch.HISTORY])
        return self.request_embeddings(batch, history_items, training=False)

    def _cached_item_text(self, rows: tf.Tensor) -> tf.Tensor:
        return tf.gather(self.item_text, rows)

    def _encode(self, tokens: tf.Tensor) -> tf.Tensor:
        starts = range(0, tokens.shape[0], _ENCODE_BLOCK)
        blocks = [
            self._encode_block(tokens[start : start + _ENCODE_BLOCK])
            for start in progress_bar(starts, desc="encoding texts", disable=len(starts) < 20)
        ]
        return tf.concat(blocks, axis=0)


def train_retrieval(
    model: RetrievalModel,
    data: PreparedData,
    tables: InputTables,
    config: Config,
    checkpoint_folder: Path,
) -> History:
    """Trains the model in place and leaves it with the weights of the best round.

    Args:
        model: Towers and encoder.
        data: The prepared data set.
        tables: Its arrays.
        config: Sections `retrieval` and `encoder`, and the seed.
        checkpoint_folder: Where the run keeps its state.

    Returns:
        Loss and validation recall of each round.
    """
    settings = config.retrieval
    live = config.encoder.adaptation == "full"
    model.encoder.trainable = live
    embedder = Embedder(model, tables, live)
    rows = data.target_rows("train")
    batch_size = min(settings.batch_size, len(rows))
    steps_per_round = num_batches(len(rows), batch_size)
    optimizers = _Optimizers(model, config, steps_per_round * settings.epochs)
    loss_function = in_batch_softmax(settings.temperature)
    counts = data.item_counts()
    probability = tf.constant((counts / counts.sum()).astype(np.float32))

    @tf.function(reduce_retracing=True, autograph=False)
    def step(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        targets = batch[Batch.ITEM_INDEX]
        distinct, position = tf.unique(targets)
        with tf.GradientTape() as tape:
            items = tf.gather(embedder.target_items(distinct, training=True), position)
            history_items = embedder.request_items(batch[Batch.HISTORY], training=True)
            users = embedder.request_embeddings(batch, history_items, training=True)
            loss = loss_function(
                users,
                items,
                targets,
                tf.gather(probability, targets) if settings.log_q_correction else None,
                batch[Batch.WEIGHT],
            )
        optimizers.apply(tape.gradient(loss, optimizers.weights))
        return {"loss": loss}

    context = data.examples["context"].to_numpy()
    item_index = data.examples["item_index"].to_numpy()
    weight = data.examples["weight"].to_numpy()

    def gather(chosen: np.ndarray) -> dict[str, np.ndarray]:
        return {
            **tables.requests(context[chosen]),
            Batch.ITEM_INDEX: item_index[chosen],
            Batch.WEIGHT: weight[chosen],
        }

    def batches(number: int, first_step: int) -> tf.data.Dataset:
        if number == first_step == 0:
            embedder.standardize_text()
        if first_step == 0 or not live:  # else the checkpoint gave back the cache of the round
            embedder.renew_cache()
        return epoch_batches(gather, rows, batch_size, config.seed, number, first_step)

    validation = _sample(data.target_rows("validation"), _MAX_VALIDATION_TARGETS, config.seed)
    k = max(config.evaluation.k)

    def validate() -> dict[str, float]:
        embedder.renew_cache()
        catalogue = embedder.catalogue()
        users = embedder.requests(context[validation], catalogue)
        ranks = target_ranks(
            lambda block: users[block] @ catalogue.T,
            item_index[validation],
            lambda block: data.seen_pairs(context[validation][block]),
        )
        return {f"validation_recall_at_{k}": recall_at_k(ranks, k)}

    run = Run(
        name="retrieval",
        rounds=settings.epochs,
        steps_per_round=steps_per_round,
        batches=batches,
        step=step,
        variables=[
            *model.variables,
            *optimizers.variables,
            *([embedder.item_text] if live else []),
        ],
        weights=model.variables,
        validate=validate,
        monitor=f"validation_recall_at_{k}",
    )
    return fit(run, checkpoint_folder)


class _Optimizers:
    """AdamW for the towers and, at its own rate, for the encoder."""

    def __init__(self, model: RetrievalModel, config: Config, num_steps: int) -> None:
        encoder = model.encoder.trainable_variables
        of_encoder = {id(weight) for weight in encoder}
        towers = [w for w in model.trainable_variables if id(w) not in of_encoder]
        rates = (config.retrieval.learning_rate, config.retrieval.encoder_learning_rate)
        self.weights = [*towers, *encoder]
        self._num_towers = len(towers)
        self._groups = []
        for group, rate in zip((towers, encoder), rates, strict=True):
            schedule = keras.optimizers.schedules.CosineDecay(
                0.0, num_steps, warmup_target=rate, warmup_steps=max(1, num_steps // 20)
            )
            optimizer = keras.optimizers.AdamW(
                schedule, weight_decay=config.retrieval.weight_decay, global_clipnorm=1.0
            )
            optimizer.build(group)
            self._groups.append((optimizer, group))
        self.variables = [v for optimizer, _ in self._groups for v in optimizer.variables]

    def apply(self, gradients: list[tf.Tensor | None]) -> None:
        """Applies the gradients of `weights`; weights without one stay."""
        parts = (gradients[: self._num_towers], gradients[self._num_towers :])
        for part, (optimizer, group) in zip(parts, self._groups, strict=True):
            pairs = [(g, w) for g, w in zip(part, group, strict=True) if g is not None]
            if pairs:
                optimizer.apply_gradients(pairs)


def _sample(rows: np.ndarray, size: int, seed: int) -> np.ndarray:
    if len(rows) <= size:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))
