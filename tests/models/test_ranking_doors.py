"""Ranking layers and calibrators of somebody else: made, tried, refused in one line."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrec.config import Ranking
from tfrec.errors import ConfigError
from tfrec.models.build import ranking_model
from tfrec.models.calibration import Calibrator
from tfrec.models.ranking import PairInputs, RankingModel, RequestInputs
from tfrec.models.ranking_layer import RankingLayer

HERE = __name__


@keras.saving.register_keras_serializable("ranking_doors")
class Scaled(RankingLayer):
    def __init__(self, factor: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, pairs, training=False):
        return self.factor * pairs[:, :3]

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Flat(RankingLayer):
    def call(self, pairs, training=False):
        return pairs[:, 0]


class Counting(RankingLayer):
    def call(self, pairs, training=False):
        return tf.cast(pairs, tf.int32)


class Forgetful(RankingLayer):
    def __init__(self, size: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def call(self, pairs, training=False):
        return pairs

    def get_config(self):
        return keras.layers.Layer.get_config(self) | {"length": 3}


class Lacking(RankingLayer):
    pass


@keras.saving.register_keras_serializable("ranking_doors")
class Halved(Calibrator):
    def fit(self, terms, labels, weights=None):
        return True

    def call(self, terms):
        return 0.5 * tf.reduce_sum(terms, axis=-1)


class Silent(Halved):
    def fit(self, terms, labels, weights=None):
        return None


class Wide(Halved):
    def call(self, terms):
        return terms


def make(**settings: Any) -> RankingModel:
    section = Ranking.model_validate({"towers": "none", "hidden": [4], **settings})
    return ranking_model([], [], section, num_items=3, num_statistics=1)


def layer(name: str, **options: Any) -> dict[str, Any]:
    return {"layers": {"mine": {"kind": f"{HERE}:{name}", "options": options}}}


def calibrator(name: str) -> dict[str, Any]:
    return {"calibration": {"kind": f"{HERE}:{name}"}}


def test_own_layer_stands_before_the_heads_with_its_options():
    model = make(**layer("Scaled", factor=3.0), dropout=0.0)
    model.logit.kernel.assign([[0.0]] * 4 + [[1.0]] * 2)  # of the MLP 4, of the layer 2
    pairs = PairInputs(tf.constant([0]), tf.constant([0]), statistics=tf.constant([[5.0]]))
    outputs = model.score(RequestInputs(tf.constant([0])), pairs)
    # 3 * 5 by the layer (the request part is a 0), and the item's past, 5, beside the layers
    np.testing.assert_allclose(outputs[0, 0], 20.0)


def test_own_calibrator_answers_clicks():
    outputs = tf.constant([[3.0, 1.0, 1.0]])
    assert make(**calibrator("Halved")).predict(outputs)["click"].numpy() == [1.5]


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (layer("Flat"), "ranking.layers.mine.kind: .*:Flat: wanted float32 .2, any width., got"),
        (layer("Counting"), ":Counting: wanted float32 .2, 8., got int32 .2, 8."),
        (layer("Lacking"), "ranking.layers.mine.kind: .*:Lacking: the ranking layer lacks call"),
        (layer("Forgetful", size=3), ":Forgetful: cannot be built again from `get_config`"),
        (
            layer("Halved"),
            "wanted a ranking layer, a class that extends tfrec.models",
        ),
        (layer("Nobody"), "ranking.layers.mine.kind: .*:Nobody: cannot be imported"),
        (layer("Scaled", facter=1), "unknown option 'facter'. Did you mean 'factor'?"),
        (
            calibrator("Silent"),
            "ranking.calibration.kind: .*:Silent: wanted from `fit` .* got",
        ),
        (calibrator("Wide"), "ranking.calibration.kind: .*:Wide: wanted float32 .2., got float32"),
    ],
)
def test_part_that_breaks_its_contract_is_refused_in_one_line(settings, wanted):
    with pytest.raises(ConfigError, match=wanted) as refused:
        make(**settings)
    assert "\n" not in str(refused.value)
