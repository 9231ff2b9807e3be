"""From raw strings and numbers of requests and items to what the models read, in the graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfrec.features.feature_type import FeatureType
from tfrec.features.lookup import lookup_table
from tfrec.features.time_gaps import gap_bucket_tensor, history_gap_tensor
from tfrec.recommender.catalogue import Catalogue, Inputs
from tfrec.recommender.filters import Barred, ItemFilters
from tfrec.schema import UNKNOWN_INDEX, Tensors

Tokenize = Callable[[tf.Tensor], tf.Tensor]
"""From string [n] to int32 [n, any length]."""


class DecodedRequest(NamedTuple):
    """A batch of requests as the recommender's core reads them: numbers alone, no outside names.

    It is read from raw tensors (`RequestReader.decode`) or taken from prepared data. What the
    models do not read is None.

    Attributes:
        user: int32 [batch], rows of the table of user ids; 0 for unknown.
        features: Encoded user attributes and request features, [batch, ...] each.
        barred: What the answer may not hold.
        recent: int32 [batch, length], the last items of the history, oldest first, 0 in front.
        kinds: int32 [batch, length], the kind of each event; 0 for unknown.
        gaps: int32 [batch, length], buckets of the time before each event; 0 for unknown.
        last_gap: int32 [batch], bucket of the time since the last event; 0 for unknown.
        text: int32 [batch, any length], tokens of the user's text and the query; 0 pads.
        query: int32 [batch, any length], tokens of the query alone; 0 pads.
        time: int64 [batch], seconds since 1970; 0 for unknown.
        embedding: float32 [batch, embedding_dim], where what retrieval's tower says is known.
        ranked_embedding: The same of the tower that the ranking model reads.
    """

    user: tf.Tensor
    features: Mapping[str, tf.Tensor]
    barred: Barred
    recent: tf.Tensor | None = None
    kinds: tf.Tensor | None = None
    gaps: tf.Tensor | None = None
    last_gap: tf.Tensor | None = None
    text: tf.Tensor | None = None
    query: tf.Tensor | None = None
    time: tf.Tensor | None = None
    embedding: tf.Tensor | None = None
    ranked_embedding: tf.Tensor | None = None

    @property
    def size(self) -> tf.Tensor:
        """Number of requests, int32 []."""
        return tf.shape(self.user)[0]

    def of(self, number: tf.Tensor) -> DecodedRequest:
        """Returns the request with a number, int32 [], as a batch of one."""
        picked: DecodedRequest = tf.nest.map_structure(
            lambda values: None if values is None else values[number][None], self
        )
        return picked


class RequestReader(keras.layers.Layer):
    """Decodes raw requests: looks up ids and categories, scales numbers, cuts texts into tokens.

    Args:
        catalogue: Items and users.
        inputs: Columns of requests and items.
        filters: Reads what requests allow and deny.
        max_history: Last items that the models read; 0: they read none.
        tokenize: Of request texts; None: no model reads them.
        event_kinds: Whether the models read the kinds of events.
        time_gaps: Whether they read the times between events.
        reads_query: Whether a source of candidates reads the query.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        inputs: Inputs,
        filters: ItemFilters,
        *,
        max_history: int = 0,
        tokenize: Tokenize | None = None,
        event_kinds: bool = False,
        time_gaps: bool = False,
        reads_query: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.inputs = inputs
        self._filters = filters
        self._max_history = max_history
        self._tokenize = tokenize
        self._has_kinds = event_kinds
        self._has_gaps = time_gaps
        self._reads_query = reads_query
        kinds = inputs.event_kinds
        known = [n for n, item in enumerate(catalogue.item_ids, start=1) if item]
        self._item_index = lookup_table([catalogue.item_ids[n - 1] for n in known], known)
        self._user_row = lookup_table(catalogue.user_ids, catalogue.user_id_rows[1:])
        self._event_kind = lookup_table(kinds, range(1, len(kinds) + 1))
        self._request_lookups = feature_lookups(inputs.request_features)
        self._item_lookups = feature_lookups(inputs.item_features)
        self.built = True

    @property
    def tokenize_query(self) -> Tokenize | None:
        """What cuts queries into tokens; None where no source of candidates reads them."""
        return self._tokenize if self._reads_query else None

    def item_indices(self, item_ids: tf.Tensor) -> tf.Tensor:
        """Looks up string item ids of any shape; int32, 0 for unknown."""
        return self._item_index.lookup(item_ids)

    def decode(self, request: Mapping[str, tf.Tensor]) -> DecodedRequest:
        """Decodes raw requests.

        Args:
            request: ``user_id`` string [batch], ``history`` string [batch, length], with towers
                ``query`` string [batch], and what else the models read; filters may be missing.
        """
        history = self.item_indices(request[Tensors.HISTORY])
        decoded = DecodedRequest(
            user=self._user_row.lookup(request[Tensors.USER_ID]),
            features=_encode_features(self.inputs.request_features, request, self._request_lookups),
            barred=self.barred(request, history),
            time=request.get(Tensors.TIME),
        )
        if not self._max_history:
            return decoded
        return decoded._replace(**self._events(request, history), **self._texts(request))

    def barred(self, request: Mapping[str, tf.Tensor], items: tf.Tensor) -> Barred:
        """Reads what an answer may not hold: `items`, int32 [batch, n], and by the filters."""
        if Tensors.EXCLUDE in request:
            items = tf.concat([items, self.item_indices(request[Tensors.EXCLUDE])], axis=1)
        return self._filters.read(request, items)

    def _events(self, request: Mapping[str, tf.Tensor], history: tf.Tensor) -> dict[str, tf.Tensor]:
        """Picks the last events of known items, with what the models read of them."""

        def pick(values: tf.Tensor) -> tf.Tensor:
            return last_values(values, history, self._max_history)

        events = {"recent": pick(history)}
        if self._has_kinds:
            events["kinds"] = pick(self._event_kind.lookup(request[Tensors.HISTORY_KIND]))
        if self._has_gaps:
            times = pick(request[Tensors.HISTORY_TIME])
            events["gaps"] = history_gap_tensor(times)
            events["last_gap"] = gap_bucket_tensor(times[:, -1], request[Tensors.TIME])
        return events

    def _texts(self, request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        if self._tokenize is None:
            return {}
        columns = [*self.inputs.user_text, Tensors.QUERY]
        texts = {"text": self._tokenize(tf.strings.join([request[c] for c in columns], " "))}
        if self._reads_query:
            texts["query"] = self._tokenize(request[Tensors.QUERY])
        return texts

    def item_features(self, item: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Encodes item features, [batch, ...] each."""
        return _encode_features(self.inputs.item_features, item, self._item_lookups)


def last_items(history: tf.Tensor, length: int) -> tf.Tensor:
    """Moves padding and unknown items to the front and keeps the last `length` entries.

    Args:
        history: int32 [batch, any length], 0 anywhere for none.
        length: Entries to keep.

    Returns:
        int32 [batch, length], known items at the end in their order.
    """
    return last_values(history, history, length)


def last_values(values: tf.Tensor, history: tf.Tensor, length: int) -> tf.Tensor:
    """Picks what goes with `last_items`.

    Args:
        values: Number for each entry of the histories, or for the last of them, [batch, up to
            any length].
        history: int32 [batch, any length], 0 anywhere for none.
        length: Entries to keep.

    Returns:
        [batch, length]; 0 where there is no item or no value.
    """
    width = tf.shape(history)[1] + length
    missing = tf.maximum(width - tf.shape(values)[1], 0)
    values = tf.pad(values, [[0, 0], [missing, 0]])[:, -width:]
    padded = tf.pad(history, [[0, 0], [length, 0]])
    values = tf.where(padded != UNKNOWN_INDEX, values, tf.zeros_like(values))
    order = tf.argsort(tf.cast(padded != UNKNOWN_INDEX, tf.int32), axis=1, stable=True)
    return tf.gather(values, order[:, -length:], batch_dims=1)


def _encode_features(
    features: Sequence[FeatureType],
    values: Mapping[str, tf.Tensor],
    lookups: Mapping[str, Any],
) -> dict[str, tf.Tensor]:
    return {
        feature.name: feature.encode_tensor(values[feature.name], lookups.get(feature.name))
        for feature in features
    }


def feature_lookups(features: Sequence[FeatureType]) -> dict[str, Any]:
    """Returns by name what features look values up in; see `FeatureType.table`."""
    tables = {feature.name: feature.table() for feature in features}
    return {name: table for name, table in tables.items() if table is not None}
