"""What the tests of all training loops share: a small data set, and runs that die."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from tfrec.config import Config, parse_config
from tfrec.data.dataset import PreparedData
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading.sources import read_source
from tfrec.encoders.tokenizer import tokenize_texts, train_vocabulary
from tfrec.inputs.batches import InputTables
from tfrec.training import loop
from tfrec.training.checkpoint import Checkpoint


def tiny_config(adaptation: str = "frozen", **sections: dict[str, Any]) -> Config:
    """Returns a run on a fiftieth of the generated shop."""
    retrieval = {
        "embedding_dim": 16,
        "batch_size": 64,
        "epochs": 4,
        "learning_rate": 0.01,
        "encoder_learning_rate": 0.001,
        "validation_k": 100,
    }
    return parse_config(
        {
            "name": "tiny",
            "data": {
                "source": "shop",
                "scale": 0.02,
                "max_history": 6,
                "events": {
                    "kind": "kind",
                    "kinds": {
                        "impression": {"label": 0},
                        "click": {"label": 1},
                        "cart": {"label": 1, "weight": 2.0, "ranked": False, "target": False},
                        "purchase": {"label": 1, "weight": 3.0, "ranked": False, "target": False},
                    },
                    "query": "query",
                    "context": {"device": "category"},
                },
                "items": {"features": {"category": "category", "price": "number"}},
                "users": {"features": {"gender": "category"}},
            },
            "encoder": {"source": "nano", "adaptation": adaptation},
            "retrieval": retrieval | sections.pop("retrieval", {}),
            **sections,
        }
    )


@pytest.fixture(scope="session")
def make_config() -> Callable[..., Config]:
    return tiny_config


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> PreparedData:
    config = tiny_config()
    folder = tmp_path_factory.mktemp("prepare")
    prepare(read_source(config.data, config.seed), config, folder)
    return PreparedData.load(folder)


@pytest.fixture(scope="session")
def vocabulary(data: PreparedData) -> list[str]:
    return train_vocabulary([*data.items["text"].to_list(), *data.texts], 300)


@pytest.fixture(scope="session")
def tables_of(data: PreparedData, vocabulary: list[str]) -> Callable[[Config], InputTables]:
    """Returns the input tables as a configuration wants them."""
    items = tokenize_texts(vocabulary, ["", *data.items["text"].to_list()], 16, "items")
    texts = tokenize_texts(vocabulary, data.texts, 8, "texts")

    def make(config: Config) -> InputTables:
        history = config.retrieval.user.history
        return InputTables(
            data, items, texts, event_kinds=history.event_kinds, time_gaps=history.time_gaps
        )

    return make


@pytest.fixture(scope="session")
def tables(tables_of: Callable[[Config], InputTables]) -> InputTables:
    return tables_of(tiny_config())


class KilledError(Exception):
    """Stands for a kill."""


Kill = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Kill:
    """Returns a block in which `fit` checkpoints after every step and dies in checkpoint n.

    The n-th checkpoint is not written any more, so that a resumed run repeats the step before it.
    """
    save = Checkpoint.save

    @contextmanager
    def kill(number: int) -> Iterator[None]:
        saved = 0

        def save_or_die(checkpoint: Checkpoint, state: dict[str, Any]) -> None:
            nonlocal saved
            saved += bool(state)  # the best weights are saved without a state
            if saved == number:
                raise KilledError
            save(checkpoint, state)

        with monkeypatch.context() as patch:
            patch.setattr(loop._Saver, "save_when_due", loop._Saver.save)
            patch.setattr(Checkpoint, "save", save_or_die)
            with pytest.raises(KilledError):
                yield

    return kill
