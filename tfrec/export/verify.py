"""Replays requests against an exported folder the way TF Serving loads it, in a fresh process.

Run as ``python -m tfrec.export.verify FOLDER REQUESTS ANSWERS OPERATIONS``; it loads no model code.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

_BATCHES = (0, 1, 1000)
"""Sizes of batches that every signature must answer, beside that of the requests."""


def replay(folder: Path, requests: Path, answers: Path, operations: Path) -> None:
    """Feeds the stored requests to every signature and stores what comes back.

    Batches of no, one and a thousand requests must get as many rows.

    Args:
        folder: A SavedModel.
        requests: npz with one array for each ``<signature>/<input>``.
        answers: npz to write, ``<signature>/<output>``.
        operations: JSON to write: by the library that registers them, the operations of the graph.
    """
    import tensorflow as tf

    used = _operations(folder)
    found_in = {"tensorflow": _registered(used)}
    import tensorflow_text  # noqa: F401  registers its operations

    found_in["tensorflow_text"] = _registered(used) - found_in["tensorflow"]
    if any(name.startswith("Scann>") for name in used):
        from scann.scann_ops.py import scann_ops  # noqa: F401  registers its operations

        found_in["scann"] = _registered(used) - found_in["tensorflow_text"] - found_in["tensorflow"]
    text = json.dumps({name: sorted(found) for name, found in found_in.items()})
    operations.write_text(text, encoding="utf-8")
    stored = dict(np.load(requests))
    found: dict[str, np.ndarray] = {}
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        graph = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(folder))
        for name in sorted({key.split("/")[0] for key in stored}):
            signature = graph.signature_def[name]
            feeds = {
                info.name: stored[f"{name}/{key}"].astype(
                    object
                    if info.dtype == tf.string.as_datatype_enum
                    else tf.as_dtype(info.dtype).as_numpy_dtype
                )
                for key, info in signature.inputs.items()
            }
            fetches = {key: info.name for key, info in signature.outputs.items()}
            for size in _BATCHES:
                taken = np.arange(size) % len(next(iter(feeds.values())))
                batch = {key: values[taken] for key, values in feeds.items()}
                for key, value in session.run(fetches, batch).items():
                    if len(value) != size:
                        raise ValueError(f"{name}, {key}: {len(value)} rows for a batch of {size}")
            for key, value in session.run(fetches, feeds).items():
                is_text = value.dtype == object
                found[f"{name}/{key}"] = np.char.decode(value.astype(bytes)) if is_text else value
    np.savez(answers, allow_pickle=False, **found)


def _operations(folder: Path) -> set[str]:
    """Returns the names of all operations of a SavedModel's graph."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = model.meta_graphs[0].graph_def
    functions = {function.signature.name for function in graph.library.function}
    nodes = [*graph.node, *(node for one in graph.library.function for node in one.node_def)]
    return {node.op for node in nodes} - functions


def _registered(names: set[str]) -> set[str]:
    """Returns those operations that this process knows by now."""
    from tensorflow.python.framework import op_def_registry

    return {name for name in names if op_def_registry.get(name) is not None}


if __name__ == "__main__":
    replay(*(Path(argument) for argument in sys.argv[1:5]))
