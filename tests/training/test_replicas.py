"""Retrieval trained by several devices or workers is retrieval trained by one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_model import NOTHING_HIDDEN

from tfrec.config import Config
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading.sources import read_source

SCRIPT = Path(__file__).with_name("train_replicas.py")
TARGETS = ("requests", "positions")


def start(folder: Path, *kinds: str, tf_config: dict | None = None) -> subprocess.Popen:
    environment = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"}
    if tf_config:
        environment["TF_CONFIG"] = json.dumps(tf_config)
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), str(folder), *kinds],
        env=environment | {"CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes: subprocess.Popen) -> None:
    try:
        for process in processes:
            output, _ = process.communicate(timeout=300)
            assert process.returncode == 0, output[-4000:]
    finally:
        for process in processes:
            process.kill()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def folder(vocabulary, make_config, tmp_path_factory) -> Path:
    """What the processes read."""
    folder = tmp_path_factory.mktemp("replicas")
    loss = {"log_q": "negatives", "negatives": {"impressed": 2}}
    config: Config = make_config(retrieval=NOTHING_HIDDEN | {"epochs": 3, "loss": loss})
    (folder / "config.json").write_text(config.model_dump_json(exclude_unset=True))
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary))
    (folder / "prepared").mkdir()
    prepare(read_source(config.data, config.seed), config, folder / "prepared")
    return folder


@pytest.fixture(scope="module")
def devices(folder) -> Path:
    finish(start(folder, "mirrored", "one_device"))
    return folder


@pytest.fixture(scope="module")
def workers(devices) -> Path:
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(2)]}
    tasks = [{"type": "worker", "index": number} for number in range(2)]
    finish(
        *[
            start(devices, "multi_worker", tf_config={"cluster": cluster, "task": task})
            for task in tasks
        ]
    )
    return devices


def weights_of(trained: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [trained[f"arr_{number}"] for number in range(len(trained) - 2)]


def assert_trained_alike(folder: Path, one: str, other: str) -> None:
    first, second = (dict(np.load(folder / f"{name}.npz")) for name in (one, other))
    assert first["losses"][-1] < first["losses"][0] - 0.1  # something was learned
    np.testing.assert_allclose(second["losses"], first["losses"], atol=1e-4)
    for ours, wanted in zip(weights_of(second), weights_of(first), strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("targets", TARGETS)
def test_two_devices_train_as_one_does(targets, devices):
    assert np.load(devices / f"mirrored-{targets}-0.npz")["facts"].tolist() == [2, 1]
    assert_trained_alike(devices, f"one_device-{targets}-0", f"mirrored-{targets}-0")


@pytest.mark.slow
@pytest.mark.parametrize("targets", TARGETS)
def test_two_workers_train_as_one_process_does(targets, workers):
    for number in range(2):
        name = f"multi_worker-{targets}-{number}"
        assert np.load(workers / f"{name}.npz")["facts"].tolist() == [2, 2]
        assert_trained_alike(workers, f"one_device-{targets}-0", name)


@pytest.mark.slow
@pytest.mark.parametrize("targets", TARGETS)
def test_two_workers_end_with_the_very_same_weights(targets, workers):
    first, second = (
        dict(np.load(workers / f"multi_worker-{targets}-{number}.npz")) for number in range(2)
    )
    for ours, wanted in zip(weights_of(second), weights_of(first), strict=True):
        np.testing.assert_array_equal(ours, wanted)
