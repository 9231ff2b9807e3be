"""Which servers can load a graph, told from its operations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

CORE, TEXT, SCANN = "tensorflow", "tensorflow_text", "scann"

Operations = Mapping[str, Sequence[str]]
"""By the library that registers them, the operations of a graph."""

_SINCE_2_12 = {
    "CaseFoldUTF8",
    "FastBertNormalize",
    "FastWordpieceTokenizeWithOffsets",
    "NormalizeUTF8",
    "RegexSplitWithOffsets",
    "WordpieceTokenizeWithOffsets",
}
"""Those of TensorFlow Text that every TensorFlow Serving from 2.12 on registers."""


def servers(operations: Operations) -> dict[str, Any]:
    """Tells who can load a graph.

    Returns:
        ``tensorflow_serving``: the lowest version of the stock server, None where none can;
        ``libraries``: what another program must load before the model; ``note`` for people.

    Source: The libraries that tensorflow/serving links in, at the tags 2.12.1 to 2.20.0: core
        TensorFlow, TensorFlow Text and decision forests.
    """
    libraries = [name for name in (TEXT, SCANN) if operations.get(name)]
    if operations.get(SCANN):
        lowest = None
        note = (
            "Only a server built with ScaNN's operations can load it; stock TensorFlow Serving "
            "says `Op type not registered`. The portable export needs no such server."
        )
    else:
        is_old = {name.split(">")[-1] for name in operations.get(TEXT, ())} <= _SINCE_2_12
        lowest = "2.12" if is_old else "2.20"
        note = f"Stock TensorFlow Serving {lowest} and later can load it."
    return {"tensorflow_serving": lowest, "libraries": libraries, "note": note}
