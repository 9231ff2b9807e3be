"""Tables of TensorFlow Datasets, read from a small data set that is built for the test."""

from pathlib import Path

import numpy as np
import pytest

from tfrec.config import TableFile
from tfrec.data.reading.files import read_batches
from tfrec.data.reading.tfds import read_tfds
from tfrec.errors import DataError

tfds = pytest.importorskip("tensorflow_datasets")
EXAMPLES = [
    {
        "user": "ü1",
        "item": {"id": "i1", "tags": ["a", "b"]},
        "vector": [1.0, 2.0],
        "liked": True,
        "genres": ["war", "film-noir"],
        "device": "phone",
        "time": 10,
        "picture": np.zeros((2, 2, 3), np.uint8),
    },
    {
        "user": "u2",
        "item": {"id": "i2", "tags": []},
        "vector": [3.0, 4.0],
        "liked": False,
        "genres": [],
        "device": -1,
        "time": 20,
        "picture": np.zeros((2, 2, 3), np.uint8),
    },
]


class StandInLog(tfds.core.GeneratorBasedBuilder):
    """A log with every kind of feature."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        genres = tfds.features.ClassLabel(names=["war", "film-noir"])
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "user": tfds.features.Text(),
                    "item": {
                        "id": tfds.features.Text(),
                        "tags": tfds.features.Sequence(tfds.features.Text()),
                    },
                    "vector": tfds.features.Tensor(shape=(2,), dtype=np.float32),
                    "liked": np.bool_,
                    "genres": tfds.features.Sequence(genres),
                    "device": tfds.features.ClassLabel(names=["phone", "desk"]),
                    "time": np.int64,
                    "picture": tfds.features.Tensor(shape=(2, 2, 3), dtype=np.uint8),
                }
            ),
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for number in range(5):
            yield number, EXAMPLES[number % 2]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tfds")
    StandInLog(data_dir=folder).download_and_prepare()
    return folder


@pytest.fixture(autouse=True)
def _offline(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets TensorFlow Datasets look into the test's folder only."""
    from tensorflow_datasets.core import constants

    monkeypatch.setattr(constants, "DATA_DIR", str(data_dir))

    def refuse(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr("requests.Session.request", refuse)  # asking would be tried for minutes


def test_features_become_columns_with_flat_names():
    (batch,) = read_tfds("stand_in_log", "train")
    assert batch.origin == "stand_in_log, train"
    assert batch.rows.tolist() == [1, 2, 3, 4, 5]
    rows = sorted(batch.frame.to_dicts(), key=lambda row: row["time"])
    assert rows[0] == {
        "user": "ü1",
        "item/id": "i1",
        "item/tags": ["a", "b"],
        "vector": [1.0, 2.0],
        "liked": True,
        "genres": ["war", "film-noir"],
        "device": "phone",
        "time": 10,
    }
    assert rows[-1] == {
        "user": "u2",
        "item/id": "i2",
        "item/tags": [],
        "vector": [3.0, 4.0],
        "liked": False,
        "genres": [],
        "device": None,
        "time": 20,
    }


def test_blocks_run_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tfrec.data.reading.tfds._BLOCK_ROWS", 2)
    batches = list(read_tfds("stand_in_log", "train"))
    assert [batch.rows.tolist() for batch in batches] == [[1, 2], [3, 4], [5]]


def test_part_of_a_table_takes_steps_and_hides_columns():
    table = TableFile.model_validate(
        {
            "tfds": "stand_in_log",
            "steps": [{"explode": ["item/tags"]}, {"compute": {"tag": 'UPPER("item/tags")'}}],
        }
    )
    batches = list(read_batches([table], None, hidden=["user"]))
    assert "user" not in batches[0].frame.columns
    assert sorted(tag for batch in batches for tag in batch.frame["tag"]) == ["A"] * 3 + ["B"] * 3


@pytest.mark.parametrize(
    ("name", "split"), [("stand_in_log", "tset"), ("no_such_data", "train"), ("mnist", "train")]
)
def test_what_cannot_be_loaded_is_told_in_one_line(name: str, split: str):
    with pytest.raises(DataError) as caught:
        list(read_tfds(name, split))
    message = str(caught.value)
    assert message.startswith(f"TensorFlow Datasets {name} is not on disk and could not be down")
    assert message.endswith("name a folder that holds it in TFDS_DATA_DIR.")
    assert "\n" not in message
