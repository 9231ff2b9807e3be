"""Two towers of any Keras layers as one Keras model, trained by `compile` and `fit`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrec.losses.log_q import log_expected_counts
from tfrec.losses.sampled_softmax import sampled_softmax
from tfrec.metrics.retrieval import rank_requests, retrieval_metrics, rows_per_block

USER, ITEM = "user", "item"

Features = Mapping[str, Any]
"""By name, arrays or tensors [n, ...]."""


@keras.saving.register_keras_serializable("tfrec")
class TwoTower(keras.Model):
    """A user tower and an item tower; the score of a pair is the dot product of their vectors.

    The loss is a softmax over the items of the batch: each row's item against those of the other
    rows, of which those with the same id are left out. After `adapt` the logits of popular items
    are corrected for how often they are drawn into a batch (log-Q).

    >>> import keras, numpy as np, tensorflow as tf
    >>> keras.utils.set_random_seed(0)
    >>> users, items = ["ann", "bob"], ["tent", "lamp", "rope"]
    >>> def tower(ids):
    ...     return keras.Sequential([keras.layers.StringLookup(vocabulary=ids),
    ...                              keras.layers.Embedding(len(ids) + 1, 8)])
    >>> model = TwoTower(tower(users), tower(items), user_inputs="name", item_inputs="item_id")
    >>> pairs = {"name": tf.constant(users), "item_id": tf.constant(["tent", "rope"])}
    >>> model.compile(optimizer=keras.optimizers.Adam(0.1))
    >>> _ = model.fit(tf.data.Dataset.from_tensors(pairs), epochs=30, verbose=0)
    >>> measured = model.evaluate_retrieval(pairs, {"item_id": np.array(items)}, ks=[1])
    >>> measured["recall_at_1"]
    1.0

    Args:
        user_tower: From the features of n users or requests to float32 [n, embedding_dim].
        item_tower: Likewise for items.
        user_inputs: Features that the user tower reads: of one name it gets the tensor, of several
            a dict.
        item_inputs: Likewise for the item tower.
        item_id: Feature that tells items apart; by default the first of `item_inputs`.
        temperature: Divides the scores in the loss.
        similarity: ``dot``, or ``cosine``, which scales the vectors to length 1.
        heads: What else is predicted of a pair, by name: layers from float32 [n, 2 embedding_dim],
            user and item side by side, to [n, 1]. `fit` wants labels by these names, `compile`
            their losses.
        retrieval_weight: Of the softmax beside the losses of the heads; 0 leaves it out.

    Source: Yi et al., Sampling-Bias-Corrected Neural Modeling for Large Corpus Item
        Recommendations (2019), for the softmax over the items of a batch.
    Deviates: The row's own item is not corrected, see `sampled_softmax`.
    """

    def __init__(
        self,
        user_tower: keras.Layer,
        item_tower: keras.Layer,
        *,
        user_inputs: str | Sequence[str],
        item_inputs: str | Sequence[str],
        item_id: str | None = None,
        temperature: float = 1.0,
        similarity: str = "dot",
        heads: Mapping[str, keras.Layer] | None = None,
        retrieval_weight: float = 1.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if temperature <= 0:
            raise ValueError(f"`temperature` must be above 0. Received: {temperature}.")
        if similarity not in ("dot", "cosine"):
            raise ValueError(f"`similarity` must be 'dot' or 'cosine'. Received: {similarity!r}.")
        self.user_tower, self.item_tower = user_tower, item_tower
        self.user_inputs, self.item_inputs = _names(user_inputs), _names(item_inputs)
        self.item_id = item_id or self.item_inputs[0]
        self.temperature = temperature
        self.similarity = similarity
        self.heads = dict(heads or {})
        self.retrieval_weight = retrieval_weight
        self._shares: tf.lookup.StaticHashTable | None = None

    def call(self, inputs: Features, training: bool = False) -> dict[str, tf.Tensor]:
        """Embeds n pairs: ``user`` and ``item``, float32 [n, embedding_dim], and the heads."""
        user = self.embed_users(inputs, training=training)
        item = self.embed_items(inputs, training=training)
        both = tf.concat([user, item], axis=-1)
        predicted = {name: head(both, training=training) for name, head in self.heads.items()}
        return {USER: user, ITEM: item, **predicted}

    def embed_users(self, features: Features, training: bool = False) -> tf.Tensor:
        """Embeds n users or requests; float32 [n, embedding_dim]."""
        return self._embed(self.user_tower, self.user_inputs, features, training)

    def embed_items(self, features: Features, training: bool = False) -> tf.Tensor:
        """Embeds n items; float32 [n, embedding_dim]."""
        return self._embed(self.item_tower, self.item_inputs, features, training)

    def adapt(self, pairs: Iterable[Any]) -> None:
        """Counts how often each item is a positive, which turns the log-Q correction on.

        Args:
            pairs: Batches as for `fit`.
        """
        found = [np.asarray(_features_of(batch)[self.item_id]).reshape(-1) for batch in pairs]
        ids, counts = np.unique(np.concatenate(found), return_counts=True)
        shares = (counts / counts.sum()).astype(np.float32)
        keys = tf.constant(ids.tolist())
        initializer = tf.lookup.KeyValueTensorInitializer(keys, tf.constant(shares))
        self._shares = tf.lookup.StaticHashTable(initializer, 0.0)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        """Adds the softmax over the batch to the losses of the heads; a float32 scalar."""
        total = tf.constant(0.0)
        if self.retrieval_weight:
            is_by_row = sample_weight is not None and not isinstance(sample_weight, Mapping)
            weight = tf.reshape(sample_weight, [-1]) if is_by_row else None
            total += self.retrieval_weight * self._softmax(x, y_pred, weight)
        if self.heads:
            predicted = {name: y_pred[name] for name in self.heads}
            total += super().compute_loss(x, y, predicted, sample_weight, training)
        return total

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Measures what the heads predict; `evaluate_retrieval` measures the towers."""
        predicted = {name: y_pred[name] for name in self.heads}
        return super().compute_metrics(x, y, predicted, sample_weight)

    def evaluate_retrieval(
        self,
        pairs: Features | Iterable[Any],
        items: Features,
        ks: Sequence[int] = (10, 100),
        batch_size: int = 4096,
    ) -> dict[str, float]:
        """Ranks the whole catalogue for each pair's user and looks where the pair's item stands.

        Items that score as much as the target count as before it.

        Args:
            pairs: Features of all pairs, or batches as for `fit`.
            items: Features of the catalogue, [num_items, ...] each, each id once.
            ks: Lengths of lists.
            batch_size: Items embedded at once.

        Returns:
            ``recall_at_<k>`` and ``ndcg_at_<k>`` for each of `ks`, and ``mrr``, over the pairs
            whose item is in the catalogue; ``targets``, their number.
        """
        ids = np.asarray(items[self.item_id]).tolist()
        index_of = {item: number for number, item in enumerate(ids, start=1)}
        catalogue = self.embed_catalogue(items, batch_size)
        table = np.concatenate([np.zeros_like(catalogue[:1]), catalogue])
        users, targets = [], []
        for batch in [pairs] if isinstance(pairs, Mapping) else pairs:
            features = _features_of(batch)
            users.append(np.asarray(self.embed_users(features)))
            wanted = np.asarray(features[self.item_id]).reshape(-1).tolist()
            targets += [index_of.get(_text(item), 0) for item in wanted]
        target = np.array(targets, np.int64)
        known = np.flatnonzero(target)
        embedded = np.concatenate(users)[known]
        nothing = np.zeros(0, np.int64)
        ranked = rank_requests(
            lambda block: embedded[block] @ table.T,
            np.arange(len(known)),
            target[known],
            lambda block: (nothing, nothing),
            num_requests=len(known),
            k=0,
            block_size=rows_per_block(len(ids)),
        )
        return {**retrieval_metrics(ranked.ranks, list(ks)), "targets": float(len(known))}

    def embed_catalogue(self, items: Features, batch_size: int = 4096) -> np.ndarray:
        """Embeds all items, some at a time; float32 [num_items, embedding_dim]."""
        batches = tf.data.Dataset.from_tensor_slices(dict(items)).batch(batch_size)
        return np.concatenate([np.asarray(self.embed_items(batch)) for batch in batches])

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` builds the model from; counts of `adapt` are not in it."""
        save = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            "user_tower": save(self.user_tower),
            "item_tower": save(self.item_tower),
            "user_inputs": self.user_inputs,
            "item_inputs": self.item_inputs,
            "item_id": self.item_id,
            "temperature": self.temperature,
            "similarity": self.similarity,
            "heads": {name: save(head) for name, head in self.heads.items()},
            "retrieval_weight": self.retrieval_weight,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> TwoTower:
        """Builds the model of `get_config`."""
        load = keras.saving.deserialize_keras_object
        for name in ("user_tower", "item_tower"):
            config[name] = load(config[name], custom_objects)
        heads = config["heads"].items()
        config["heads"] = {name: load(head, custom_objects) for name, head in heads}
        return cls(**config)

    def _embed(
        self, tower: keras.Layer, names: list[str], features: Features, training: bool
    ) -> tf.Tensor:
        read = {name: tf.convert_to_tensor(features[name]) for name in names}
        embedding = tower(read if len(names) > 1 else read[names[0]], training=training)
        embedding = tf.cast(embedding, tf.float32)
        is_unit = self.similarity == "cosine"
        return tf.math.l2_normalize(embedding, axis=-1) if is_unit else embedding

    def _softmax(
        self, features: Features, embedded: Mapping[str, tf.Tensor], weight: tf.Tensor | None
    ) -> tf.Tensor:
        """Computes the softmax over the items of a batch."""
        user, item = embedded[USER], embedded[ITEM]
        ids = tf.reshape(tf.convert_to_tensor(features[self.item_id]), [-1])
        logits = tf.matmul(user, item, transpose_b=True) / self.temperature
        log_expected = None
        if self._shares is not None:
            draws = tf.size(ids) - 1
            log_expected = log_expected_counts([(draws, self._shares.lookup(ids))])
        return sampled_softmax(
            tf.linalg.diag_part(logits),
            logits,
            weight=tf.ones(tf.shape(ids)) if weight is None else tf.cast(weight, tf.float32),
            is_negative=ids[:, None] != ids[None, :],
            log_expected=log_expected,
        )


def _names(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _features_of(batch: Any) -> Features:
    """Takes the features out of a batch, with or without labels and weights."""
    return batch[0] if isinstance(batch, tuple) else batch


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value
