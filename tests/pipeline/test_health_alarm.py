"""What an unsound model leads to: a stop that is no loss, since a run may go on from its weights.

Nor does any other setting that only runs, or that only measures, train again.
"""

from pathlib import Path

import pytest

from tfrec.config import load_config
from tfrec.pipeline import Pipeline
from tfrec.training.health import HealthError

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[2] / "configs" / "shop.yaml"
COLLAPSED = [  # all items are one: they have neither an id, nor a text, nor features
    "data.items.text=[]",
    "data.items.features={}",
    "retrieval.item.use_id=false",
]


def states(folder: Path, until: str, *overrides: str) -> dict[str, str]:
    """Runs a tiny shop; returns what became of each stage."""
    settings = [
        f"runs={folder}",
        "data.scale=0.02",
        "text.vocabulary_size=500",
        "encoder.source=nano",
        "encoder.pretraining.steps=0",
        "retrieval.embedding_dim=16",
        "retrieval.epochs=1",
        "ranking.epochs=1",
        "index.candidates=50",
        "index.kind=exact",
        "evaluation.bootstrap=0",
        "evaluation.baselines=[]",
        "evaluation.ranking_baselines=[]",
        *COLLAPSED,
    ]
    lines: list[str] = []
    try:
        pipeline = Pipeline(load_config(CONFIG, [*settings, *overrides]), announce=lines.append)
        pipeline.run(until)
    except HealthError as error:
        lines.append(f"[] health: {str(error).splitlines()[0]}")
    said = [line.split("] ")[1].split(": ", 1) for line in lines]
    return {stage: state.split(" in ")[0] for stage, state in said}


def test_run_stopped_by_its_health_goes_on_from_its_weights(tmp_path: Path, caplog):
    before = dict.fromkeys(("prepare", "vocabulary", "tokens", "candidates", "pretraining"), "done")
    stopped = {"health": "retrieval: the finished model is not sound."}
    assert states(tmp_path, "ranking") == {**before, "retrieval": "done", **stopped}
    trained = dict.fromkeys((*before, "retrieval"), "unchanged")
    assert states(tmp_path, "ranking") == {**trained, **stopped}  # it is not forgotten
    caplog.clear()

    later = ("ranking", "order", "index", "evaluation")
    warned = states(tmp_path, "evaluation", "run.health_alarm=warn")
    assert warned == {**trained, **dict.fromkeys(later, "done")}
    assert any("has collapsed" in line for line in caplog.messages)

    for overrides in (["run.strategy=mirrored"], ["run.checkpoint_seconds=1"]):
        found = states(tmp_path, "evaluation", "run.health_alarm=off", *overrides)
        assert found == dict.fromkeys((*trained, *later), "unchanged")
    found = states(tmp_path, "evaluation", "run.health_alarm=off", "evaluation.k=[5, 10]")
    assert found == {**dict.fromkeys((*trained, *later), "unchanged"), "evaluation": "done"}
