"""Replays requests against an exported folder the way TF Serving loads it, in a fresh process.

Run as ``python -m tfrec.export.verify FOLDER REQUESTS ANSWERS``; it loads no model code.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np


def replay(folder: Path, requests: Path, answers: Path) -> None:
    """Feeds the stored requests to every signature and stores what comes back.

    Args:
        folder: A SavedModel.
        requests: npz with one array for each ``<signature>/<input>``.
        answers: npz to write, ``<signature>/<output>``.
    """
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  registers its operations

    if _has_scann(folder):
        from scann.scann_ops.py import scann_ops  # noqa: F401  registers its operations

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
            for key, value in session.run(fetches, feeds).items():
                is_text = value.dtype == object
                found[f"{name}/{key}"] = np.char.decode(value.astype(bytes)) if is_text else value
    np.savez(answers, allow_pickle=False, **found)


def _has_scann(folder: Path) -> bool:
    return b"Scann>" in (folder / "saved_model.pb").read_bytes()


if __name__ == "__main__":
    replay(*(Path(argument) for argument in sys.argv[1:4]))
