"""Trains the small retrieval model on the devices of one process; started once for each process.

Usage: train_replicas.py FOLDER KIND...; reads FOLDER/config.json, FOLDER/vocabulary.json and
FOLDER/prepared, and writes FOLDER/<KIND>-<targets>-<worker>.npz with the losses of the rounds and
the finished weights. Two logical CPUs stand for GPUs.
"""

import json
import os
import sys
from pathlib import Path

import tfrec  # noqa: F401  isort: skip  comes before TensorFlow
import keras
import numpy as np
import tensorflow as tf
from small_model import small_model

from tfrec.config import parse_config
from tfrec.data.dataset import PreparedData
from tfrec.encoders.tokenizer import tokenize_texts
from tfrec.inputs.batches import InputTables
from tfrec.training.retrieval import train_retrieval
from tfrec.training.strategy import make_replicas

BATCH_SIZES = {"requests": 160, "positions": 40}


def main() -> None:
    folder = Path(sys.argv[1])
    worker = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
    vocabulary = json.loads((folder / "vocabulary.json").read_text())
    for kind in sys.argv[2:]:
        if kind == "mirrored":
            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(
                cpu, [tf.config.LogicalDeviceConfiguration()] * 2
            )
        replicas = make_replicas(kind)
        data = PreparedData.load(folder / "prepared")
        items = tokenize_texts(vocabulary, ["", *data.items["text"].to_list()], 16, "items")
        texts = tokenize_texts(vocabulary, data.texts, 8, "texts")
        for targets, batch_size in BATCH_SIZES.items():
            settings = json.loads((folder / "config.json").read_text())
            settings["retrieval"]["loss"]["targets"] = targets
            settings["retrieval"]["batch_size"] = batch_size
            config = parse_config(settings)
            model = small_model(data, vocabulary, config)
            state = folder / f"{kind}-{targets}" / "checkpoints"
            state.mkdir(parents=True, exist_ok=True)
            tables = InputTables(data, items, texts)
            history = train_retrieval(model, data, tables, config, state, replicas)
            np.savez(
                folder / f"{kind}-{targets}-{worker}.npz",
                *[keras.ops.convert_to_numpy(v) for v in model.variables],
                losses=[measured["loss"] for measured in history.rounds],
                facts=[replicas.num_replicas, replicas.num_workers],
            )


if __name__ == "__main__":
    main()
