"""`tfrec train` in two processes that share each batch of retrieval."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfrec.errors import ConfigError
from tfrec.pipeline.pipeline import is_chief_of

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[2] / "configs" / "shop.yaml"
OVERRIDES = [
    "data.scale=0.02",
    "text.vocabulary_size=500",
    "encoder.source=nano",
    "encoder.pretraining.steps=0",
    "retrieval.embedding_dim=16",
    "retrieval.batch_size=64",
    "retrieval.epochs=2",
    "retrieval.item.id_dropout=0",  # what is drawn differs with the number of workers
    "retrieval.user.id_dropout=0",
    "retrieval.user.dropout=0",
    "run.health_alarm=off",
    "ranking.epochs=1",
    "evaluation.bootstrap=50",
]
SECONDS = 150


def start(folder: Path, *overrides: str, cluster: dict | None = None) -> subprocess.Popen:
    settings = [f"runs={folder}", *OVERRIDES, *overrides]
    arguments = [part for setting in settings for part in ("--set", setting)]
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    if cluster:
        environment["TF_CONFIG"] = json.dumps(cluster)
    return subprocess.Popen(
        [sys.executable, "-m", "tfrec", "evaluate", str(CONFIG), *arguments],
        env=environment | {"CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> str:
    try:
        output, _ = process.communicate(timeout=SECONDS)
    finally:
        process.kill()
    assert process.returncode == 0, output[-4000:]
    return output


def test_two_workers_train_as_one_and_the_chief_goes_on(tmp_path):
    sockets = [socket.socket() for _ in range(2)]
    for one in sockets:
        one.bind(("localhost", 0))
    workers = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()

    def start_worker(number: int) -> subprocess.Popen:
        task = {"type": "worker", "index": number}
        return start(
            tmp_path / "two",
            "run.strategy=multi_worker",
            cluster={"cluster": {"worker": workers}, "task": task},
        )

    chief, helper, alone = start_worker(0), start_worker(1), start(tmp_path / "one")
    try:
        told = finish(helper)
        report = finish(chief)
        finish(alone)
    finally:
        for process in (chief, helper, alone):
            process.kill()
    assert "running along" in told
    assert "the chief goes on alone" in told
    assert "evaluation: done" in report
    one, two = (
        np.load(tmp_path / name / "shop" / "retrieval" / "embeddings.npz")["items"]
        for name in ("one", "two")
    )
    np.testing.assert_allclose(two, one, atol=1e-3)
    # A further worker of a finished run has nothing to do.
    assert "retrieval: unchanged" in finish(start_worker(1))


def test_first_worker_is_chief_unless_the_cluster_names_one():
    workers = {"worker": ["a:1", "b:1"]}

    def is_chief(kind: str, index: int, **jobs: list[str]) -> bool:
        task = {"type": kind, "index": index}
        return is_chief_of(json.dumps({"cluster": workers | jobs, "task": task}))

    assert is_chief_of("")
    assert is_chief("worker", 0)
    assert not is_chief("worker", 1)
    assert is_chief("chief", 0, chief=["c:1"])
    assert not is_chief("worker", 0, chief=["c:1"])
    with pytest.raises(ConfigError, match="TF_CONFIG: wanted"):
        is_chief_of("worker 0")
