"""The ranking model alone on tables: trains, exports, answers."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tfrec.config import load_config
from tfrec.errors import ConfigError
from tfrec.pipeline import Pipeline
from tfrec.serving.saved_recommender import SavedRecommender

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[2] / "configs" / "tabular_mlp.yaml"


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("tabular")
    return [
        f"runs={folder / 'runs'}",
        f"export.folder={folder / 'models'}",
        "data.scale=0.02",
        "ranking.epochs=1",
        "filters.attributes=[category]",
        "filters.caps={brand: 1}",
        "evaluation.ranking_baselines=[]",
        "evaluation.bootstrap=50",
    ]


@pytest.fixture(scope="module")
def pipeline(overrides: list[str]) -> Pipeline:
    pipeline = Pipeline(load_config(CONFIG, overrides), announce=lambda line: None)
    pipeline.run()
    return pipeline


def test_model_of_tables_alone_is_exported_and_answers_with_filters(pipeline):
    saved = SavedRecommender(pipeline.model_folder)
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


def test_number_of_zero_is_told_from_a_missing_one_by_the_exported_model(pipeline):
    saved = SavedRecommender(pipeline.model_folder)
    manifest = (saved.folder / "manifest.json").read_text(encoding="utf-8")
    strict = json.loads(manifest, parse_constant=lambda name: pytest.fail(f"{name} in manifest"))
    inputs = {info["name"]: info for info in strict["signatures"]["rank"]["inputs"]}
    assert (inputs["age"]["neutral"], inputs["gender"]["neutral"]) == ("NaN", "")
    item = pipeline.data.items["item_id"][0]

    def probability(**features: list) -> float:
        asked = {"user_id": [""], "item_id": [[item]], **features}
        return float(saved.call("rank", asked)["probability"][0, 0])

    missing = probability()
    assert probability(age=[float("nan")]) == missing
    assert abs(probability(age=[0.0]) - missing) > 1e-5
    assert probability(age=[float("inf")]) == missing


def files_of_version(pipeline: Pipeline) -> dict[str, bytes]:
    folder = pipeline.model_folder / "1"
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


EXPORT_AGAIN = """
import sys
from tfrec.config import load_config
from tfrec.pipeline import Pipeline

config, limit, *overrides = sys.argv[1:]
if limit != "0":
    # What a disk without space does to a process: no file gets larger.
    import resource, signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
Pipeline(load_config(config, overrides)).run()
"""


def export_again(overrides: list[str], rows: int, largest_file: int = 0) -> subprocess.Popen[bytes]:
    command = [
        sys.executable,
        "-c",
        EXPORT_AGAIN,
        CONFIG,
        largest_file,
        *overrides,
        f"export.replay_rows={rows}",
    ]
    return subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("variables/variables.index", 0), ("saved_model.pb", 0), ("saved_model.pb", 2)],
    ids=["variables", "graph", "verification"],
)
def test_export_killed_at_any_moment_leaves_the_old_version_alone(
    pipeline, overrides, written, seconds
):
    folder, before = pipeline.model_folder, files_of_version(pipeline)
    process = export_again(overrides, rows=10 + len(written) + seconds)
    while not list(folder.glob(f".writing-{process.pid}-*/{written}")):
        assert process.poll() is None, process.communicate()[1][-2000:]
        time.sleep(0.002)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    left = [path.name for path in folder.iterdir() if path.name != "1"]
    assert all(name.startswith(f".writing-{process.pid}-") for name in left)
    assert files_of_version(pipeline) == before
    assert SavedRecommender(folder).manifest["version"] == 1


def test_export_to_a_full_disk_fails_and_leaves_the_old_version_alone(pipeline, overrides):
    before = files_of_version(pipeline)
    process = export_again(overrides, rows=10, largest_file=20_000)
    _, said = process.communicate()
    assert process.returncode != 0
    assert b"File too large" in said, said[-2000:]
    # It also swept up what killed ones had left.
    assert [path.name for path in pipeline.model_folder.iterdir()] == ["1"]
    assert files_of_version(pipeline) == before


def test_model_learns_from_another_run_on_the_same_data_alone(pipeline, overrides):
    taught = [
        *overrides,
        "name=taught",
        "ranking.hidden=[4]",
        f"ranking.teacher.run={pipeline.folder}",
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
