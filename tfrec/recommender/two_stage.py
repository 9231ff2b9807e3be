"""Own towers, and a ranker on them, as one model that takes raw features and answers items."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrec.index import build_index
from tfrec.index.allowed import best_rows, search_allowed
from tfrec.index.table import EmbeddingTable
from tfrec.models.ranker import Ranker
from tfrec.models.two_tower import Features, TwoTower
from tfrec.schema import UNKNOWN_INDEX, Tensors

_SAMPLE = 1000


class TwoStage(keras.layers.Layer):
    """Finds items with the towers and sorts them with the ranker; `export_two_stage` writes it.

    Args:
        towers: Trained towers. Their `item_id` is text.
        items: Features of the catalogue, [num_items, ...] each: what item tower and ranker read.
        requests: Features of some requests, of a thousand for example. Names, types and shapes of
            a request are theirs; they measure the index and verify exports.
        ranker: Its output sorts the answers; None: the towers' score does.
        index: ``scann``, ``portable``, ``exact`` or ``package.module:Class`` of your own.
        k: Items in an answer.
        num_candidates: Items that the towers hand to the ranker.
        min_recall: Against exact search; below it the index is refused.

    Raises:
        ArtefactError: The index does not reach `min_recall`.
        ValueError: An item is there twice, or a vector is not finite.
    """

    def __init__(
        self,
        towers: TwoTower,
        items: Features,
        requests: Features,
        *,
        ranker: Ranker | None = None,
        index: str = "scann",
        k: int = 10,
        num_candidates: int = 100,
        min_recall: float = 0.95,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        ids = np.asarray(items[towers.item_id]).astype(object)
        if len(set(ids)) < len(ids):
            raise ValueError(f"`items` must name each {towers.item_id!r} once.")
        self.towers, self.ranker = towers, ranker
        self.num_items = len(ids)
        self.k, self.num_candidates = min(k, self.num_items), min(num_candidates, self.num_items)
        own = {name for name in requests if name not in items}
        self.requests = {name: _texts(requests[name]) for name in requests if name in own}
        embeddings = towers.embed_catalogue(items)
        queries = towers.embed_users({n: v[:_SAMPLE] for n, v in self.requests.items()}).numpy()
        for name, vectors in (("items", embeddings), ("requests", queries)):
            is_finite = np.isfinite(vectors).all(axis=1)
            if not is_finite.all():
                raise ValueError(
                    f"`towers` must give finite vectors. Received: NaN or infinity for "
                    f"{np.count_nonzero(~is_finite)} of {len(vectors)} `{name}`."
                )
        self.index_kind = index
        self.index, self.index_report = build_index(
            index, embeddings, queries, self.num_candidates, min_recall
        )
        self._min_recall = min_recall
        self._items = {name: _table(_texts(values)) for name, values in items.items()}
        self._ids = _table(np.concatenate([[""], ids]))
        self._embeddings = EmbeddingTable(np.pad(embeddings, ((1, 0), (0, 0))))
        keys = tf.constant(list(ids), tf.string)
        numbers = tf.range(1, self.num_items + 1)
        initializer = tf.lookup.KeyValueTensorInitializer(keys, numbers)
        self._index_of = tf.lookup.StaticHashTable(initializer, UNKNOWN_INDEX)
        self.built = True

    def retrieve(self, request: Features) -> dict[str, tf.Tensor]:
        """Finds the candidates of n requests.

        Args:
            request: Its features, [n, ...] each, and ``exclude_item_ids``, string [n, any length].

        Returns:
            ``item_id`` string and ``score`` float32 [n, num_candidates], best first; "" and 0
            where too few items are left.
        """
        items, scores = self._find(self.towers.embed_users(request), request, self.num_candidates)
        return self._named(items, scores)

    def recommend(self, request: Features) -> dict[str, tf.Tensor]:
        """Answers n requests: candidates, sorted by the ranker where there is one.

        Returns:
            ``item_id``, ``score`` and, with a ranker, ``probability``, its output; [n, k].
        """
        items, scores = self._find(self.towers.embed_users(request), request, self.num_candidates)
        answer = self._named(items, scores)
        order = scores
        if self.ranker is not None:
            answer[Tensors.PROBABILITY] = order = self._rank(request, items)
        order = tf.where(items != UNKNOWN_INDEX, order, -np.inf)
        best = tf.math.top_k(order, k=self.k).indices
        return {name: tf.gather(values, best, batch_dims=1) for name, values in answer.items()}

    def rank(self, request: Features) -> dict[str, tf.Tensor]:
        """Scores given items, ``item_id`` string [n, any length], in their order."""
        items = self._index_of.lookup(request[Tensors.ITEM_ID])
        users = self.towers.embed_users(request)
        answer = {Tensors.SCORE: self._embeddings.scores_of(users, items)}
        if self.ranker is not None:
            answer[Tensors.PROBABILITY] = self._rank(request, items)
        return answer

    def similar_items(self, request: Features) -> dict[str, tf.Tensor]:
        """Finds the items closest to ``item_id``, string [n], without itself; [n, k]."""
        own = self._index_of.lookup(request[Tensors.ITEM_ID])
        excluded = {Tensors.EXCLUDE: request[Tensors.ITEM_ID][:, None]}
        items, scores = self._find(self._embeddings.gather(own), excluded, self.k)
        is_known = (own != UNKNOWN_INDEX)[:, None]
        return self._named(tf.where(is_known, items, UNKNOWN_INDEX), scores)

    def with_index(self, kind: str) -> TwoStage:
        """Returns the same model with another kind of index."""
        return TwoStage(
            self.towers,
            {name: _texts(values.numpy()) for name, values in self._items.items()},
            self.requests,
            ranker=self.ranker,
            index=kind,
            k=self.k,
            num_candidates=self.num_candidates,
            min_recall=self._min_recall,
        )

    @property
    def item_ids(self) -> np.ndarray:
        """Ids of all items, text [num_items]."""
        return _texts(self._ids.numpy()[1:])

    def weights_and_items(self) -> list[np.ndarray]:
        """Returns all that determines the answers beside the index."""
        return [
            *(keras.ops.convert_to_numpy(weight) for weight in self.towers.weights),
            *(keras.ops.convert_to_numpy(weight) for weight in getattr(self.ranker, "weights", ())),
            self._embeddings.numpy(),
        ]

    def _find(
        self, queries: tf.Tensor, request: Features, count: int
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches for items that requests do not exclude; [n, count], 0 where none are left."""
        excluded = request.get(Tensors.EXCLUDE)
        if excluded is None:
            excluded = tf.fill([tf.shape(queries)[0], 1], "")
        barred = self._index_of.lookup(excluded) - 1

        def is_barred(rows: tf.Tensor, barred: tf.Tensor) -> tf.Tensor:
            return tf.reduce_any(rows[:, :, None] == barred[:, None, :], axis=-1)

        def best_of_all(query: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            scores = self._embeddings.scores(query[None])[0, 1:]
            every = tf.range(self.num_items)[None]
            return best_rows(scores, ~is_barred(every, barred[number][None])[0], count)

        rows, scores = search_allowed(
            self.index,
            queries,
            count,
            is_allowed=lambda rows: (rows >= 0) & ~is_barred(rows, barred),
            best_of_all=best_of_all,
            share=tf.ones([tf.shape(queries)[0]]),
            num_barred=tf.shape(barred)[1],
        )
        return rows + 1, scores

    def _rank(self, request: Features, items: tf.Tensor) -> tf.Tensor:
        """Runs the ranker over items, int32 [n, c]; float32 [n, c], 0 for no item."""
        assert self.ranker is not None  # the callers ask
        count = tf.shape(items)[1]
        row = tf.maximum(tf.reshape(items, [-1]) - 1, 0)
        pairs = {name: tf.repeat(request[name], count, axis=0) for name in self.requests}
        pairs |= {name: tf.gather(values, row) for name, values in self._items.items()}
        output = tf.reshape(self.ranker(pairs), tf.shape(items))
        return tf.where(items != UNKNOWN_INDEX, output, 0.0)

    def _named(self, items: tf.Tensor, scores: tf.Tensor) -> dict[str, tf.Tensor]:
        scores = tf.where(items != UNKNOWN_INDEX, scores, 0.0)
        return {Tensors.ITEM_ID: tf.gather(self._ids, items), Tensors.SCORE: scores}


def _texts(values: Any) -> np.ndarray:
    """Returns an array; of text an array of objects."""
    array = np.asarray(values)
    if array.dtype.kind in "US":
        return array.astype(str).astype(object)
    if array.dtype == object:
        text = [
            value.decode() if isinstance(value, bytes) else value for value in array.reshape(-1)
        ]
        return np.array(text, object).reshape(array.shape)
    return array


def _table(values: np.ndarray) -> tf.Variable:
    return tf.Variable(values, trainable=False)
