import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from c_reader import ask, compile_reader, operation_libraries
from tensorflow_serving.apis import prediction_log_pb2

from tfrec.config import load_config
from tfrec.errors import ArtefactError, ExportError
from tfrec.export import saved_model
from tfrec.export.replay import raw_requests, replay_requests
from tfrec.export.saved_model import Replay, export_model, list_versions
from tfrec.export.signatures import build_signatures
from tfrec.inputs.ranked_rows import pair_rows
from tfrec.pipeline import Pipeline
from tfrec.pipeline.catalogue_editor import CatalogueEditor
from tfrec.pipeline.models import pair_scorer
from tfrec.recommender import Recommender
from tfrec.serving.saved_recommender import SavedRecommender

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[2] / "configs" / "shop.yaml"
STAGES = (
    "prepare",
    "vocabulary",
    "tokens",
    "candidates",
    "pretraining",
    "retrieval",
    "ranking",
    "order",
    "index",
    "evaluation",
    "export",
)
K, CANDIDATES, NUM_REPLAYED, NUM_ODD = 20, 60, 8, 5
SIGNATURES = (
    "recommend",
    "rank",
    "retrieve",
    "search",
    "similar_items",
    "encode_user",
    "encode_item",
)


def make_overrides(folder: Path) -> list[str]:
    return [
        f"runs={folder / 'runs'}",
        f"export.folder={folder / 'models'}",
        f"export.k={K}",
        f"export.replay_rows={NUM_REPLAYED}",
        f"index.candidates={CANDIDATES}",
        "data.scale=0.05",
        "text.vocabulary_size=1000",
        "encoder.source=nano",
        "encoder.pretraining.steps=40",
        "encoder.pretraining.batch_size=32",
        "retrieval.embedding_dim=32",
        "retrieval.batch_size=128",
        "retrieval.epochs=16",
        "retrieval.learning_rate=0.01",
        "retrieval.user.use_id=true",
        "ranking.batch_size=1024",
        "ranking.epochs=4",
        "ranking.learning_rate=0.005",
    ]


@dataclass(frozen=True)
class Run:
    """A finished run: its pipeline, the lines it announced, its folder."""

    pipeline: Pipeline
    lines: list[str]
    folder: Path

    @property
    def version(self) -> Path:
        return self.folder / "models" / "shop" / "1"


def make_pipeline(folder: Path, announce: Callable[[str], None]) -> Pipeline:
    return Pipeline(load_config(CONFIG, make_overrides(folder)), announce=announce)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("whole")
    lines: list[str] = []
    pipeline = make_pipeline(folder, lines.append)
    pipeline.run()
    return Run(pipeline, lines, folder)


@pytest.fixture(scope="module")
def saved(run: Run) -> SavedRecommender:
    return SavedRecommender(run.version.parent)


@pytest.fixture(scope="module")
def recommender(run: Run) -> Recommender:
    return run.pipeline.recommender()


# Stages


def test_every_stage_leaves_its_record_and_nothing_half_done(run):
    for name in STAGES:
        facts = json.loads((run.pipeline.folder / name / "stage.json").read_text())
        assert facts["stage"] == name
        assert (run.pipeline.folder / name / "config.yaml").read_text() == (
            run.pipeline.config.to_yaml()
        )
        assert not (run.pipeline.folder / name / "checkpoints").exists()
    hidden = {path.name for path in run.pipeline.folder.iterdir() if path.name.startswith(".")}
    assert hidden <= {".lock"}


def test_first_run_announces_every_stage(run):
    wanted = []
    for number, name in enumerate(STAGES, start=1):
        title = f"[{number}/{len(STAGES)}] {name}"
        wanted += [f"{title}: running", f"{title}: done"]
    assert [line.split(" in ")[0] for line in run.lines] == wanted


def test_second_run_skips_every_stage_and_exports_nothing(run):
    def stamps() -> dict[Path, int]:
        files = [p for p in run.folder.rglob("*") if p.name not in (".lock", "run.log")]
        return {path: path.stat().st_mtime_ns for path in files}

    before = stamps()
    lines: list[str] = []
    make_pipeline(run.folder, lines.append).run()
    assert [line.split(": ")[1] for line in lines] == ["unchanged"] * len(STAGES)
    assert stamps() == before


# Report


def test_retrieval_lies_between_popularity_and_oracle(run):
    retrieval = run.pipeline.report()["retrieval"]
    recall = {model: metrics["recall_at_100"] for model, metrics in retrieval.items()}
    assert recall["popularity"] < recall["ours"] < recall["oracle"]
    assert recall["random"] < recall["popularity"]
    assert recall["random"] == pytest.approx(100 / run.pipeline.data.num_items, abs=0.1)


def test_ranking_lies_between_chance_and_oracle(run):
    ranking = run.pipeline.report()["ranking"]
    # Chance is a real order: a constant would tie, and ties count against whoever has them.
    assert ranking["random"]["auc"] == pytest.approx(0.5, abs=0.03)
    assert ranking["random"]["auc"] != 0.5
    for metric in ("mrr", "ndcg_at_5"):
        chance, oracle = (ranking[model][metric] for model in ("random", "oracle"))
        assert 0.4 * oracle < chance < oracle
    assert 0.53 < ranking["ours"]["auc"] < ranking["oracle"]["auc"] - 0.02
    assert ranking["oracle"]["log_loss"] < ranking["ours"]["log_loss"]
    # Predicted clicks are right on average to within a few per cent of all shown items.
    assert ranking["ours"]["ece"] < 0.06


def test_losses_of_every_training_fall(run):
    for stage in ("pretraining", "retrieval", "ranking"):
        rounds = json.loads((run.pipeline.folder / stage / "history.json").read_text())
        assert rounds[-1]["loss"] < rounds[0]["loss"]


def test_report_is_written_for_people_and_programs(run):
    folder = run.pipeline.folder / "evaluation"
    page = (folder / "report.md").read_text()
    for row in ("ours", "ours, re-ranked", "ours, as exported"):
        assert f"| {row} |" in page
        assert run.pipeline.report()["retrieval"][row]["targets"] > 0
    for picture in ("recall.png", "calibration.png", "learning_curves.png"):
        assert f"({picture})" in page
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


def test_sample_names_items_the_user_has_not_chosen(run):
    sample = run.pipeline.sample()
    titles = dict(run.pipeline.data.items.select("item_id", "title").iter_rows())
    assert [item["rank"] for item in sample["items"]] == list(range(1, 11))
    assert all(titles[item["item_id"]] == item["title"] for item in sample["items"])
    assert not {item["title"] for item in sample["items"]} & set(sample["history"])


# The exported folder


def test_export_writes_version_one_with_its_manifest(run):
    assert run.pipeline.exported_folder() == str(run.version)
    assert list_versions(run.version.parent) == [1]
    assert [path.name for path in run.version.parent.iterdir()] == ["1"]
    manifest = json.loads((run.version / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["version"] == 1
    assert manifest["name"] == "shop"
    assert manifest["default_signature"] == "recommend"
    assert set(manifest["signatures"]) == set(SIGNATURES)
    assert set(manifest["packages"]) >= {"tensorflow", "tensorflow-text", "scann"}
    assert manifest["index"]["kind"] == "scann"
    assert manifest["config"] == run.pipeline.config.model_dump(mode="json")
    assert manifest["metrics"]["retrieval"] == run.pipeline.report()["retrieval"]
    verified = manifest["verification"]
    assert {name: facts["rows"] for name, facts in verified.items()} == {
        name: NUM_REPLAYED + NUM_ODD for name in SIGNATURES
    }
    assert all(facts["largest_difference"] <= 1e-4 for facts in verified.values())


def test_manifest_describes_the_tensors_that_the_model_takes_and_gives(run, saved):
    for name, described in saved.manifest["signatures"].items():
        given = saved._model.signatures[name].structured_input_signature[1]
        assert {info["name"]: info["shape"] for info in described["inputs"]} == {
            key: spec.shape.as_list() for key, spec in given.items()
        }
        returned = saved._model.signatures[name].structured_outputs
        assert {info["name"]: info["dtype"] for info in described["outputs"]} == {
            key: spec.dtype.name for key, spec in returned.items()
        }
    assert set(saved._model.signatures) == {*SIGNATURES, "serving_default"}


def test_titles_beside_the_model_name_every_item(run, saved):
    titles = pl.read_csv(run.version / "titles.csv", infer_schema=False)
    items = run.pipeline.data.items.select("item_id", "title")
    assert titles.rows() == items.rows()
    assert saved.title(items["item_id"][3]) == items["title"][3]
    assert saved.title("no such item") == ""


# Answers of the exported model


def test_saved_model_answers_as_the_model_in_memory(run, recommender, saved):
    contexts = np.random.default_rng(0).choice(run.pipeline.data.contexts.height, 40)
    request = raw_requests(run.pipeline.data, run.pipeline.config, contexts)
    in_memory = tf.function(recommender.recommend, autograph=False)
    wanted = in_memory(
        {
            name: tf.constant(value, tf.string if value.dtype == object else tf.float32)
            for name, value in request.items()
        }
    )
    answer = saved.call("recommend", request)
    np.testing.assert_array_equal(answer["item_id"], wanted["item_id"].numpy())
    np.testing.assert_allclose(answer["score"], wanted["score"], atol=1e-5)
    np.testing.assert_allclose(answer["probability"], wanted["probability"], atol=1e-5)


def test_encoded_requests_equal_those_of_training(run, saved):
    # The features of requests took another way into training: polars and numpy, not the graph.
    contexts = np.random.default_rng(1).choice(run.pipeline.data.contexts.height, 200)
    request = raw_requests(run.pipeline.data, run.pipeline.config, contexts)
    with np.load(run.pipeline.folder / "retrieval" / "embeddings.npz") as trained:
        wanted = trained["requests"][contexts]
    np.testing.assert_allclose(saved.call("encode_user", request)["embedding"], wanted, atol=1e-4)


def test_known_user_stranger_and_history_get_different_answers(run, saved):
    data = run.pipeline.data
    known = data.users["user_id"].to_list()[int(np.argmax(data.user_id_rows)) - 1]
    history = data.items["item_id"].to_list()[:3]
    answers = {
        "known": saved.recommend(known),
        "stranger": saved.recommend("no such user"),
        "history": saved.recommend("no such user", history),
        "query": saved.recommend("no such user", query="red lamp"),
    }
    ids = {name: answer["item_id"].to_list() for name, answer in answers.items()}
    assert saved.recommend("")["item_id"].to_list() == ids["stranger"]
    assert len({tuple(row) for row in ids.values()}) == len(ids)
    for name, answer in answers.items():
        assert len(set(ids[name])) == K
        assert answer.select(order_value(run)).to_series().diff().fill_null(0).max() < 1e-4
    assert not set(history) & set(ids["history"])


def order_value(run: Run) -> pl.Expr:
    """What answers are sorted by: the weighted log odds of a click and score."""
    order = json.loads((run.pipeline.folder / "order" / "order.json").read_text())
    assert order["names"] == ["click log-odds", "retrieval score"]
    probability = pl.col("probability").cast(pl.Float64)
    log_odds = (probability / (1 - probability)).log()
    return order["weights"][0] * log_odds + order["weights"][1] * pl.col("score")


@pytest.mark.parametrize(("k", "rows"), [(1, 1), (K, K), (1000, K), (None, K)])
def test_recommend_for_any_k_answers_at_most_the_exported_number(saved, k, rows):
    assert saved.recommend("u000001", k=k).height == rows


def test_history_of_the_whole_catalogue_leaves_nothing(run, saved):
    everything = run.pipeline.data.items["item_id"].to_list()
    assert saved.recommend("", everything).is_empty()
    but_two = saved.recommend("", everything[2:])
    assert set(but_two["item_id"]) == set(everything[:2])


STRANGE_TEXTS = ["", "x" * 50_000, "red \x00 lamp", "Ünï ☕ 靴", "word " * 5000, "\u200b\t\n"]


def make_strange(saved: SavedRecommender, signature: str, batch: int) -> dict[str, np.ndarray]:
    """Fills every input of a signature with strange texts and numbers."""
    inputs = {}
    for number, info in enumerate(saved.manifest["signatures"][signature]["inputs"]):
        shape = [batch, *(4 if size is None else size for size in info["shape"][1:])]
        rows = np.arange(int(np.prod(shape))).reshape(shape) + number
        if info["dtype"] == "string":
            inputs[info["name"]] = np.array([*STRANGE_TEXTS, "i00001"], object)[rows % 7]
        else:
            values = np.array([0, 1, -1, 1e6, np.nan, np.inf, -np.inf], np.float32)
            inputs[info["name"]] = values[rows % 7]
    return inputs


def assert_sound(answer: Mapping[str, np.ndarray], batch: int) -> None:
    for name, value in answer.items():
        assert len(value) == batch
        if value.dtype != object:
            assert np.isfinite(value).all()
        if name == "probability":
            assert ((value >= 0) & (value <= 1)).all()
        if name == "embedding":
            np.testing.assert_allclose(np.linalg.norm(value, axis=1), 1, atol=1e-4)


@pytest.mark.parametrize("signature", SIGNATURES)
@pytest.mark.parametrize("batch", [0, 1, 15])
def test_signatures_answer_strange_requests_soundly(saved, signature, batch):
    assert_sound(saved.call(signature, make_strange(saved, signature, batch)), batch)


@pytest.mark.parametrize("signature", SIGNATURES)
def test_signatures_answer_a_thousand_requests_alike(saved, signature):
    inputs = {"item_id": np.full((1000, 2) if signature == "rank" else 1000, "i00001", object)}
    if signature not in ("rank", "encode_item", "similar_items"):
        asked = "query" if signature == "search" else "user_id"
        inputs = {asked: np.full(1000, "u000001", object)}
    answer = saved.call(signature, inputs)
    assert_sound(answer, 1000)
    for value in answer.values():
        if value.dtype == object:
            assert (value == value[:1]).all()
        else:
            np.testing.assert_allclose(value, np.broadcast_to(value[:1], value.shape), atol=1e-5)


@pytest.mark.parametrize("signature", ["recommend", "retrieve", "rank", "encode_user"])
def test_history_without_columns_equals_no_history(saved, signature):
    more = {"item_id": [["i00001"]]} if signature == "rank" else {}
    empty = saved.call(signature, {"history": np.empty((1, 0), object), **more})
    wanted = saved.call(signature, {"history": [[""]], **more})
    for name, value in wanted.items():
        if value.dtype == object:
            np.testing.assert_array_equal(empty[name], value)
        else:
            np.testing.assert_allclose(empty[name], value, atol=1e-6)


def test_encoded_catalogue_items_equal_the_retrieved_embeddings(run, recommender, saved):
    replayed = replay_requests(run.pipeline.data, run.pipeline.config, recommender)["encode_item"]
    replayed = {name: rows[:NUM_REPLAYED] for name, rows in replayed.items()}  # odd ones follow
    encoded = saved.call("encode_item", replayed)["embedding"]
    ids = run.pipeline.data.items["item_id"].to_list()
    with np.load(run.pipeline.folder / "retrieval" / "embeddings.npz") as trained:
        wanted = trained["items"][[ids.index(item) + 1 for item in replayed["item_id"]]]
    np.testing.assert_allclose(encoded, wanted, atol=1e-4)


# Verification and failed exports


def test_verify_of_another_answer_names_signature_output_and_values(run, recommender):
    requests = replay_requests(run.pipeline.data, run.pipeline.config, recommender)
    signatures = {s.name: s for s in build_signatures(recommender)}
    rank = signatures["rank"]

    def answer_slightly_off(request: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        answer = rank.answer(request)
        return answer | {"probability": answer["probability"] + 0.01}

    tampered = dataclasses.replace(rank, answer=answer_slightly_off)
    with (
        pytest.raises(ExportError, match=r"'rank', output 'probability', entry \(0, 0\)"),
        Replay(run.version, {"rank": requests["rank"]}) as replay,
    ):
        replay.compare([tampered])


def test_failed_export_leaves_earlier_versions_and_no_leftovers(run, recommender, monkeypatch):
    def write_rubbish(_: Recommender, __: object, folder: Path) -> None:
        (folder / "saved_model.pb").write_bytes(b"no model")

    monkeypatch.setattr(saved_model, "_write", write_rubbish)
    before = sorted(path.name for path in run.version.rglob("*"))
    with pytest.raises(ExportError, match="does not load"):
        export_model(
            recommender,
            build_signatures(recommender),
            run.version.parent,
            replay_requests(run.pipeline.data, run.pipeline.config, recommender),
            run.pipeline.data.items.select("item_id", "title"),
            {"fingerprint": "another"},
        )
    assert [path.name for path in run.version.parent.iterdir()] == ["1"]
    assert sorted(path.name for path in run.version.rglob("*")) == before


def test_export_of_the_same_model_keeps_the_version_and_sweeps_dead_leftovers(run, recommender):
    models = run.version.parent
    process = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], stdout=-1)
    dead = models / f".writing-{int(process.stdout)}-a"
    alive = models / f".writing-{os.getpid()}-b"
    dead.mkdir()
    alive.mkdir()
    fingerprint = json.loads((run.version / "manifest.json").read_text())["fingerprint"]
    try:
        kept = export_model(
            recommender, [], models, {}, pl.DataFrame(), {"fingerprint": fingerprint}
        )
        assert kept == run.version
        assert not dead.exists()
        assert alive.exists()
    finally:
        alive.rmdir()
    assert list_versions(models) == [1]


# Killed and started again


def kill_when(appears: Path, command: list[str], cwd: Path) -> None:
    """Starts a process and sends SIGKILL as soon as a file is there."""
    with (cwd / "output.txt").open("w+") as output:
        process = subprocess.Popen(command, cwd=cwd, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + 120
            while not appears.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    output.seek(0)
                    pytest.fail(f"{appears} never appeared: {output.read()[-2000:]}")
                time.sleep(0.005)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()


@pytest.mark.parametrize(
    ("name", "libraries"),
    [("shop", ["tensorflow_text", "scann"]), ("shop-portable", ["tensorflow_text"])],
)
def test_program_in_c_reads_both_exports_and_gets_the_same_ids(run, tmp_path, name, libraries):
    saved = SavedRecommender(run.folder / "models" / name)
    contexts = np.random.default_rng(3).choice(run.pipeline.data.contexts.height, 5)
    asked = raw_requests(run.pipeline.data, run.pipeline.config, contexts)
    asked["query"][:2] = ["linen shirt", "café ☕"]
    asked["exclude_item_ids"] = asked["history"][::-1]
    answer = saved.call("recommend", asked)
    printed = ask(
        compile_reader(tmp_path),
        saved.folder,
        operation_libraries(libraries),
        "recommend",
        asked,
        ["item_id", "probability"],
    )
    ids = [cell.decode() for cell in answer["item_id"].ravel()]
    assert printed[: len(ids)] == ids
    numbers = np.array(printed[len(ids) :], np.float32)
    np.testing.assert_allclose(numbers, answer["probability"].ravel(), atol=1e-6)


# What one process does that has neither tfrec nor scann: the packages are hidden from it.
WITHOUT_TFREC = """
import importlib.abc, json, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("scann", "tfrec", "keras_nlp"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Hidden())
import numpy as np, tensorflow as tf, tensorflow_text
model = tf.saved_model.load(sys.argv[1])
manifest = json.load(open(sys.argv[1] + "/manifest.json"))
feeds = {}
for info in manifest["signatures"]["search"]["inputs"]:
    shape = [2, *(1 for _ in info["shape"][1:])]
    feeds[info["name"]] = tf.fill(shape, info["neutral"])
feeds["query"] = tf.constant(["linen shirt", "tent"])
for row in model.signatures["search"](**feeds)["item_id"].numpy():
    print(" ".join(cell.decode() for cell in row))
"""


def test_portable_export_answers_without_scann_and_tfrec(run):
    saved = SavedRecommender(run.folder / "models" / "shop-portable")
    wanted = saved.call("search", {"query": ["linen shirt", "tent"]})["item_id"]
    environment = {name: v for name, v in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_TFREC, str(saved.folder)],
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
    )
    assert process.returncode == 0, process.stderr[-2000:]
    lines = [" ".join(cell.decode() for cell in row) for row in wanted]
    assert process.stdout.splitlines() == lines


def test_both_exports_answer_alike_and_say_which_servers_load_them(run):
    scann, portable = (
        SavedRecommender(run.folder / "models" / name) for name in ("shop", "shop-portable")
    )
    asked = {"query": ["linen shirt", "tent", ""], "exclude_item_ids": [["i00001"]] * 3}
    one, other = (saved.call("recommend", asked) for saved in (scann, portable))
    np.testing.assert_array_equal(one["item_id"], other["item_id"])
    np.testing.assert_allclose(one["probability"], other["probability"], atol=1e-5)
    assert scann.manifest["servers"]["tensorflow_serving"] is None
    assert scann.manifest["servers"]["libraries"] == ["tensorflow_text", "scann"]
    assert portable.manifest["servers"]["tensorflow_serving"] == "2.12"
    assert list(portable.manifest["operations"]) == ["tensorflow_text"]


def test_similar_items_are_those_with_the_closest_embeddings(run, saved):
    with np.load(run.pipeline.folder / "retrieval" / "embeddings.npz") as trained:
        items = trained["items"][1:]
    ids = run.pipeline.data.items["item_id"].to_list()
    answer = saved.call("similar_items", {"item_id": [ids[7], "no such item"]})
    near = np.argsort(-(items @ items[7]))
    wanted = [ids[row] for row in near if row != 7][:K]
    assert [cell.decode() for cell in answer["item_id"][0]] == wanted
    assert not any(answer["item_id"][1])


def test_warmup_asks_every_signature_for_one_row_and_for_several(run, saved):
    path = saved.folder / "assets.extra" / "tf_serving_warmup_requests"
    asked = []
    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        name = request.model_spec.signature_name
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        answer = saved.call(name, inputs)
        asked.append((name, len(next(iter(answer.values())))))
    assert asked == [(name, rows) for name in SIGNATURES for rows in (1, 8)]


def test_catalogue_changes_without_training_and_unchanged_items_keep_their_scores(run, tmp_path):
    overrides = [*make_overrides(tmp_path), "export.portable=false"]
    pipeline = Pipeline(
        load_config(CONFIG, overrides), announce=lambda line: None, donors=[run.pipeline.folder]
    )
    with pytest.raises(ArtefactError, match="run `tfrec train` first"):
        CatalogueEditor(pipeline)
    pipeline.run()
    editor = CatalogueEditor(pipeline)
    old = pipeline.data.items[:12]
    new = old.with_columns(
        item_id="new-" + pl.col("item_id"), title=pl.lit("velvet spaceship"), description="text"
    )
    new.drop("text").write_parquet(tmp_path / "new.parquet")
    assert editor.add(tmp_path / "new.parquet") == [str(tmp_path / "models" / "shop" / "2")]
    removed = old["item_id"][:3].to_list()
    assert editor.remove([*removed, "new-" + removed[0]])[0].endswith("3")
    stats = editor.stats()
    assert (stats.added, stats.gone, stats.changes) == (12, 4, 2)
    assert stats.present == stats.trained + 12 - 4

    before, after = (SavedRecommender(tmp_path / "models" / "shop" / n) for n in ("1", "3"))
    kept = pipeline.data.items["item_id"][20:60].to_list()
    asked = {"user_id": ["u000001"], "query": ["linen shirt"], "item_id": [kept]}
    for name, value in before.call("rank", asked).items():
        np.testing.assert_array_equal(after.call("rank", asked)[name], value, err_msg=name)
    every = pipeline.data.items["item_id"].to_list()
    others = [item for item in every if item not in removed]
    left = after.call("retrieve", {"query": ["velvet"], "exclude_item_ids": [others]})
    found = {cell.decode() for cell in left["item_id"][0] if cell}
    assert found == set(new["item_id"][1:])
    assert after.recommend(query="velvet spaceship", k=1)["title"].to_list() != [""]
    # The next training makes another model, to which the changes do not belong.
    again = Pipeline(load_config(CONFIG, [*overrides, "ranking.epochs=1"]), print)
    assert again.artefacts.changes(again.fingerprints()["export"]).number == 0


@pytest.mark.parametrize("kind", ["tuned", "shared"])
def test_towers_trained_with_the_ranking_model_answer_as_in_training(run, tmp_path, kind):
    overrides = [*make_overrides(tmp_path), f"ranking.towers={kind}", "ranking.epochs=1"]
    pipeline = Pipeline(
        load_config(CONFIG, overrides), announce=lambda line: None, donors=[run.pipeline.folder]
    )
    pipeline.run(until="index")
    before, after = (
        load_arrays(pipeline.folder / folder / "embeddings.npz")
        for folder in ("retrieval", "ranking/towers")
    )
    assert np.abs(after["items"] - before["items"]).max() > 1e-3
    recommender = pipeline.recommender()
    contexts = np.random.default_rng(1).choice(pipeline.data.contexts.height, 50)
    items = np.random.default_rng(2).integers(0, pipeline.data.num_items, len(contexts))
    item_ids = pipeline.data.items["item_id"].to_numpy()[items].astype(object)[:, None]
    request = {
        name: tf.constant(value, tf.string if value.dtype == object else tf.float32)
        for name, value in raw_requests(pipeline.data, pipeline.config, contexts).items()
    }
    # What finds candidates is the towers of retrieval, unless they are shared.
    finding = before if kind == "tuned" else after
    vectors = recommender.encode_user(request)
    np.testing.assert_allclose(vectors, finding["requests"][contexts], atol=1e-4)
    answer = recommender.rank(request | {"item_id": tf.constant(item_ids, tf.string)})
    wanted = pair_scorer(pipeline.artefacts).probabilities(pair_rows(contexts, items + 1))
    np.testing.assert_allclose(answer["probability"][:, 0], wanted, atol=1e-4)


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as saved:
        return {name: saved[name] for name in saved.files}


def test_run_killed_in_every_training_and_resumed_ends_bit_equal(run, recommender, tmp_path):
    folder = tmp_path / "runs" / "shop"
    for done in ("prepare", "vocabulary", "tokens"):  # these are the same whoever makes them
        shutil.copytree(run.pipeline.folder / done, folder / done)
    overrides = [part for pair in make_overrides(tmp_path) for part in ("--set", pair)]
    command = [sys.executable, "-m", "tfrec", "train", str(CONFIG), *overrides]
    for stage in ("pretraining", "retrieval", "ranking"):
        partial = folder / f".{stage}.partial"
        kill_when(partial / "checkpoints" / "checkpoint.npz", command, tmp_path)
        assert partial.exists()
        assert not (folder / stage).exists()

    lines: list[str] = []
    resumed = make_pipeline(tmp_path, lines.append)
    resumed.run(until="evaluation")
    states = {line.split()[1].rstrip(":"): line.split(": ")[1] for line in lines[:7]}
    assert states == {name: "unchanged" for name in STAGES[:6]} | {"ranking": "resuming"}

    arrays = ("pretraining/backbone", "retrieval/model", "retrieval/embeddings", "ranking/model")
    for name in arrays:
        wanted = load_arrays(run.pipeline.folder / f"{name}.npz")
        got = load_arrays(folder / f"{name}.npz")
        assert list(got) == list(wanted)
        for key, value in wanted.items():
            np.testing.assert_array_equal(got[key], value, err_msg=f"{name}, {key}")

    def report(pipeline: Pipeline) -> dict[str, Any]:
        return {part: pipeline.report()[part] for part in ("retrieval", "ranking")}

    assert report(resumed) == report(run.pipeline)
    contexts = np.arange(0, run.pipeline.data.contexts.height, 100)
    request = {
        name: tf.constant(value, tf.string if value.dtype == object else tf.float32)
        for name, value in raw_requests(run.pipeline.data, run.pipeline.config, contexts).items()
    }
    wanted, got = (
        tf.function(model.recommend, autograph=False)(request)
        for model in (recommender, resumed.recommender())
    )
    for name, value in wanted.items():
        np.testing.assert_array_equal(got[name].numpy(), value.numpy())
