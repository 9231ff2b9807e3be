"""A history reader and a fusion of somebody else, named in YAML, are trained and exported."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from small_model import small_model

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.inputs.batches import InputTables
from tfrec.layer_trial import repeat_rows
from tfrec.models.retrieval import RetrievalModel
from tfrec.towers import Fusion, HistoryReader
from tfrec.training.retrieval import train_retrieval

COUNT, LENGTH = 3, 4


@keras.saving.register_keras_serializable("test_own_parts_in_training")
class ScaledEvent(HistoryReader):
    """The event itself, each dimension scaled by a learned factor."""

    def __init__(self, dim: int, max_history: int, *, start: float, **kwargs: Any) -> None:
        super().__init__(dim, max_history, **kwargs)
        self.start = start
        initial = keras.initializers.Constant(start)
        self.factor = self.add_weight(shape=(dim,), initializer=initial, name="factor")

    def call(self, events: tf.Tensor, segment: tf.Tensor, training: bool = False) -> tf.Tensor:
        return events * self.factor * tf.cast(segment > 0, events.dtype)[..., None]

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"start": self.start}


@keras.saving.register_keras_serializable("test_own_parts_in_training")
class ScaledMean(Fusion):
    """The mean of the parts by a learned factor."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = self.add_weight(shape=(), initializer="ones", name="factor")

    def call(self, parts: Sequence[tf.Tensor]) -> tf.Tensor:
        return self.factor * tf.reduce_mean(tf.stack(list(parts)), axis=0)


def embed(
    model: RetrievalModel, text: tf.Tensor, rows: tf.Tensor, segment: tf.Tensor
) -> dict[str, tf.Tensor]:
    items = {f.name: f.unknown_row() for f in model.item_tower.features}
    users = {f.name: f.unknown_row() for f in model.user_tower.features}
    item = model.item_tower(text, rows, repeat_rows(items, COUNT))
    history = tf.repeat(item[:, None], LENGTH, axis=1)
    states = model.user_tower.read_histories(history, segment)
    user = model.user_tower(text, rows, repeat_rows(users, COUNT), states[:, -1])
    return {"item": item, "user": user}


def test_parts_named_in_yaml_are_trained_and_answer_alike_when_exported_and_reloaded(
    data: PreparedData,
    vocabulary: list[str],
    tables_of: Callable[[Config], InputTables],
    make_config: Callable[..., Config],
    tmp_path: Path,
):
    config = make_config(
        retrieval={
            "epochs": 1,
            "item": {"fusion": f"{__name__}:ScaledMean"},
            "user": {"history": {"kind": f"{__name__}:ScaledEvent", "options": {"start": 0.5}}},
        }
    )
    model = small_model(data, vocabulary, config)
    reader, fusion = model.user_tower.reader, model.item_tower.fusion
    assert (type(reader), type(fusion)) == (ScaledEvent, ScaledMean)
    np.testing.assert_array_equal(reader.factor.numpy(), 0.5)
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    train_retrieval(model, data, tables_of(config), config, checkpoints)
    assert (reader.factor.numpy() != 0.5).all()
    assert fusion.factor.numpy() != 1

    text = tf.random.stateless_normal([COUNT, model.encoder.hidden_dim], seed=[1, 2])
    given = text, tf.range(COUNT), tf.constant([[0, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0]])
    wanted = embed(model, *given)
    module = tf.Module()
    module.weights = [weight.value for weight in model.variables]
    specs = [tf.TensorSpec(value.shape, value.dtype) for value in given]
    module.embed = tf.function(lambda *inputs: embed(model, *inputs), specs, autograph=False)
    tf.saved_model.save(module, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))  # held: it owns the variables
    saved = loaded.embed(*given)

    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    copy.set_weights(model.get_weights())
    for found in (saved, embed(copy, *given)):
        for name, value in wanted.items():
            np.testing.assert_allclose(found[name], value, atol=1e-5)
