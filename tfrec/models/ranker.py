"""An MLP on two towers of any Keras layers, as one Keras model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrec.models.two_tower import Features, TwoTower


@keras.saving.register_keras_serializable("tfrec")
class Ranker(keras.Model):
    """An MLP on the vectors of two towers, for example with a sigmoid: the probability of a click.

    It is an ordinary Keras model from the features of n pairs to [n, 1]: `compile` it with the loss
    and metrics of the label.

    >>> import keras, tensorflow as tf
    >>> from tfrec import TwoTower
    >>> towers = TwoTower(keras.layers.Dense(4), keras.layers.Dense(4),
    ...                   user_inputs="user", item_inputs="item", item_id="number")
    >>> ranker = Ranker(towers, hidden=[8])
    >>> pairs = {"user": tf.ones([3, 2]), "item": tf.ones([3, 5]), "number": tf.range(3)}
    >>> ranker(pairs).shape
    TensorShape([3, 1])

    Args:
        towers: Trained towers.
        hidden: Widths of the hidden layers.
        activation: Of the output: ``sigmoid`` for a probability, ``linear`` for a rating.
        features: Reads the same features as the towers and gives float32 [n, any width] that joins
            their vectors; None: the towers alone.
        trains_towers: Whether the towers are trained further.
        dropout: Of the hidden layers.
    """

    def __init__(
        self,
        towers: TwoTower,
        hidden: Sequence[int] = (64, 32),
        *,
        activation: str = "sigmoid",
        features: keras.Layer | None = None,
        trains_towers: bool = False,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.towers = towers
        self.features = features
        self.trains_towers = trains_towers
        self._settings = {"hidden": list(hidden), "activation": activation, "dropout": dropout}
        layers: list[keras.Layer] = []
        for units in hidden:
            layers += [keras.layers.Dense(units, activation="relu"), keras.layers.Dropout(dropout)]
        self.mlp = keras.Sequential([*layers, keras.layers.Dense(1, activation=activation)])

    def call(self, inputs: Features, training: bool = False) -> tf.Tensor:
        """Predicts n pairs; float32 [n, 1]."""
        in_towers = training and self.trains_towers
        user = self.towers.embed_users(inputs, training=in_towers)
        item = self.towers.embed_items(inputs, training=in_towers)
        parts = [user, item, user * item, tf.reduce_sum(user * item, axis=-1, keepdims=True)]
        if not self.trains_towers:
            parts = [tf.stop_gradient(part) for part in parts]
        if self.features is not None:
            parts.append(tf.cast(self.features(inputs, training=training), tf.float32))
        return self.mlp(tf.concat(parts, axis=-1), training=training)

    def build(self, input_shape: Any = None) -> None:
        """Leaves it to the layers to build themselves when they are called first."""

    @property
    def trainable_weights(self) -> list[Any]:
        """The weights that `fit` changes: without those of finished towers."""
        if self.trains_towers:
            return super().trainable_weights
        finished = {id(weight) for weight in self.towers.weights}
        return [w for w in super().trainable_weights if id(w) not in finished]

    @property
    def trainable_variables(self) -> list[Any]:
        """The same."""
        return self.trainable_weights

    def get_build_config(self) -> dict[str, Any]:
        """Returns the width that the MLP was built for."""
        return {"width": self.mlp.input_shape[-1]}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Builds the MLP for its width."""
        self.mlp.build((None, config["width"]))
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns what `from_config` builds the model from."""
        save = keras.saving.serialize_keras_object
        return {
            **super().get_config(),
            **self._settings,
            "towers": save(self.towers),
            "features": save(self.features),
            "trains_towers": self.trains_towers,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Ranker:
        """Builds the model of `get_config`."""
        for name in ("towers", "features"):
            config[name] = keras.saving.deserialize_keras_object(config[name], custom_objects)
        return cls(**config)
