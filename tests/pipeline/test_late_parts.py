"""Parts of somebody else that are needed after the training are tried before it."""

from pathlib import Path

import pytest

from tfrec.config import load_config
from tfrec.errors import ConfigError
from tfrec.index.exact import ExactIndex
from tfrec.metrics.request_metric import RequestMetric
from tfrec.pipeline import Pipeline

CONFIG = Path(__file__).parents[2] / "configs" / "shop.yaml"


class OneAnswer(ExactIndex):
    def search(self, queries, k):
        return super().search(queries, 1)


class Text(RequestMetric):
    name = "text"

    def measure(self, ranks, k):
        return "good"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (f"index.kind={__name__}:OneAnswer", r"^index\.kind: .*OneAnswer\.search: wanted rows"),
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
