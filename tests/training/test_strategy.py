import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfrec.training.strategy import Replicas, StrategyError, make_replicas

SCRIPT = Path(__file__).with_name("two_towers.py")


def test_one_device_sees_the_whole_batch():
    replicas = make_replicas("one_device")
    batch = {"rows": tf.constant([3.0, 5.0])}

    def function(share, first):
        gathered = replicas.gather(share["rows"])
        return {"first": first, "sum": tf.reduce_sum(gathered), "none": None}

    result = replicas.run(function, batch)
    assert (int(result["first"]), float(result["sum"]), result["none"]) == (0, 8.0, None)
    assert (replicas.num_replicas, replicas.num_workers, replicas.is_chief) == (1, 1, True)


def test_one_device_agrees_with_itself():
    measured = {"loss": 0.1, "metric": float("nan")}
    assert repr(Replicas().agree(measured)) == repr(measured)


def test_mirrored_strategy_on_a_single_device_is_one_device():
    assert make_replicas("mirrored").num_replicas == 1


def test_multi_worker_without_tf_config_says_what_is_missing(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(StrategyError, match="TF_CONFIG"):
        make_replicas("multi_worker")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


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


def finish(process: subprocess.Popen) -> None:
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output[-4000:]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    """Trains in three processes: one device, then three logical ones; and two workers."""
    folder = tmp_path_factory.mktemp("trained")
    workers = [f"localhost:{port}" for port in free_ports(2)]
    processes = [start(folder, "mirrored", "one_device")] + [
        start(
            folder,
            "multi_worker",
            tf_config={
                "cluster": {"worker": workers},
                "task": {"type": "worker", "index": number},
            },
        )
        for number in range(2)
    ]
    try:
        for process in processes:
            finish(process)
    finally:
        for process in processes:
            process.kill()
    return {path.stem: dict(np.load(path)) for path in folder.glob("*.npz")}


def weights_of(trained: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [trained[f"arr_{number}"] for number in range(len(trained) - 2)]


@pytest.mark.slow
def test_processes_know_their_part(trained):
    assert trained["one_device-0"]["facts"].tolist() == [1, 1, 1]
    assert trained["mirrored-0"]["facts"].tolist() == [3, 1, 1]
    assert trained["multi_worker-0"]["facts"].tolist() == [2, 2, 1]
    assert trained["multi_worker-1"]["facts"].tolist() == [2, 2, 0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mirrored-0", "multi_worker-0", "multi_worker-1"])
def test_replicas_train_as_one_device_does(trained, kind):
    np.testing.assert_allclose(
        trained[kind]["losses"], trained["one_device-0"]["losses"], atol=1e-5
    )
    for one, other in zip(
        weights_of(trained[kind]), weights_of(trained["one_device-0"]), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-5)
    assert len(set(trained[kind]["losses"])) == 3  # it has learned something


@pytest.mark.slow
def test_workers_end_with_the_very_same_weights(trained):
    for one, other in zip(
        weights_of(trained["multi_worker-0"]), weights_of(trained["multi_worker-1"]), strict=True
    ):
        np.testing.assert_array_equal(one, other)
