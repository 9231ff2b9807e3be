"""One batch shared among devices and machines, with the result of one device.

Each process keeps one copy of the weights, in ordinary variables. A step hands every replica its
rows of the batch, adds up what the replicas return (losses, gradients), and each process then
updates its own copy; equal sums leave equal copies. So model, optimiser and checkpoint know nothing
of replicas. The devices of one process read the weights from its first device: where that is the
bottleneck, start one process per GPU.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from tfrec.errors import TfrecError

Share = Callable[[dict[str, tf.Tensor], tf.Tensor], Any]
"""From a replica's rows of a batch and the number of its first row, an int32 scalar, to a nest of
tensors, `IndexedSlices` and None."""


class StrategyError(TfrecError):
    """The devices or workers cannot train together."""


class Replicas:
    """Those that share each batch.

    Replica r of R takes the rows from r * n // R to (r + 1) * n // R of a batch of n >= R rows, so
    the shares side by side are the batch, and no row is padding.

    Args:
        strategy: Of TensorFlow; None: one device.

    Attributes:
        num_replicas: Devices of all processes together.
        num_workers: Processes.
        is_chief: Whether this process writes files; one process of each run does.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        self._strategy = strategy
        resolver = strategy.cluster_resolver if strategy else None
        workers = _tasks(resolver.cluster_spec()) if resolver else [("worker", 0)]
        self.num_replicas: int = strategy.num_replicas_in_sync if strategy else 1
        self.num_workers = max(1, len(workers))
        here = (resolver.task_type, resolver.task_id) if resolver else workers[0]
        self.is_chief = self.num_workers == 1 or here == workers[0]

    def run(self, function: Share, batch: Mapping[str, tf.Tensor]) -> Any:
        """Calls `function` in every replica and adds up what it returns.

        Args:
            function: Sees its rows alone; what all replicas need whole, such as the sum of the
                batch's weights, it takes from outside. A loss it returns must be its part of the
                batch's loss, and a gradient that of this part.
            batch: Tensors [n, ...] by name, the same in every process, n >= `num_replicas`.

        Returns:
            The sums, in the form that `function` returned; None where it returned None.
        """
        if self._strategy is None:
            return function(dict(batch), tf.constant(0))

        def run_replica() -> Any:
            context = tf.distribute.get_replica_context()
            share, first = self._share(batch, context.replica_id_in_sync_group)
            results = tf.nest.flatten(returned := function(share, first))
            present = [value for value in results if value is not None]
            summed = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, present))
            return tf.nest.pack_sequence_as(
                returned, [None if value is None else next(summed) for value in results]
            )

        return _run_once(self._strategy, run_replica)

    def gather(self, tensor: tf.Tensor) -> tf.Tensor:
        """Inside `run`: the rows of all replicas, in the order of the batch.

        Args:
            tensor: [m, ...], one row for each of the share's rows, or any number m of them.

        Returns:
            [sum of all m, ...]. Its gradient adds up what all replicas' results owe to each row.
        """
        if self._strategy is None:
            return tensor
        gathered = tf.distribute.get_replica_context().all_gather(tensor, axis=0)
        return _with_dense_gradient(gathered)

    def once(self, tensor: tf.Tensor) -> tf.Tensor:
        """Inside `run`: makes the sum over replicas be the first one's `tensor`.

        For what each replica knows alike, such as a gathered tensor.
        """
        if self._strategy is None:
            return tensor
        rank = tf.distribute.get_replica_context().replica_id_in_sync_group
        return tf.where(tf.equal(rank, 0), tensor, tf.zeros_like(tensor))

    def agree(self, measured: Mapping[str, float]) -> dict[str, float]:
        """Returns the chief's figures in every process, so that all decide alike.

        No process returns before all have called it.
        """
        if self.num_workers == 1:
            return dict(measured)
        own = list(measured.values()) if self.is_chief else [0.0] * len(measured)
        return dict(zip(measured, self._sum_over_workers([*own, 0.0]), strict=False))

    def check_equal(self, variables: Sequence[keras.Variable]) -> None:
        """Checks that all processes hold the same values.

        Raises:
            StrategyError: They differ, so training would drift apart.
        """
        if self.num_workers == 1:
            return
        checksum = 0
        for variable in variables:
            values = np.ascontiguousarray(keras.ops.convert_to_numpy(variable))
            checksum = zlib.crc32(values.tobytes(), checksum)
        if self._sum_over_workers([float(checksum)]) != [float(checksum) * self.num_workers]:
            raise StrategyError(
                "The workers start from different weights. Wanted the same configuration, seed, "
                "data and checkpoints for all: let them work on one shared folder."
            )

    def _share(
        self, batch: Mapping[str, tf.Tensor], rank: tf.Tensor
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
        num_rows = tf.shape(next(iter(batch.values())))[0]
        first = rank * num_rows // self.num_replicas
        end = (rank + 1) * num_rows // self.num_replicas
        return {name: values[first:end] for name, values in batch.items()}, first

    def _sum_over_workers(self, values: list[float]) -> list[float]:
        """Adds up each worker's values."""
        strategy = self._strategy
        assert strategy is not None, "there are several workers"
        # Each local device adds the same: of these, the first speaks for the worker.
        per_worker = self.num_replicas // self.num_workers

        @tf.function(autograph=False)
        def add(own: tf.Tensor) -> tf.Tensor:
            def run_replica() -> tf.Tensor:
                context = tf.distribute.get_replica_context()
                is_first = tf.equal(context.replica_id_in_sync_group % per_worker, 0)
                part = tf.where(is_first, own, tf.zeros_like(own))
                return context.all_reduce(tf.distribute.ReduceOp.SUM, part)

            return _run_once(strategy, run_replica)

        return add(tf.constant(values, tf.float64)).numpy().tolist()


def make_replicas(kind: Literal["one_device", "mirrored", "multi_worker"]) -> Replicas:
    """Returns the replicas of this process's devices or of all workers' devices.

    Args:
        kind: ``one_device``; ``mirrored``: all GPUs of this machine; ``multi_worker``: all workers
            that the environment variable ``TF_CONFIG`` names. The last must be made before
            TensorFlow has computed anything, and waits until all workers have come.

    Raises:
        StrategyError: ``TF_CONFIG`` is missing, or TensorFlow is already at work.
    """
    if kind == "one_device":
        return Replicas()
    if kind == "mirrored":
        strategy = tf.distribute.MirroredStrategy()
        return Replicas(strategy if strategy.num_replicas_in_sync > 1 else None)
    if not os.environ.get("TF_CONFIG"):
        raise StrategyError(
            "`strategy: multi_worker` wants the environment variable TF_CONFIG to name the workers "
            'and this one among them: {"cluster": {"worker": ["host1:port", "host2:port"]}, '
            '"task": {"type": "worker", "index": 0}}. It is not set.'
        )
    try:
        return Replicas(tf.distribute.MultiWorkerMirroredStrategy())
    except RuntimeError as error:
        raise StrategyError(
            f"The workers cannot be joined any more: {error}. Call `make_replicas` before anything "
            "else that computes with TensorFlow."
        ) from error


@tf.custom_gradient
def _with_dense_gradient(tensor: tf.Tensor) -> tuple[tf.Tensor, Callable[[Any], tf.Tensor]]:
    """Returns `tensor`, whose gradient `all_gather` then gets whole: it knows no slices."""
    return tf.identity(tensor), tf.convert_to_tensor


def _run_once(strategy: tf.distribute.Strategy, function: Callable[[], Any]) -> Any:
    """Runs a function whose answer is the same in all replicas; returns this process's first."""
    return tf.nest.map_structure(
        lambda value: value if value is None else strategy.experimental_local_results(value)[0],
        strategy.run(function),
    )


def _tasks(cluster: tf.train.ClusterSpec) -> list[tuple[str, int]]:
    """Returns the training tasks of a cluster, the chief first."""
    counts = {job: cluster.num_tasks(job) for job in ("chief", "worker") if job in cluster.jobs}
    return [(job, number) for job, count in counts.items() for number in range(count)]
