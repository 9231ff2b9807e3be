"""Runs that go wrong in the ways of practice are stopped and named; a sound one is left alone."""

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from small_model import small_model

from tfrec.config import Config, parse_config
from tfrec.data.dataset import PreparedData
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading.sources import read_source
from tfrec.encoders.tokenizer import tokenize_texts, train_vocabulary
from tfrec.inference.embedder import Embedder
from tfrec.inputs.batches import InputTables
from tfrec.metrics.diagnosis import Finding, Kind
from tfrec.training.health import HealthError, examine, sound_alarm
from tfrec.training.retrieval import train_retrieval

NUM_USERS, NUM_ITEMS, NUM_TOPICS, NUM_EVENTS = 500, 400, 8, 9
TOPICS = ["tea", "bikes", "chess", "paint", "boats", "birds", "maths", "bread"]

pytestmark = pytest.mark.slow


def draw_log() -> dict[str, pl.DataFrame]:
    """Draws a log in which some items are far more popular, and each user keeps to a topic."""
    rng = np.random.default_rng(0)
    popularity = np.arange(1, NUM_ITEMS + 1) ** -0.6
    topic = np.arange(NUM_ITEMS) % NUM_TOPICS
    events = []
    for user in range(NUM_USERS):
        shares = popularity * np.where(topic == rng.integers(NUM_TOPICS), 50.0, 1.0)
        items = rng.choice(NUM_ITEMS, NUM_EVENTS, replace=False, p=shares / shares.sum())
        minutes = rng.choice(100_000, NUM_EVENTS, replace=False)
        events += [
            (f"u{user}", f"i{item}", datetime(2024, 1, 1) + timedelta(minutes=int(minute)))
            for item, minute in zip(items, minutes, strict=True)
        ]
    return {
        "events": pl.DataFrame(events, ["user_id", "item_id", "time"], orient="row"),
        "items": pl.DataFrame(
            {
                "item_id": [f"i{item}" for item in range(NUM_ITEMS)],
                "title": [f"{TOPICS[number]} {item}" for item, number in enumerate(topic)],
            }
        ),
    }


def make_config(**retrieval) -> Config:
    return parse_config(
        {
            "name": "broken",
            "data": {
                "source": "tables",
                "items": {"title": "title", "text": ["title"]},
                "max_history": 6,
            },
            "encoder": {"source": "nano"},
            "retrieval": {
                "embedding_dim": 16,
                "batch_size": 128,
                "epochs": 3,
                "learning_rate": 0.01,
                # Without correction a model learns who prefers what and nothing of popularity, so
                # labels of chance leave it with nothing.
                "loss": {"log_q": "none"},
                **retrieval,
            },
        }
    )


def leaked(data: PreparedData) -> PreparedData:
    """Ends each history one event too late: behind the target instead of before it."""
    contexts = data.contexts
    end = contexts["history_end"].to_numpy()
    last_of_user = np.zeros(data.num_users + 1, np.int64)
    np.maximum.at(last_of_user, contexts["user_index"].to_numpy(), end)
    end = np.minimum(end + 1, last_of_user[contexts["user_index"].to_numpy()])
    moved = contexts.with_columns(pl.Series("history_end", end))
    return dataclasses.replace(data, contexts=moved)


def shuffled(data: PreparedData) -> PreparedData:
    """Gives the items of the training targets to one another's requests."""
    rows, items = data.target_rows("train"), data.examples["item_index"].to_numpy().copy()
    items[rows] = np.random.default_rng(1).permutation(items[rows])
    examples = data.examples.with_columns(pl.Series("item_index", items))
    return dataclasses.replace(data, examples=examples)


def mixed_up(data: PreparedData) -> PreparedData:
    """Gives users and histories to one another's requests, as a wrong join would."""
    order = np.random.default_rng(2).permutation(data.contexts.height)
    names = ["user_index", "history_start", "history_end"]
    moved = data.contexts.select(names)[order]
    return dataclasses.replace(data, contexts=data.contexts.with_columns(moved))


def without_identity(data: PreparedData) -> PreparedData:
    """Gives all items one text, as a join that found the same row each time would."""
    items = data.items.with_columns(pl.col("text", "title").first())
    return dataclasses.replace(data, items=items)


BROKEN: dict[str, tuple[Kind, Callable[[PreparedData], PreparedData], dict]] = {
    "collapsed": ("collapse", without_identity, {"item": {"use_id": False}}),
    "leaked": ("leak", leaked, {}),
    "shuffled": ("worse_than_popularity", shuffled, {}),
    "mixed up": ("requests_do_not_matter", mixed_up, {"loss": {}}),
}
RUNS = {
    **{name: damage for name, (_, *damage) in BROKEN.items()},
    "sound": (lambda data: data, {}),
    "shuffled, corrected": (shuffled, {"loss": {}}),
}
SAYS: dict[Kind, str] = {
    "collapse": "has collapsed",
    "leak": "stand in the history",
    "worse_than_popularity": "the most popular items",
    "requests_do_not_matter": "no better than those of other requests",
}


class Runner:
    """Trains on the log once for each kind of damage, and tells what the model shows."""

    def __init__(self, data: PreparedData, folder: Path) -> None:
        self._data = data
        self._folder = folder
        texts = data.items["text"].to_list()
        self._vocabulary = train_vocabulary(texts, 300)

    @cache  # noqa: B019  the runner lives as long as the module's tests
    def __call__(self, name: str) -> list[Finding]:
        damage, retrieval = RUNS[name]
        data, config = damage(self._data), make_config(**retrieval)
        items = tokenize_texts(self._vocabulary, ["", *data.items["text"].to_list()], 8, "items")
        texts = tokenize_texts(self._vocabulary, data.texts, 8, "texts")
        checkpoints = self._folder / name / "checkpoints"
        checkpoints.mkdir(parents=True, exist_ok=True)
        model, tables = small_model(data, self._vocabulary, config), InputTables(data, items, texts)
        train_retrieval(model, data, tables, config, checkpoints)
        return examine(Embedder(model, tables, live=False), data, config)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    folder = tmp_path_factory.mktemp("broken")
    config = make_config()
    prepare(read_source(config.data, config.seed, draw_log()), config, folder)
    return Runner(PreparedData.load(folder), folder)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_run_raises_and_names_what_is_wrong(name, run):
    with pytest.raises(HealthError) as caught:
        sound_alarm(run(name), "error", print)
    told = {kind for kind, words in SAYS.items() if words in str(caught.value)}
    # A collapsed model is worse than popularity, too, and does not look at requests.
    assert BROKEN[name][0] in told
    also = {"leak"} if name == "mixed up" else set()  # targets stand in others' histories
    assert told <= {BROKEN[name][0], "worse_than_popularity", "requests_do_not_matter", *also}
    assert "run.health_alarm: warn" in str(caught.value)


@pytest.mark.parametrize("name", BROKEN)
def test_broken_run_with_warn_is_told_and_goes_on(name, run):
    told: list[str] = []
    sound_alarm(run(name), "warn", told.append)
    assert SAYS[BROKEN[name][0]] in told[0]


@pytest.mark.parametrize("name", BROKEN)
def test_broken_run_with_off_is_silent(name, run):
    told: list[str] = []
    sound_alarm(run(name), "off", told.append)
    assert not told


def test_sound_run_on_the_same_log_raises_nothing(run):
    told: list[str] = []
    sound_alarm(run("sound"), "error", told.append)
    assert not told


def test_shuffled_labels_with_the_correction_are_told_as_no_better_than_popularity(run):
    # Corrected, it learns popularity from them: that is no proof of a broken run, but is told. Its
    # texts still tell something about requests; whether enough to be seen is up to chance.
    told: list[str] = []
    sound_alarm(run("shuffled, corrected"), "warn", told.append)
    assert "a column may be shuffled" in told[0]
