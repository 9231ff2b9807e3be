"""The ranking model alone on tables: trains, exports, answers."""

from pathlib import Path

import numpy as np
import pytest

from tfrec.config import load_config
from tfrec.errors import ConfigError
from tfrec.pipeline import Pipeline
from tfrec.serving.saved_recommender import SavedRecommender

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[2] / "configs" / "tabular_mlp.yaml"


def test_model_of_tables_alone_is_exported_and_answers_with_filters(tmp_path):
    overrides = [
        f"runs={tmp_path / 'runs'}",
        f"export.folder={tmp_path / 'models'}",
        "data.scale=0.02",
        "ranking.epochs=1",
        "filters.attributes=[category]",
        "filters.caps={brand: 1}",
        "evaluation.ranking_baselines=[]",
        "evaluation.bootstrap=50",
    ]
    pipeline = Pipeline(load_config(CONFIG, overrides), announce=lambda line: None)
    pipeline.run()
    saved = SavedRecommender(tmp_path / "models" / "tabular_mlp")
    assert list(saved.manifest["signatures"]) == ["recommend", "rank"]
    assert saved.manifest["servers"]["libraries"] == []
    category = pipeline.data.items["category"][0]
    answer = saved.call("recommend", {"user_id": ["u000001"], "allow_category": [[category]]})
    found = [cell.decode() for cell in answer["item_id"][0] if cell]
    assert found
    items = pipeline.data.items.filter(pipeline.data.items["item_id"].is_in(found))
    assert set(items["category"]) == {category}
    assert items["brand"].n_unique() == len(found)
    assert (np.diff(answer["probability"][0][: len(found)]) <= 1e-6).all()
    teach_a_smaller_one(pipeline, overrides)


def teach_a_smaller_one(teacher: Pipeline, overrides: list[str]) -> None:
    taught = [
        *overrides,
        "name=taught",
        "ranking.hidden=[4]",
        f"ranking.teacher.run={teacher.folder}",
    ]
    pupil = Pipeline(load_config(CONFIG, taught), announce=lambda line: None)
    pupil.run(until="ranking")
    assert pupil.kept_round("ranking")["validation_auc"] > 0
    other = Pipeline(load_config(CONFIG, [*taught, "seed=1"]), announce=lambda line: None)
    with pytest.raises(ConfigError, match="wanted a run on the same data"):
        other.run(until="ranking")
    nobody = load_config(CONFIG, [*overrides, "ranking.teacher.run=nowhere"])
    with pytest.raises(ConfigError, match=r"ranking\.teacher\.run: nowhere: wanted a run"):
        Pipeline(nobody).run(until="ranking")
