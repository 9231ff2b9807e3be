"""A package outside of tfrec brings a part of each kind: they train, are exported and answer."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tfrec.serving.saved_recommender import SavedRecommender

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
CONFIG = HERE.parents[1] / "configs" / "shop.yaml"
SETTINGS = [
    "data.scale=0.02",
    "data.users.features.age={type: outside_parts.bands:Bands, options: {count: 4}}",
    "text.vocabulary_size=500",
    "encoder.source=nano",
    "encoder.pretraining.steps=10",
    "encoder.pretraining.batch_size=32",
    "retrieval.embedding_dim=16",
    "retrieval.batch_size=64",
    "retrieval.epochs=2",
    "retrieval.learning_rate=0.002",
    "retrieval.user.history={kind: last_event, options: {activation: gelu}}",
    "retrieval.loss={kind: outside_parts.hinge:Hinge, options: {margin: 0.5}}",
    "retrieval.optimizer={kind: outside_parts.sign_descent:SignDescent, options: {share: 0.5}}",
    "candidates.sources={two_tower: {}, overlooked: "
    "{kind: outside_parts.overlooked:Overlooked, options: {depth: 9}, count: 9}}",
    "ranking.epochs=1",
    "ranking.batch_size=512",
    "index={kind: half, candidates: 40, options: {note: sixteen bits}}",
    "evaluation.metrics=[{kind: outside_parts.all_found:AllFound}]",
    "evaluation.baselines=[]",
    "evaluation.ranking_baselines=[]",
    "evaluation.bootstrap=20",
    "stages=[{kind: outside_parts.catalogue_size:CatalogueSize, after: index, "
    "options: {unit: things}}]",
    "export.replay_rows=4",
    "run.health_alarm=warn",
]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Installs the package as pip would, in a folder of its own."""
    folder = tmp_path_factory.mktemp("site")
    source = shutil.copytree(HERE / "package", folder / "source")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"),
            *("--no-build-isolation", "--target", folder / "installed", source),
        ],
        check=True,
    )
    return folder / "installed"


def tfrec(package: Path | None, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    paths = [str(HERE.parents[1]), *([str(package)] if package else [])]
    return subprocess.run(
        [sys.executable, "-m", "tfrec", *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def run(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trains with all parts; returns the folder that holds the run and the models."""
    folder = tmp_path_factory.mktemp("outside")
    folders = [f"runs={folder / 'runs'}", f"export.folder={folder / 'models'}"]
    sets = [part for setting in (*SETTINGS, *folders) for part in ("--set", setting)]
    process = tfrec(package, "train", CONFIG, *sets)
    assert process.returncode == 0, process.stdout[-3000:] + process.stderr[-3000:]
    return folder


def report(run: Path) -> dict:
    return json.loads((run / "runs" / "shop" / "evaluation" / "report.json").read_text())


def test_metric_is_a_column_of_every_model(run: Path):
    measured = report(run)["retrieval_details"]["requests"]
    assert {"ours", "ours, re-ranked", "ours, as exported"} <= set(measured)
    for values in measured.values():
        for k in (10, 50, 100):
            assert 0 <= values[f"all_found_at_{k}"] <= values[f"hit_rate_at_{k}"]


def test_stage_wrote_its_folder_between_ours(run: Path):
    folder = run / "runs" / "shop"
    num_items = json.loads((folder / "index" / "index.json").read_text())["num_items"]
    size = json.loads((folder / "catalogue_size" / "size.json").read_text())
    assert size == {"things": num_items, "candidates": 40}
    assert json.loads((folder / "catalogue_size" / "stage.json").read_text())["fingerprint"]


def test_feature_type_was_learned_on_the_training_rows(run: Path):
    prepared = json.loads((run / "runs" / "shop" / "prepare" / "prepared.json").read_text())
    (bands,) = (f for f in prepared["users_features"] if f["name"] == "age")
    assert bands["type"] == "outside_parts.bands:Bands"
    assert bands["edges"] == sorted(bands["edges"])
    assert len(bands["edges"]) == 3


def test_export_was_verified_and_answers_without_the_package(run: Path):
    saved = SavedRecommender(run / "models" / "shop")
    manifest = saved.manifest
    assert manifest["index"]["kind"] == "half"
    assert manifest["index"]["parameters"] == {"note": "sixteen bits"}
    assert all(facts["largest_difference"] <= 1e-4 for facts in manifest["verification"].values())
    assert "outside_parts" not in sys.modules
    answer = saved.recommend("u000001", ["i00001"], query="linen shirt", k=5)
    assert answer["item_id"].n_unique() == 5
    age = next(i for i in manifest["signatures"]["recommend"]["inputs"] if i["name"] == "age")
    assert age["dtype"] == "float32"


def test_answers_name_the_source_from_outside(run: Path):
    asked = {"user_id": ["u000001"]}
    answer = SavedRecommender(run / "models" / "shop").call("recommend", asked)
    named = {cell.decode() for cell in answer["sources"][answer["item_id"] != b""]}
    assert named <= {"two_tower", "overlooked", "two_tower,overlooked"}
    assert len(named) > 1


def test_command_without_the_package_says_what_is_missing(run: Path):
    sets = [part for setting in SETTINGS for part in ("--set", setting)]
    process = tfrec(None, "train", CONFIG, *sets, "--set", f"runs={run / 'other'}")
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert "wanted one of" in line
    assert "got 'last_event'" in line or "got 'half'" in line


def test_part_that_cannot_be_imported_stops_before_the_first_stage(run: Path):
    loss = "retrieval.loss.kind=outside_parts.hinge:Hinge"
    runs = run / "other"
    process = tfrec(None, "train", CONFIG, "--set", loss, "--set", f"runs={runs}")
    assert process.returncode == 2
    (line,) = process.stderr.splitlines()
    assert "retrieval.loss.kind: outside_parts.hinge:Hinge: cannot be imported" in line
    assert "[1/11]" not in process.stdout
