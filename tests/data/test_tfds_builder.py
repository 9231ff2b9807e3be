import os
import pickle
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import tfrec.data.tfds_builder
from tfrec.config import parse_config
from tfrec.data.dataset import PreparedData
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading.sources import read_source
from tfrec.errors import ArtefactError
from tfrec.schema import SPLITS

tfds = pytest.importorskip("tensorflow_datasets")


def make_prepared(folder: Path, seed: int = 42) -> Path:
    """Prepares a fiftieth of the generated shop."""
    config = parse_config(
        {
            "name": "tiny",
            "seed": seed,
            "data": {
                "source": "shop",
                "scale": 0.02,
                "max_history": 4,
                "events": {
                    "kind": "kind",
                    "kinds": {
                        "impression": {"label": 0},
                        "click": {"label": 1},
                        "cart": {"label": 1, "weight": 2.0, "ranked": False, "target": False},
                        "purchase": {"label": 1, "weight": 3.0, "ranked": False, "target": False},
                    },
                    "query": "query",
                    "position": "position",
                },
            },
        }
    )
    folder.mkdir()
    prepare(read_source(config.data, config.seed), config, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_prepared(tmp_path_factory.mktemp("runs") / "prepare")


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tfds")


@pytest.fixture(scope="module")
def loaded(folder: Path, data_dir: Path) -> tuple[dict[str, list[dict[str, Any]]], Any]:
    """Returns all examples by split, and the description of the data set."""
    parts, info = open_prepared(folder, data_dir, with_info=True)
    return {split: list(tfds.as_numpy(part)) for split, part in parts.items()}, info


def open_prepared(folder: Path | str, data_dir: Path, **settings: Any) -> Any:
    return tfds.load(
        "tfrec_prepared", data_dir=data_dir, builder_kwargs={"folder": folder}, **settings
    )


def expected(folder: Path, split: str) -> list[tuple]:
    """Walks through the prepared tables one example at a time."""
    data = PreparedData.load(folder)
    contexts = data.contexts.to_dicts()
    items, users = data.items["item_id"].to_list(), data.users["user_id"].to_list()
    found = []
    for example in data.examples.to_dicts():
        context = contexts[example["context"]]
        if SPLITS[context["split"]] != split:
            continue
        before = data.history_items[context["history_start"] : context["history_end"]]
        since_1970 = context["time"] - type(context["time"])(1970, 1, 1)
        found.append(
            (
                users[context["user_index"] - 1],
                context["query"],
                round(since_1970.total_seconds() * 1_000_000),
                tuple(items[item - 1] for item in before[-4:]),
                items[example["item_index"] - 1],
                example["label"],
                example["weight"],
                example["position"],
                example["is_target"],
                example["is_ranked"],
                repr(example["watch_time"]),  # NaN is not equal to itself
            )
        )
    return sorted(found)


def got(examples: list[dict[str, Any]]) -> list[tuple]:
    return sorted(
        (
            example["user_id"].decode(),
            example["query"].decode(),
            int(example["time"]),
            tuple(item.decode() for item in example["history"]),
            example["item_id"].decode(),
            int(example["label"]),
            float(example["weight"]),
            int(example["position"]),
            bool(example["is_target"]),
            bool(example["is_ranked"]),
            repr(float(example["watch_time"])),
        )
        for example in examples
    )


@pytest.mark.parametrize("split", SPLITS)
def test_examples_are_those_of_the_prepared_tables(loaded, folder: Path, split: str):
    examples = got(loaded[0][split])
    assert len(examples) > 100
    assert examples == expected(folder, split)
    assert len({example[3] for example in examples}) > 10  # histories differ


def test_types_are_declared(loaded):
    spec = loaded[1].features.get_tensor_info()
    assert {name: info.tf_dtype.name for name, info in spec.items()} == {
        "user_id": "string",
        "query": "string",
        "time": "int64",
        "history": "string",
        "item_id": "string",
        "label": "int8",
        "weight": "float32",
        "position": "int16",
        "is_target": "bool",
        "is_ranked": "bool",
        "watch_time": "float32",
    }
    assert spec["history"].shape == (None,)
    assert set(loaded[1].splits) == set(SPLITS)


def test_order_is_the_same_wherever_it_is_written(loaded, folder: Path, tmp_path: Path):
    def values(examples: list[dict[str, Any]]) -> list[str]:
        return [repr(sorted(example.items(), key=lambda pair: pair[0])) for example in examples]

    again = open_prepared(folder, tmp_path, split="train")
    assert values(list(tfds.as_numpy(again))) == values(loaded[0]["train"])


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_file_format_can_be_chosen(file_format: str, folder: Path, tmp_path: Path):
    builder = tfds.builder(
        "tfrec_prepared", data_dir=tmp_path, folder=folder, file_format=file_format
    )
    builder.download_and_prepare()
    assert list(Path(builder.data_dir).glob(f"*.{file_format}-*"))
    if file_format == "array_record":  # rows in any order, without TensorFlow
        rows = builder.as_data_source(split="validation")
        assert got([rows[n] for n in range(len(rows))]) == expected(folder, "validation")
    else:
        rows = builder.as_dataset(split="validation")
        assert got(list(tfds.as_numpy(rows))) == expected(folder, "validation")


def test_second_load_reuses_what_was_written(loaded, folder: Path, data_dir: Path, monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError("prepared again")

    monkeypatch.setattr(tfrec.data.tfds_builder.TfrecPrepared, "_generate_examples", fail)
    again = open_prepared(folder, data_dir, split="test")
    assert got(list(tfds.as_numpy(again))) == got(loaded[0]["test"])


def test_two_folders_share_a_data_dir_without_meeting(loaded, folder, data_dir, tmp_path):
    # Both folders are called "prepare", as those of all runs are.
    other = make_prepared(tmp_path / "prepare", seed=7)
    part = open_prepared(other, data_dir, split="test")
    assert got(list(tfds.as_numpy(part))) == expected(other, "test")
    assert expected(other, "test") != expected(folder, "test")
    part = open_prepared(folder, data_dir, split="test")
    assert got(list(tfds.as_numpy(part))) == expected(folder, "test")


def test_folder_prepared_anew_is_read_anew(folder: Path, tmp_path: Path):
    changing = tmp_path / "prepare"
    shutil.copytree(folder, changing)
    first = tfds.builder("tfrec_prepared", data_dir=tmp_path, folder=changing)
    users = pl.read_parquet(changing / "users.parquet")
    users = users.with_columns(user_id="other-" + pl.col("user_id"))
    users.write_parquet(changing / "users.parquet")
    second = tfds.builder("tfrec_prepared", data_dir=tmp_path, folder=changing)
    assert first.data_dir != second.data_dir
    part = open_prepared(changing, tmp_path, split="test")
    assert all(example[0].startswith("other-") for example in got(list(tfds.as_numpy(part))))


def test_name_depends_on_the_data_alone(loaded, folder: Path, data_dir: Path, tmp_path: Path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(folder, moved)
    (moved / "stage.json").write_text("{}")  # a run writes it beside the data
    one, other = (
        tfds.builder("tfrec_prepared", data_dir=data_dir, folder=path) for path in (folder, moved)
    )
    assert one.data_dir == other.data_dir
    assert other.is_prepared()


def test_what_was_written_opens_without_the_folder(loaded, data_dir: Path):
    config = loaded[1].config_name
    part = tfds.load(f"tfrec_prepared/{config}", data_dir=data_dir, split="test")
    assert got(list(tfds.as_numpy(part))) == got(loaded[0]["test"])


def test_pickled_builder_is_the_same(loaded, folder: Path, data_dir: Path):
    builder = tfds.builder("tfrec_prepared", data_dir=data_dir, folder=folder)
    copy = pickle.loads(pickle.dumps(builder))
    assert copy.data_dir == builder.data_dir
    assert copy.info.splits["test"].num_examples == len(loaded[0]["test"])


@pytest.mark.parametrize("case", ["no such folder", "another folder"])
def test_folder_without_prepared_data_is_refused_by_name(case: str, tmp_path: Path):
    wrong = tmp_path / "wrong"
    if case == "another folder":
        wrong.mkdir()
        (wrong / "report.json").write_text("{}")
    with pytest.raises(ArtefactError, match=rf"{wrong}: holds no prepared data"):
        open_prepared(wrong, tmp_path)


def test_no_folder_is_refused_with_the_setting_to_give(tmp_path: Path):
    with pytest.raises(ArtefactError, match=r"wanted builder_kwargs=\{'folder': .*got no folder"):
        tfds.load("tfrec_prepared", data_dir=tmp_path)


def test_prepared_data_of_another_format_is_refused_by_name(folder: Path, tmp_path: Path):
    changed = tmp_path / "prepare"
    shutil.copytree(folder, changed)
    meta = (changed / "prepared.json").read_text()
    (changed / "prepared.json").write_text(
        meta.replace('"format_version": ', '"format_version": 9')
    )
    with pytest.raises(ArtefactError, match=rf"{changed}: wanted prepared data of format"):
        open_prepared(changed, tmp_path)
    assert not list((tmp_path / "tfrec_prepared").rglob("*.tfrecord*"))


def test_split_without_examples_is_left_out(folder: Path, tmp_path: Path, monkeypatch):
    whole = PreparedData.load(folder)
    monkeypatch.setattr(PreparedData, "load", lambda _: whole)
    of_split = PreparedData.split_mask
    monkeypatch.setattr(
        PreparedData,
        "split_mask",
        lambda data, split: of_split(data, split) & (split != "validation"),
    )
    parts = open_prepared(folder, tmp_path)
    assert set(parts) == {"train", "test"}


def test_load_in_a_fresh_process_needs_no_network(folder: Path, tmp_path: Path):
    code = (
        "import socket\n"
        "asked = []\n"
        "def refuse(*arguments, **_):\n"
        "    asked.append(arguments)\n"
        "    raise OSError('no network')\n"
        "socket.getaddrinfo = socket.create_connection = refuse\n"
        "socket.socket.connect = refuse\n"
        "import tfrec.data.tfds_builder\n"
        "import tensorflow_datasets as tfds\n"
        "parts = tfds.load('tfrec_prepared', data_dir=r'" + str(tmp_path) + "',\n"
        "                  builder_kwargs={'folder': r'" + str(folder) + "'})\n"
        "print('examples', sum(len(part) for part in parts.values()), 'asked', asked)\n"
    )
    # The file system of the cloud is C++ and asks past Python's sockets: a proxy that would
    # notice stands in its way.
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), address)
        result = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | proxies,
            check=False,
        )
        assert result.returncode == 0, result.stderr[-2000:]
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
    count = PreparedData.load(folder).examples.height
    assert f"examples {count} asked []" in result.stdout
