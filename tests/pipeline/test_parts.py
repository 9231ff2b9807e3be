"""Parts of somebody else are tried before the first stage."""

from pathlib import Path

import pytest
import tensorflow as tf

from tfrec.config import load_config
from tfrec.errors import ConfigError
from tfrec.index.exact import ExactIndex
from tfrec.losses.retrieval import RetrievalLoss
from tfrec.metrics.request_metric import RequestMetric
from tfrec.models.ranking_head import NumberHead
from tfrec.pipeline import Pipeline
from tfrec.towers import HistoryReader

CONFIG = Path(__file__).parents[2] / "configs" / "shop.yaml"


class OneAnswer(ExactIndex):
    def search(self, queries, k):
        return super().search(queries, 1)


class Text(RequestMetric):
    name = "text"

    def measure(self, ranks, k):
        return "good"


class Flat(HistoryReader):
    def call(self, events, segment, training=False):
        return events[:, 0]


class Mean(NumberHead):
    def loss(self, logit, label):
        return tf.reduce_mean(super().loss(logit, label))


class PerRow(RetrievalLoss):
    def __call__(self, given):
        return given.target_logits


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            f"retrieval.user.history.kind={__name__}:Flat",
            r"^retrieval\.user\.history\.kind: .*Flat: wanted float32 \[2, 3, 128\], got",
        ),
        (
            f"retrieval.loss.kind={__name__}:PerRow",
            r"^retrieval\.loss\.kind: .*PerRow: wanted a loss float32 \[\], got float32",
        ),
        ("encoder.kind=no_such:Encoder", r"^encoder\.kind: no_such:Encoder: cannot be imported"),
        (
            "candidates.sources={own: {kind: 'no_such:Source'}}",
            r"^candidates\.sources\.own\.kind: no_such:Source: cannot be imported",
        ),
        (
            "retrieval.item.parts={own: {kind: 'no_such:Part'}}",
            r"^retrieval\.item\.parts\.own\.kind: no_such:Part: cannot be imported",
        ),
        (
            "retrieval.optimizer.kind=no_such:Optimizer",
            r"^retrieval\.optimizer\.kind: no_such:Optimizer: cannot be imported",
        ),
        (
            "ranking.optimizer.kind=no_such:Optimizer",
            r"^ranking\.optimizer\.kind: no_such:Optimizer: cannot be imported",
        ),
        (f"index.kind={__name__}:OneAnswer", r"^index\.kind: .*OneAnswer\.search: wanted rows"),
        (
            f"ranking.heads={{own: {{kind: '{__name__}:Mean', value: rating}}}}",
            r"^ranking\.heads\.own\.kind: .*Mean: `loss`: wanted float32 \[3\], got float32 \[\]",
        ),
        (f"index.kind={__name__}:Missing", r"^index\.kind: .*Missing"),
        (
            f"evaluation.metrics=[{{kind: '{__name__}:Text'}}]",
            r"^evaluation\.metrics\.0\.kind: .*Text\.measure: wanted a finite number .*'good'",
        ),
    ],
)
def test_broken_part_is_refused_before_the_first_stage(setting: str, message: str, tmp_path: Path):
    pipeline = Pipeline(load_config(CONFIG, [f"runs={tmp_path}", setting]), announce=print)
    with pytest.raises(ConfigError, match=message):
        pipeline.run()
    assert not list(tmp_path.iterdir())
