import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfrec.serving.saved_recommender import RequestError, SavedRecommender

INPUTS = {
    "user_id": ("string", [None], ""),
    "history": ("string", [None, None], ""),
    "query": ("string", [None], ""),
}
WITH_EVENTS = INPUTS | {
    "history_kind": ("string", [None, None], ""),
    "history_time": ("int64", [None, None], 0),
    "time": ("int64", [None], 0),
}


class Echo(tf.Module):
    """Answers with the history: its kinds behind the ids, its times as scores."""

    def __init__(self, inputs: dict[str, Any]) -> None:
        super().__init__()
        specs = {
            name: tf.TensorSpec(shape, tf.as_dtype(dtype), name)
            for name, (dtype, shape, _) in inputs.items()
        }
        self.recommend = tf.function(self._recommend, input_signature=[specs])

    def _recommend(self, request: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        ids = request["history"]
        scores = tf.zeros(tf.shape(ids))
        asked = tf.zeros(tf.shape(ids)[:1])
        if "age" in request:
            asked = request["age"]
        if "time" in request:
            ids = tf.strings.join([ids, request["history_kind"]], "/")
            scores += tf.cast(request["history_time"], tf.float32)
            asked = tf.cast(request["time"], tf.float32)
        return {"item_id": ids, "score": scores, "probability": scores + asked[:, None]}


def saved(folder: Path, inputs: dict[str, Any]) -> SavedRecommender:
    module = Echo(inputs)
    tf.saved_model.save(module, str(folder), signatures={"recommend": module.recommend})
    signature = {
        "inputs": [
            {"name": name, "dtype": dtype, "shape": shape, "neutral": neutral}
            for name, (dtype, shape, neutral) in inputs.items()
        ],
        "outputs": [
            {"name": name, "shape": [None, 10]} for name in ("item_id", "score", "probability")
        ],
    }
    manifest = {"signatures": {"recommend": signature}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "titles.csv").write_text("item_id,title\na,A\n")
    return SavedRecommender(folder)


@pytest.fixture(scope="module")
def with_events(tmp_path_factory: pytest.TempPathFactory) -> SavedRecommender:
    return saved(tmp_path_factory.mktemp("model"), WITH_EVENTS)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> SavedRecommender:
    return saved(tmp_path_factory.mktemp("model"), INPUTS)


def test_number_that_is_left_out_is_the_nan_that_the_manifest_writes_as_text(tmp_path: Path):
    asks = saved(tmp_path, INPUTS | {"age": ("float32", [None], "NaN")})
    answer = asks.recommend(history=["a"])
    assert np.isnan(answer["probability"].to_list()).all()
    assert asks.recommend(history=["a"], features={"age": 0.0})["probability"].to_list() == [0.0]


def test_kinds_and_times_reach_the_model(with_events: SavedRecommender):
    answer = with_events.recommend(
        history=["a", "b"], history_kinds=["click", ""], history_times=[5, 0], time=7
    )
    assert answer["item_id"].to_list() == ["a/click", "b/"]
    assert answer["score"].to_list() == [5.0, 0.0]
    assert answer["probability"].to_list() == [12.0, 7.0]


def test_what_is_left_out_is_unknown(with_events: SavedRecommender):
    answer = with_events.recommend(history=["a"])
    assert answer.rows() == [("a/", "", 0.0, 0.0)]
    assert with_events.recommend(history_kinds=[], history_times=[])["item_id"].to_list() == ["/"]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("history_kind", {"history_kinds": ["click"]}),
        ("history_time", {"history_times": [5]}),
        ("time", {"time": 7}),
    ],
)
def test_model_that_reads_no_events_refuses_them(plain: SavedRecommender, name: str, given: Any):
    with pytest.raises(RequestError, match=f"input '{name}': wanted one of user_id, history"):
        plain.recommend(history=["a"], **given)
    assert plain.recommend(history=["a"])["item_id"].to_list() == ["a"]


@pytest.mark.parametrize("given", [{"history_kinds": ["click"]}, {"history_times": [1, 2, 3]}])
def test_other_number_than_items_is_refused(with_events: SavedRecommender, given: Any):
    with pytest.raises(RequestError, match="wanted one for each of the 2 items of the history"):
        with_events.recommend(history=["a", "b"], **given)


@pytest.mark.parametrize("given", [{"time": "noon"}, {"time": 1.5}, {"history_times": ["x"]}])
def test_time_that_is_no_whole_number_is_refused(with_events: SavedRecommender, given: Any):
    with pytest.raises(RequestError, match="wanted int64 of shape"):
        with_events.recommend(history=["a"], **given)
