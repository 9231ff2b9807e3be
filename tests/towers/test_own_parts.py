"""Text encoders, parts, fusions and readers of somebody else are tried first, or refused."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrec.config import parse_config
from tfrec.encoders import TextEncoder
from tfrec.encoders.text_encoder import check_text_encoder
from tfrec.errors import ConfigError
from tfrec.features import Category
from tfrec.registry import FUSIONS, HISTORY_READERS, TEXT_ENCODERS, TOWER_PARTS
from tfrec.towers import Fusion, HistoryReader, TowerPart
from tfrec.towers.fusion import check_fusion
from tfrec.towers.history import check_history_reader
from tfrec.towers.part import check_tower_part

DIM, HERE = 4, __name__


@keras.saving.register_keras_serializable("test_own_parts")
class Words(TextEncoder):
    """The mean of words."""

    def __init__(self, vocabulary_size: int, max_tokens: int, hidden_dim: int = 6, **kwargs: Any):
        super().__init__(hidden_dim, **kwargs)
        self.limits = {"vocabulary_size": vocabulary_size, "max_tokens": max_tokens}
        self.words = keras.layers.Embedding(vocabulary_size, hidden_dim)

    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        is_token = tf.cast(token_ids != 0, tf.float32)[..., None]
        return tf.reduce_sum(self.words(token_ids) * is_token, axis=1)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | self.limits


@keras.saving.register_keras_serializable("test_own_parts")
class Half(TowerPart):
    """Half of the projected text."""

    def __init__(self, *, share: float = 0.5, **kwargs: Any):
        super().__init__(**kwargs)
        self.share = share
        self.projection = keras.layers.Dense(self.embedding_dim)

    def call(self, text_vector: Any, id_row: Any, features: Any, training: bool = False) -> Any:
        return self.share * self.projection(text_vector)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"share": self.share}


@keras.saving.register_keras_serializable("test_own_parts")
class Largest(Fusion):
    def call(self, parts: Any) -> tf.Tensor:
        return tf.reduce_max(tf.stack(list(parts)), axis=0)


@keras.saving.register_keras_serializable("test_own_parts")
class LastEvent(HistoryReader):
    def call(self, events: Any, segment: Any, training: bool = False) -> tf.Tensor:
        return events * tf.cast(segment > 0, events.dtype)[..., None]


def try_encoder(part: type[TextEncoder]) -> None:
    check_text_encoder(part(vocabulary_size=30, max_tokens=8), "encoder.kind", 30)


def try_part(part: type[TowerPart]) -> None:
    given = {"num_ids": 9, "features": [Category("brand", vocabulary=["a"])], "text_dim": 6}
    check_tower_part(part(**given, embedding_dim=DIM), "retrieval.item.parts.x.kind")


def try_fusion(part: type[Fusion]) -> None:
    check_fusion(part(), "retrieval.item.fusion", 3, DIM)


def try_reader(part: type[HistoryReader]) -> None:
    check_history_reader(part(dim=DIM, max_history=7), "retrieval.user.history.kind")


TRIALS: dict[type, Callable[[Any], None]] = {
    Words: try_encoder,
    Half: try_part,
    Largest: try_fusion,
    LastEvent: try_reader,
}


def to_numpy(part: type) -> type:
    """Returns a class whose `call` leaves the graph."""

    class Leaves(part):  # type: ignore[misc,valid-type]
        def call(self, *arguments: Any, **more: Any) -> tf.Tensor:
            return tf.constant(np.asarray(super().call(*arguments, **more).numpy()))

    return Leaves


def of_half(part: type) -> type:
    class Wide(part):  # type: ignore[misc,valid-type]
        def call(self, *arguments: Any, **more: Any) -> tf.Tensor:
            return super().call(*arguments, **more)[..., :2]

    return Wide


def in_float16(part: type) -> type:
    class Narrow(part):  # type: ignore[misc,valid-type]
        def call(self, *arguments: Any, **more: Any) -> tf.Tensor:
            return tf.cast(super().call(*arguments, **more), tf.float16)

    return Narrow


def forgetful(part: type) -> type:
    class Forgets(part):  # type: ignore[misc,valid-type]
        def get_config(self) -> dict[str, Any]:
            return super().get_config() | {"no_such_argument": 1}

    return Forgets


def failing(part: type) -> type:
    class Fails(part):  # type: ignore[misc,valid-type]
        def call(self, *arguments: Any, **more: Any) -> tf.Tensor:
            raise RuntimeError("no luck today")

    return Fails


BREAKS = {
    to_numpy: "wanted a layer of TensorFlow operations, which runs in a graph",
    of_half: "wanted float32 [",
    in_float16: "got float16",
    forgetful: "cannot be built again from `get_config`",
    failing: "failed on a small batch: no luck today",
}


@pytest.mark.parametrize("part", TRIALS, ids=lambda part: part.__name__)
def test_sound_part_passes_its_trial(part: type):
    TRIALS[part](part)


@pytest.mark.parametrize("part", TRIALS, ids=lambda part: part.__name__)
@pytest.mark.parametrize("break_it", BREAKS, ids=lambda change: change.__name__)
def test_broken_part_is_refused_in_one_line(part: type, break_it: Callable[[type], type]):
    with pytest.raises(ConfigError) as caught:
        TRIALS[part](break_it(part))
    text = str(caught.value)
    assert BREAKS[break_it] in text
    assert HERE in text
    assert "\n" not in text


def test_encoder_that_gives_an_empty_text_a_vector_is_refused():
    class Constant(Words):
        def call(self, token_ids: Any, training: bool = False) -> tf.Tensor:
            return super().call(token_ids) + 1.0

    with pytest.raises(ConfigError, match="wanted zeros for an empty text"):
        try_encoder(Constant)


def test_reader_with_a_state_on_padding_is_refused():
    class Everywhere(LastEvent):
        def call(self, events: Any, segment: Any, training: bool = False) -> tf.Tensor:
            return events

    with pytest.raises(ConfigError, match="wanted states of zeros on padding"):
        try_reader(Everywhere)


DOORS = {
    "encoder.kind": TEXT_ENCODERS,
    "retrieval.item.parts.x.kind": TOWER_PARTS,
    "retrieval.item.fusion.kind": FUSIONS,
    "retrieval.user.history.kind": HISTORY_READERS,
}


@pytest.mark.parametrize("key", DOORS)
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("no_such_package:Part", "cannot be imported: No module named 'no_such_package'"),
        (f"{HERE}:NoSuchPart", "cannot be imported"),
        (f"{HERE}:DIM", "wanted a"),
        (f"{HERE}:Category", "a class that does not"),
    ],
)
def test_kind_of_no_part_is_refused_with_key_and_place(key: str, kind: str, expected: str):
    with pytest.raises(ConfigError) as caught:
        DOORS[key].make(kind, key, {})
    assert str(caught.value).startswith(f"{key}: {kind}: ")
    assert expected in str(caught.value)


def nested(key: str, value: Any) -> dict[str, Any]:
    for name in reversed(key.split(".")):
        value = {name: value}
    return {"name": "x", "data": {"source": "shop"}} | value


@pytest.mark.parametrize("key", DOORS)
def test_misspelt_kind_is_told_when_the_configuration_is_read(key: str):
    with pytest.raises(ConfigError, match=r"package\.module:Class of your own, got 'atention'"):
        parse_config(nested(key, "atention"))


@pytest.mark.parametrize("key", ["encoder", "retrieval.item.fusion", "retrieval.user.history"])
def test_options_beside_a_part_of_ours_are_refused(key: str):
    with pytest.raises(ConfigError, match="`options` go with a part of your own"):
        parse_config(nested(key, {"options": {"x": 1}}))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pooling": "cls"}, "`pooling` goes with `kind: bert`"),
        ({"adaptation": "lora"}, "wanted frozen or full"),
    ],
)
def test_settings_of_bert_are_refused_beside_another_encoder(settings: dict, expected: str):
    with pytest.raises(ConfigError, match=expected):
        parse_config(nested("encoder", {"kind": f"{HERE}:Words"} | settings))


def test_int8_is_refused_beside_another_encoder():
    config = nested("encoder", {"kind": f"{HERE}:Words"}) | {"export": {"encoder": "int8"}}
    with pytest.raises(ConfigError, match=r"int8` goes with `encoder\.kind: bert`"):
        parse_config(config)
