"""Trains retrieval in one process and in two workers, and compares their loss curves.

Usage: python benchmarks/two_workers.py [--config FILE] [--set KEY=VALUE ...]

The workers share each batch: `MultiWorkerMirroredStrategy` on this machine, one process each. Both
runs see the same batches, so the curves must agree as far as float32 sums do, on any number of
workers. Dropout draws anew in each worker and is off here. On a machine whose cores both workers
share, two of them are no faster than one.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CONFIG = Path(__file__).parents[1] / "configs" / "shop.yaml"
SETTINGS = [
    "data.scale=0.1",
    "encoder.source=nano",
    "retrieval.batch_size=256",
    "retrieval.epochs=4",
    "retrieval.item.id_dropout=0",
    "retrieval.item.feature_dropout=0",
    "retrieval.user.id_dropout=0",
    "retrieval.user.dropout=0",
    "retrieval.user.history.dropout=0",
    "run.health_alarm=off",
]
KINDS = {"one_device": 1, "multi_worker": 2}


def prepare(path: Path, settings: list[str], runs: Path) -> None:
    """Runs the stages that retrieval reads from, once for all; run in a process of its own."""
    from tfrec import Pipeline, load_config

    Pipeline(load_config(path, [*settings, f"runs={runs}"])).run(until="tokens")


def train(path: Path, settings: list[str], runs: Path, kind: str, results: Path) -> None:
    """Trains as one of the processes of a run, and writes its losses."""
    from tfrec import Pipeline, load_config
    from tfrec.environment import start_tensorflow
    from tfrec.pipeline.models import input_tables, new_retrieval
    from tfrec.training.retrieval import train_retrieval
    from tfrec.training.strategy import make_replicas

    replicas = make_replicas(kind)  # before TensorFlow computes
    config = load_config(path, [*settings, f"runs={runs}"])
    start_tensorflow(config.seed)
    pipeline = Pipeline(config)
    model = new_retrieval(pipeline.artefacts)
    folder = results / kind / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    history = train_retrieval(
        model, pipeline.data, input_tables(pipeline.artefacts), config, folder, replicas=replicas
    )
    facts = {
        "losses": [measured["loss"] for measured in history.rounds],
        "seconds": time.perf_counter() - start,
        "workers": replicas.num_workers,
    }
    if replicas.is_chief:
        (results / f"{kind}.json").write_text(json.dumps(facts), encoding="utf-8")


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("localhost", 0))
        return int(one.getsockname()[1])


def start(arguments: list[str], tf_config: dict | None = None) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
    if tf_config:
        environment["TF_CONFIG"] = json.dumps(tf_config)
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        env=environment | {"CUDA_VISIBLE_DEVICES": "-1"},
        stdout=subprocess.DEVNULL,
    )


def finish(processes: list[subprocess.Popen]) -> None:
    try:
        while any(process.poll() is None for process in processes):
            if any(process.poll() for process in processes):  # the others would wait for it
                break
            time.sleep(0.1)
        if any(process.poll() for process in processes):
            sys.exit("A process has failed; its errors are above.")
    finally:
        for process in processes:
            process.kill()


def compare(arguments: list[str], results: Path) -> None:
    """Starts all processes and prints the curves side by side."""
    finish([start([*arguments, "--part", "prepare", "--work", str(results)])])
    found = {}
    for kind, count in KINDS.items():
        workers = [f"localhost:{free_port()}" for _ in range(count)]
        tasks = [
            {"cluster": {"worker": workers}, "task": {"type": "worker", "index": number}}
            for number in range(count)
        ]
        finish(
            [
                start(
                    [*arguments, "--part", kind, "--work", str(results)],
                    task if count > 1 else None,
                )
                for task in tasks
            ]
        )
        found[kind] = json.loads((results / f"{kind}.json").read_text(encoding="utf-8"))
    one, two = (found[kind]["losses"] for kind in KINDS)
    print(f"{'round':>5} {'one process':>12} {'two workers':>12} {'difference':>11}")
    for number, (first, second) in enumerate(zip(one, two, strict=True), start=1):
        print(f"{number:>5} {first:>12.6f} {second:>12.6f} {second - first:>+11.1e}")
    largest = max(abs(second - first) for first, second in zip(one, two, strict=True))
    print(f"largest difference {largest:.1e}")
    print(", ".join(f"{kind}: {found[kind]['seconds']:.1f} s" for kind in KINDS))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    settings = [*SETTINGS, *arguments.set]
    if arguments.part == "prepare":
        prepare(arguments.config, settings, arguments.work / "runs")
    elif arguments.part:
        train(arguments.config, settings, arguments.work / "runs", arguments.part, arguments.work)
    else:
        with tempfile.TemporaryDirectory() as folder:
            compare(sys.argv[1:], Path(folder))


if __name__ == "__main__":
    main()
