"""Losses of somebody else are tried first, and refused in one line that says what came."""

from typing import Any

import pytest
import tensorflow as tf

from tfrec.config import parse_config
from tfrec.errors import ConfigError
from tfrec.losses.full_softmax import FullSoftmax
from tfrec.losses.rating import SquaredError
from tfrec.losses.retrieval import Pairs, RetrievalLoss, Sampled, check_retrieval_loss
from tfrec.losses.sampled_softmax import SampledSoftmax
from tfrec.losses.tfrs import TfrsRetrieval
from tfrec.registry import RETRIEVAL_LOSSES

HERE = __name__


class Hinge(RetrievalLoss):
    """A sound loss."""

    def __init__(self, *, margin: float = 1.0):
        self.margin = margin

    def __call__(self, given: Sampled) -> tf.Tensor:
        behind = tf.nn.relu(self.margin + given.logits - given.target_logits[:, None])
        return tf.reduce_mean(tf.where(given.is_negative, behind, 0.0))

    def get_config(self) -> dict[str, Any]:
        return {"margin": self.margin}


class OfPairs(Hinge):
    """Reads pairs alone."""

    reads = Pairs

    def __call__(self, given: Pairs) -> tf.Tensor:
        return -tf.reduce_mean(tf.reduce_sum(given.users * given.items, axis=1))


class PerRow(Hinge):
    def __call__(self, given: Sampled) -> tf.Tensor:
        return given.target_logits


class Double(Hinge):
    def __call__(self, given: Sampled) -> tf.Tensor:
        return tf.cast(super().__call__(given), tf.float64)


class Infinite(Hinge):
    def __call__(self, given: Sampled) -> tf.Tensor:
        return super().__call__(given) + float("inf")


class Constant(Hinge):
    def __call__(self, given: Sampled) -> tf.Tensor:
        return tf.reduce_sum(given.weight)


class NoGraph(Hinge):
    def __call__(self, given: Sampled) -> tf.Tensor:
        return tf.constant(given.logits.numpy().mean())


class NoConfig(Hinge):
    def get_config(self) -> dict[str, Any]:
        return {"edge": 1.0}


class Ratings(Hinge):
    reads = SquaredError.reads


class Mute(RetrievalLoss):
    """Lacks the call."""


@pytest.mark.parametrize(
    "loss", [Hinge(), OfPairs(), SampledSoftmax(), TfrsRetrieval()], ids=lambda x: type(x).__name__
)
def test_sound_loss_passes(loss: RetrievalLoss):
    check_retrieval_loss(loss, "a.kind")


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (PerRow, "wanted a loss float32 [], got float32 (3,)."),
        (Double, "wanted a loss float32 [], got float64 ()."),
        (Infinite, "wanted a finite loss, got inf."),
        (Constant, "the loss has no gradient for the embeddings."),
        (NoGraph, "fails on a batch of the contract: "),
        (NoConfig, "fails on a batch of the contract: "),
        (Ratings, "wanted `reads` to be Sampled or Pairs, got "),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_loss_that_breaks_the_contract_is_refused_in_one_line(part: type, expected: str):
    with pytest.raises(ConfigError) as caught:
        check_retrieval_loss(part(), "a.kind")
    message = str(caught.value)
    assert message.startswith(f"a.kind: {HERE}:{part.__name__}: {expected}")
    assert "\n" not in message


def test_loss_that_cannot_be_had_is_refused():
    with pytest.raises(ConfigError, match="cannot be imported"):
        RETRIEVAL_LOSSES.make("no_such_package.x:Y", "a.kind", {})
    with pytest.raises(ConfigError, match="lacks __call__"):
        RETRIEVAL_LOSSES.make(f"{HERE}:Mute", "a.kind", {})
    with pytest.raises(ConfigError, match="unknown option 'edge'"):
        RETRIEVAL_LOSSES.make(f"{HERE}:Hinge", "a.kind", {"edge": 1})


@pytest.mark.parametrize(
    "loss",
    [
        SampledSoftmax(corrects_target=True, label_smoothing=0.2),
        TfrsRetrieval(corrects_target=True),
        FullSoftmax(label_smoothing=0.3),
        SquaredError(),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_loss_is_made_again_from_its_config(loss: RetrievalLoss):
    again = type(loss).from_config(loss.get_config())
    assert again.get_config() == loss.get_config()


def parse(loss: dict[str, Any], **sections: Any) -> None:
    parse_config({"name": "x", "data": {"source": "shop"}, "retrieval": {"loss": loss}, **sections})


@pytest.mark.parametrize(
    ("loss", "key"),
    [
        ({"label_smoothing": 0.1}, "label_smoothing"),
        ({"negatives": {"in_batch": False, "uniform": 3}}, "negatives.in_batch"),
        ({"negatives": {"mined": 2}}, "negatives.mined"),
        ({"negatives": {"impressed": 2}}, "negatives.impressed"),
        ({"negatives": {"queue": 2}}, "negatives.queue"),
        ({"targets": "users"}, "targets: users"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_what_rules_out_plain_pairs_is_named_when_the_configuration_is_read(loss, key):
    parse({"kind": "softmax"} if key == "targets: users" else {"kind": "softmax", **loss})
    with pytest.raises(ConfigError, match=f"`{key}`"):
        parse({"kind": "tfrs", **loss})


def test_negatives_of_other_replicas_rule_out_plain_pairs():
    with pytest.raises(ConfigError, match=r"`run.strategy: mirrored` rules out"):
        parse({"kind": "tfrs"}, run={"strategy": "mirrored"})


def test_misspelt_loss_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="Did you mean 'softmax'"):
        parse({"kind": "sotfmax"})
