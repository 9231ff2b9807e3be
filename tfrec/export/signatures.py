"""The signatures of an exported model: names, dtypes, shapes and meaning of every tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.data.tabular import FeatureEncoder
from tfrec.recommender import Recommender
from tfrec.schema import Signatures, Tensors


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a signature.

    Attributes:
        name: Key in requests and answers.
        dtype: ``string``, ``float32`` or ``int64``.
        shape: Dimensions; None where any size is allowed.
        meaning: For people.
        neutral: Value that says "unknown"; None for outputs.
    """

    name: str
    dtype: str
    shape: list[int | None]
    meaning: str
    neutral: str | float | None = None

    def neutral_values(self, batch: int) -> np.ndarray:
        """Returns what says "unknown", [batch, ...], with 1 for dimensions of any size."""
        shape = [batch, *(1 if size is None else size for size in self.shape[1:])]
        return np.full(shape, self.neutral, object if self.dtype == "string" else self.dtype)

    def spec(self) -> tf.TensorSpec:
        """Returns the TensorFlow form."""
        return tf.TensorSpec(self.shape, tf.as_dtype(self.dtype), name=self.name)


@dataclass(frozen=True)
class Signature:
    """One entry point of an exported model."""

    name: str
    meaning: str
    inputs: list[TensorInfo]
    outputs: list[TensorInfo]
    answer: Callable[[Mapping[str, tf.Tensor]], dict[str, tf.Tensor]]

    @cached_property
    def function(self) -> Any:
        """The `tf.function` that takes a mapping of the inputs; traced once."""
        specs = {info.name: info.spec() for info in self.inputs}
        return tf.function(self.answer, input_signature=[specs], autograph=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns the description for the manifest."""
        return {
            "meaning": self.meaning,
            "inputs": [asdict(info) for info in self.inputs],
            "outputs": [asdict(info) for info in self.outputs],
        }


def build_signatures(recommender: Recommender) -> list[Signature]:
    """Derives the signatures from what the recommender was built for."""
    request, item = _request_inputs(recommender), _item_inputs(recommender)
    k, num_candidates = recommender.k, recommender.num_candidates
    dim = recommender.retrieval.embedding_dim

    def answers(size: int | None, *names: str) -> list[TensorInfo]:
        meanings = {
            Tensors.ITEM_ID: ("string", "Item id; '' pads."),
            Tensors.SCORE: ("float32", "Retrieval score in [-1, 1], the cosine of user and item."),
            Tensors.PROBABILITY: ("float32", "Probability of a click when shown first, in [0, 1]."),
        }
        return [TensorInfo(n, meanings[n][0], [None, size], meanings[n][1]) for n in names]

    given_items = TensorInfo(
        Tensors.ITEM_ID, "string", [None, None], "Ids of the items to rank; '' pads.", ""
    )
    embedding = TensorInfo(Tensors.EMBEDDING, "float32", [None, dim], "Of length 1.")
    return [
        Signature(
            Signatures.RECOMMEND,
            "Retrieves, leaves out the history, sorts by click log-odds and score; best first.",
            request,
            answers(k, Tensors.ITEM_ID, Tensors.SCORE, Tensors.PROBABILITY),
            recommender.recommend,
        ),
        Signature(
            Signatures.RETRIEVE,
            "Retrieves candidates and leaves out the history; best score first.",
            request,
            answers(num_candidates, Tensors.ITEM_ID, Tensors.SCORE),
            recommender.retrieve,
        ),
        Signature(
            Signatures.RANK,
            "Scores the given items, in their order.",
            [*request, given_items],
            answers(None, Tensors.SCORE, Tensors.PROBABILITY),
            recommender.rank,
        ),
        Signature(
            Signatures.ENCODE_USER,
            "Embeds requests.",
            request,
            [embedding],
            lambda request: {Tensors.EMBEDDING: recommender.encode_user(request)},
        ),
        Signature(
            Signatures.ENCODE_ITEM,
            "Embeds items, known or new.",
            item,
            [embedding],
            lambda item: {Tensors.EMBEDDING: recommender.encode_item(item)},
        ),
    ]


_OF_HISTORY = "for each item of `history`, or for the last of them"
_HISTORY_KIND = (
    TensorInfo(
        Tensors.HISTORY_KIND,
        "string",
        [None, None],
        f"Kind of event {_OF_HISTORY}; '' for unknown. Of several events with one item in a row, "
        "the last.",
        "",
    ),
)
_HISTORY_TIMES = (
    TensorInfo(
        Tensors.HISTORY_TIME,
        "int64",
        [None, None],
        f"Seconds since 1970 {_OF_HISTORY}; 0 for unknown. Of several events with one item in a "
        "row, the first.",
        0,
    ),
    TensorInfo(
        Tensors.TIME, "int64", [None], "When is asked, seconds since 1970; 0 for unknown.", 0
    ),
)


def _request_inputs(recommender: Recommender) -> list[TensorInfo]:
    inputs = recommender.inputs
    history = recommender.retrieval.history
    return [
        TensorInfo(Tensors.USER_ID, "string", [None], "User id.", ""),
        TensorInfo(
            Tensors.HISTORY,
            "string",
            [None, None],
            f"Item ids the user chose before, oldest first; '' pads. The last "
            f"{recommender.retrieval.max_history} shape the answer, all are left out of it.",
            "",
        ),
        *(_HISTORY_KIND if history.event_kinds else ()),
        *(_HISTORY_TIMES if history.time_gaps else ()),
        TensorInfo(Tensors.QUERY, "string", [None], "Search text; '' for none.", ""),
        *(
            TensorInfo(column, "string", [None], f"User text {column!r}.", "")
            for column in inputs.user_text
        ),
        *(_feature_input(encoder) for encoder in inputs.request_features),
    ]


def _item_inputs(recommender: Recommender) -> list[TensorInfo]:
    inputs = recommender.inputs
    return [
        TensorInfo(Tensors.ITEM_ID, "string", [None], "Item id; '' for a new item.", ""),
        *(
            TensorInfo(column, "string", [None], f"Item text {column!r}.", "")
            for column in inputs.item_text
        ),
        *(_feature_input(encoder) for encoder in inputs.item_features),
    ]


def _feature_input(encoder: FeatureEncoder) -> TensorInfo:
    name = encoder.name
    if encoder.type == "category":
        return TensorInfo(name, "string", [None], f"Category {name!r}.", "")
    if encoder.type == "category_list":
        return TensorInfo(name, "string", [None, None], f"Categories {name!r}; '' pads.", "")
    if encoder.type == "vector":
        return TensorInfo(name, "float32", [None, encoder.size], f"Vector {name!r}.", 0.0)
    meaning = f"Number {name!r}; 0 for unknown."
    if encoder.type == "date":
        meaning = f"Date {name!r} in days since 1970-01-01; 0 for unknown."
    return TensorInfo(name, "float32", [None], meaning, 0.0)
