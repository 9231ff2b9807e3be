"""Trains a tiny pair of towers with negatives from the whole batch; a process of its own.

Usage: two_towers.py FOLDER KIND...; writes FOLDER/<KIND>-<worker>.npz with the losses and the
finished weights. As many logical CPUs as replicas stand for GPUs.
"""

import json
import os
import sys
from pathlib import Path

import tfrec  # noqa: F401  isort: skip  comes before TensorFlow
import keras
import numpy as np
import tensorflow as tf

from tfrec.config.retrieval import Schedule
from tfrec.training.loop import Run, fit
from tfrec.training.optimizers import Group, OptimizerGroups, learning_rate
from tfrec.training.strategy import Replicas, make_replicas

NUM_ITEMS, DIM, ROUNDS, STEPS = 9, 4, 3, 4


def batch_of(number: int, step: int) -> dict[str, tf.Tensor]:
    """Five to eleven rows, so shares differ in length; items repeat within and across them."""
    draw = np.random.default_rng([number, step])
    size = 5 + 2 * step
    return {
        "features": tf.constant(draw.normal(size=(size, 3)).astype(np.float32)),
        "item_index": tf.constant(draw.integers(0, NUM_ITEMS, size, dtype=np.int32)),
        "weight": tf.constant(draw.uniform(0.5, 2.0, size).astype(np.float32)),
    }


def train(replicas: Replicas, folder: Path) -> tuple[list[float], list[np.ndarray]]:
    draw = np.random.default_rng(0)
    table = keras.Variable(draw.normal(size=(NUM_ITEMS, DIM)).astype(np.float32))
    keras.utils.set_random_seed(1)
    user_tower = keras.layers.Dense(DIM)
    # No bias: the loss does not change with it, so Adam would follow the rounding.
    item_tower = keras.layers.Dense(DIM, use_bias=False)
    user_tower.build((None, 3))
    item_tower.build((None, DIM))
    dense = [*user_tower.variables, *item_tower.variables]
    rate = learning_rate(Schedule(), 0.1, ROUNDS * STEPS)
    optimizers = OptimizerGroups(
        [Group([table], rate), Group(dense, rate, 0.1)], clip_norm=0.5, ema_decay=0.9
    )

    @tf.function(reduce_retracing=True, autograph=False)
    def step(batch):
        total_weight = tf.reduce_sum(batch["weight"])

        def share_gradients(share, first):
            index = share["item_index"]
            distinct, position = tf.unique(index)
            with tf.GradientTape() as tape:
                users = user_tower(share["features"])
                items = tf.gather(item_tower(tf.gather(table.value, distinct)), position)
                logits = tf.matmul(users, replicas.gather(items), transpose_b=True)
                own = first + tf.range(tf.size(index))
                same = index[:, None] == replicas.gather(index)[None, :]
                is_own = tf.one_hot(own, tf.shape(logits)[1]) > 0
                logits = tf.where(same & ~is_own, -1e9, logits)
                losses = tf.nn.sparse_softmax_cross_entropy_with_logits(own, logits)
                loss = tf.reduce_sum(losses * share["weight"]) / total_weight
            return loss, tape.gradient(loss, [w.value for w in optimizers.weights])

        loss, gradients = replicas.run(share_gradients, batch)
        return {"loss": loss, "gradient_norm": optimizers.apply(gradients)}

    run = Run(
        name="towers",
        rounds=ROUNDS,
        steps_per_round=STEPS,
        batches=lambda number, first: [batch_of(number, s) for s in range(first, STEPS)],
        step=step,
        variables=[*optimizers.weights, *optimizers.variables],
        weights=optimizers.weights,
        validate=lambda: {"metric": float(tf.reduce_sum(table.value))},
        monitor="metric",
        averaged=optimizers.averaged,
        replicas=replicas,
    )
    folder.mkdir(exist_ok=True)
    history = fit(run, folder, checkpoint_seconds=0)
    losses = [measured["loss"] for measured in history.rounds]
    return losses, [variable.numpy() for variable in run.variables]


def main() -> None:
    folder = Path(sys.argv[1])
    worker = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))["task"]["index"]
    for kind in sys.argv[2:]:
        if kind == "mirrored":
            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(
                cpu, [tf.config.LogicalDeviceConfiguration()] * 3
            )
        replicas = make_replicas(kind)
        losses, values = train(replicas, folder / f"{kind}-checkpoints")
        facts = [replicas.num_replicas, replicas.num_workers, replicas.is_chief]
        np.savez(folder / f"{kind}-{worker}.npz", *values, losses=losses, facts=facts)


if __name__ == "__main__":
    main()
