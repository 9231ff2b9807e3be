"""Requests that TensorFlow Serving answers before it takes a version into use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfrec.export.signatures import Signature
from tfrec.schema import Tensors

_BATCHES = (1, 8)


def write_warmup(
    folder: Path,
    signatures: Sequence[Signature],
    requests: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Writes ``assets.extra/tf_serving_warmup_requests``.

    The first request of a signature is slow, as its graph is optimised then. Each signature is
    asked once for one row and once for several.

    Args:
        folder: A SavedModel.
        signatures: Its signatures.
        requests: Signature to its input arrays.

    Source: tensorflow/serving, g3doc/saved_model_warmup.md.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    (folder / "assets.extra").mkdir(exist_ok=True)
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in signatures:
            inputs = requests.get(signature.name, {})
            for batch in _BATCHES if inputs else ():
                request = predict_pb2.PredictRequest()
                request.model_spec.signature_name = signature.name
                for info in signature.inputs:
                    rows = inputs[info.name][:batch]
                    if info.name == Tensors.EXCLUDE:  # other rows may exclude more
                        is_used = (rows != "").any(axis=0)
                        rows = rows[:, is_used] if is_used.any() else rows[:, :1]
                    value = tf.make_tensor_proto(rows, dtype=info.dtype)
                    request.inputs[info.name].CopyFrom(value)
                log = prediction_log_pb2.PredictLog(request=request)
                writer.write(prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
