"""The retrieval model: one text encoder, an item tower and a user tower."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfrec.encoders.text_encoder import TextEncoder
from tfrec.towers.item import ItemTower
from tfrec.towers.user import UserTower

_LAYERS = ("encoder", "item_tower", "user_tower")


@keras.saving.register_keras_serializable("tfrec")
class RetrievalModel(keras.layers.Layer):
    """u = BERT(U) + u0 and i = BERT(I) + i0; the score of a pair is their dot product.

    Args:
        encoder: Turns token ids into vectors, for items and requests alike.
        item_tower: Embeds items.
        user_tower: Embeds requests, in as many dimensions.
        temperature: What scores are divided by before a softmax.
        learn_temperature: Whether training moves it.

    Example:
        >>> import numpy as np
        >>> from tfrec.encoders import BertEncoder, build_backbone
        >>> from tfrec.models import RetrievalModel
        >>> from tfrec.towers import ItemTower, UserTower
        >>> encoder = BertEncoder(build_backbone("nano", 100, max_tokens=8, dropout=0.0))
        >>> sizes = {"features": [], "text_dim": encoder.hidden_dim, "embedding_dim": 4}
        >>> items, users = ItemTower(num_ids=9, **sizes), UserTower(num_ids=5, **sizes)
        >>> model = RetrievalModel(encoder, items, users)
        >>> text = model.encoder(np.array([[2, 7, 3]], np.int32))
        >>> model.embed_items(text, np.array([1]), {}).shape
        TensorShape([1, 4])
    """

    def __init__(
        self,
        encoder: TextEncoder,
        item_tower: ItemTower,
        user_tower: UserTower,
        *,
        temperature: float = 0.15,
        learn_temperature: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.item_tower = item_tower
        self.user_tower = user_tower
        self.learn_temperature = learn_temperature
        self.embedding_dim = user_tower.embedding_dim
        self.max_history = user_tower.reader.max_history
        self.reads_event_kinds = user_tower.num_event_kinds is not None
        self.reads_time_gaps = user_tower.num_gaps is not None
        self.log_temperature = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(math.log(temperature)),
            trainable=learn_temperature,
            name="log_temperature",
        )
        self.rating_offset = self.add_weight(
            shape=(), initializer="zeros", trainable=False, name="rating_offset"
        )
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns what builds the model again; see Keras. The temperature is the present one."""
        return super().get_config() | {
            **{name: keras.saving.serialize_keras_object(getattr(self, name)) for name in _LAYERS},
            "temperature": self.temperature,
            "learn_temperature": self.learn_temperature,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RetrievalModel:
        """Builds the model that `get_config` describes, without its weights."""
        layers = {name: keras.saving.deserialize_keras_object(config[name]) for name in _LAYERS}
        return cls(**(config | layers))

    @property
    def is_unit(self) -> bool:
        """Whether embeddings have length 1, so that scores are cosines."""
        return bool(self.item_tower.is_unit and self.user_tower.is_unit)

    @property
    def temperature(self) -> float:
        """What scores are divided by before a softmax."""
        return math.exp(float(self.log_temperature.numpy()))

    def embed_items(
        self,
        text_vector: tf.Tensor,
        id_row: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        training: bool = False,
    ) -> tf.Tensor:
        """See `ItemTower.call`."""
        return self.item_tower(text_vector, id_row, features, training=training)

    def read_histories(
        self,
        items: tf.Tensor,
        segment: tf.Tensor,
        kinds: tf.Tensor | None = None,
        gaps: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        """See `UserTower.read_histories`."""
        return self.user_tower.read_histories(items, segment, kinds, gaps, training=training)

    def embed_requests(
        self,
        text_vector: tf.Tensor,
        id_row: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        state: tf.Tensor,
        last_gap: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        """See `UserTower.call`."""
        return self.user_tower(text_vector, id_row, features, state, last_gap, training=training)
