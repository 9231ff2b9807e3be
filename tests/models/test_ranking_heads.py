"""Heads of somebody else: made, tried, refused in one line."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrec.config import Ranking
from tfrec.errors import ConfigError
from tfrec.models.build import ranking_model
from tfrec.models.ranking import RankingModel
from tfrec.models.ranking_head import (
    LogNumberHead,
    NumberHead,
    ProbabilityHead,
    RankingHead,
    check_ranking_head,
)

HERE = __name__


@keras.saving.register_keras_serializable("ranking_heads")
class Rarely(RankingHead):
    """1 - exp(-rate), where the rate is the sum of two outputs' exponentials."""

    num_outputs = 2
    is_probability = True

    def __init__(self, factor: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def predict(self, logit):
        return -tf.math.expm1(-self.factor * tf.reduce_sum(tf.exp(logit), axis=-1))

    def loss(self, logit, label):
        return tf.square(self.predict(logit) - label)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Forgetful(Rarely):
    def get_config(self):
        return RankingHead.get_config(self)


class Nameless(Rarely):
    def get_config(self):
        return {"name": 3}


class Lacking(RankingHead):
    def loss(self, logit, label):
        return label


class Mean(NumberHead):
    def loss(self, logit, label):
        return tf.reduce_mean(super().loss(logit, label))


class Double(NumberHead):
    def predict(self, logit):
        return tf.cast(logit[:, 0], tf.float64)


class Endless(NumberHead):
    def loss(self, logit, label):
        return label / tf.zeros_like(label) * logit[:, 0]


class Deaf(NumberHead):
    def loss(self, logit, label):
        return tf.square(label)


class Large(ProbabilityHead):
    def predict(self, logit):
        return tf.exp(logit[:, 0])


class Empty(NumberHead):
    num_outputs = 0


class Failing(NumberHead):
    def loss(self, logit, label):
        raise RuntimeError("no\nlicence")


def make(name: str, **settings: Any) -> RankingModel:
    label = {} if "value" in settings else {"event": "cart"}
    heads = {"mine": {"kind": f"{HERE}:{name}", **label, **settings}, "stars": {"value": "rating"}}
    section = Ranking.model_validate({"towers": "none", "heads": heads})
    return ranking_model([], [], section, num_items=3, num_statistics=1)


def test_own_head_of_two_outputs_answers_beside_ours():
    model = make("Rarely", options={"factor": 0.5})
    # click, two of the own head, stars, then position and past
    outputs = tf.constant([[0.3, 0.0, np.log(2.0), 4.0, 0.1, 0.2]])
    assert model.num_outputs == 6
    answers = {name: float(v[0]) for name, v in model.predict(outputs).items()}
    assert list(answers) == ["click", "mine", "stars"]
    # the rate is 0.5 * (1 + 2); answered are log odds
    assert answers["mine"] == pytest.approx(np.log(np.exp(1.5) - 1), rel=1e-5)
    assert answers["stars"] == 4


def test_model_with_own_head_is_built_again_with_its_options():
    model = make("Rarely", options={"factor": 0.5})
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    assert copy.get_config() == model.get_config()
    assert copy.heads["mine"].factor == 0.5


@pytest.mark.parametrize(
    "head",
    [
        ProbabilityHead(event="cart"),
        NumberHead(value="rating"),
        LogNumberHead(value="watch_time"),
    ],
)
def test_heads_of_ours_keep_the_contract(head):
    check_ranking_head(head, "a.kind")


@pytest.mark.parametrize(
    ("name", "settings", "wanted"),
    [
        ("make", {}, "ranking.heads.mine.kind: .*:make: wanted a ranking head, a class that"),
        ("Nobody", {}, ":Nobody: cannot be imported"),
        ("Lacking", {}, ":Lacking: the ranking head lacks predict"),
        ("Rarely", {"options": {"facter": 2}}, "unknown option 'facter'. Did you mean 'factor'"),
        ("Rarely", {"value": "rating"}, "a head that answers a probability needs `event`"),
        ("Mean", {}, r":Mean: `loss`: wanted float32 \[3\], got float32 \[\]"),
        ("Double", {}, r"`predict`: wanted float32 \[3\], got float64 \[3\]"),
        ("Endless", {}, ":Endless: `loss`: wanted finite numbers"),
        ("Deaf", {}, ":Deaf: `loss` has no gradient for the logit"),
        ("Large", {}, r":Large: `predict`: wanted probabilities in \[0, 1\]"),
        ("Empty", {}, ":Empty: wanted `num_outputs` to be 1 or more, got 0"),
        ("Failing", {}, ":Failing: fails on a small batch: no$"),
        ("Nameless", {}, ":Nameless: cannot be built again from `get_config`"),
        ("Forgetful", {"options": {"factor": 2.0}}, "built again from `get_config`, wanted the"),
    ],
)
def test_head_that_breaks_its_contract_is_refused_in_one_line(name, settings, wanted):
    with pytest.raises(ConfigError, match=wanted) as refused:
        make(name, **settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({"event": "cart"}, "probability"),
        ({"value": "rating"}, "number"),
        ({"value": "watch_time"}, "log_number"),
        ({"value": "watch_time", "kind": "number"}, "number"),
    ],
)
def test_kind_of_a_head_follows_its_label_unless_it_is_named(settings, kind):
    heads = Ranking.model_validate({"heads": {"mine": settings}}).heads
    assert heads["mine"].kind == kind


def test_probability_of_a_number_is_refused():
    with pytest.raises(ValueError, match="`kind: probability` needs `event`"):
        Ranking.model_validate({"heads": {"a": {"value": "rating", "kind": "probability"}}})
