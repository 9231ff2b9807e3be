"""The signatures of an exported model: names, dtypes, shapes and meaning of every tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import tensorflow as tf

from tfrec.features.feature_type import FeatureType
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

    def to_dict(self) -> dict[str, Any]:
        """Returns the form for the manifest; NaN is the text "NaN", since JSON has none."""
        is_nan = self.neutral != self.neutral
        return {**asdict(self), "neutral": "NaN" if is_nan else self.neutral}

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
            "inputs": [info.to_dict() for info in self.inputs],
            "outputs": [info.to_dict() for info in self.outputs],
        }


def build_signatures(recommender: Recommender) -> list[Signature]:
    """Derives the signatures from what the recommender was built for."""
    request, outputs = _request_inputs(recommender), _answer_outputs(recommender)
    filtered = [*request, *_filter_inputs(recommender)]
    has_towers = recommender.retrieval is not None
    recommend = Signature(
        Signatures.RECOMMEND,
        "Retrieves, leaves out the history, sorts by what both stages say; best first."
        if has_towers
        else "Leaves out the history and sorts all other items by click log-odds; best first.",
        filtered,
        _recommended(recommender, outputs),
        recommender.recommend,
    )
    given_items = replace(_ITEM_ID, meaning="Ids of the items to rank; '' pads.", neutral="")
    rank = Signature(
        Signatures.RANK,
        "Scores the given items, in their order.",
        [*request, given_items],
        outputs,
        recommender.rank,
    )
    if not has_towers:
        return [recommend, rank]
    return [
        recommend,
        rank,
        *_search_signatures(recommender, recommend, request),
        *_encode_signatures(recommender, request),
    ]


def _answer_outputs(recommender: Recommender) -> list[TensorInfo]:
    """Lists what is said of every item: score, probability, what further heads predict."""
    ranking = recommender.ranking
    answers = [
        _number(Tensors.PROBABILITY, "Probability of a click when shown first, in [0, 1]."),
        *(
            _number(name, f"Probability of {name}, in [0, 1].")
            if ranking.is_probability(name)
            else _number(name, f"Expected {name}.")
            for name in ranking.head_names[1:]
        ),
    ]
    return answers if recommender.retrieval is None else [_score(recommender), *answers]


def _recommended(recommender: Recommender, outputs: Sequence[TensorInfo]) -> list[TensorInfo]:
    """Lists what `recommend` answers with."""
    sources = []
    if recommender.has_several_sources:
        meaning = "Names of the sources that propose the item, with commas between."
        sources = [TensorInfo(Tensors.SOURCES, "string", [None, None], meaning)]
    return _of_width(recommender.k, _ITEM_ID, *outputs, *sources)


def _search_signatures(
    recommender: Recommender, recommend: Signature, request: Sequence[TensorInfo]
) -> list[Signature]:
    """Returns what finds items: for a request, for a search text alone, for an item."""
    score, filters = _score(recommender), _filter_inputs(recommender)
    query = [info for info in request if info.name == Tensors.QUERY]
    item = TensorInfo(Tensors.ITEM_ID, "string", [None], "Item id.", "")
    return [
        Signature(
            Signatures.RETRIEVE,
            "Retrieves candidates and leaves out the history; best score first.",
            recommend.inputs,
            _of_width(recommender.num_candidates, _ITEM_ID, score),
            recommender.retrieve,
        ),
        Signature(
            Signatures.SEARCH,
            "Answers a search text of which nothing else is known, as `recommend` does.",
            [*query, *filters],
            recommend.outputs,
            partial(_with_neutral, recommend),
        ),
        Signature(
            Signatures.SIMILAR_ITEMS,
            "Finds the items closest to an item of the catalogue; best score first.",
            [item, *filters],
            _of_width(recommender.k, _ITEM_ID, score),
            recommender.similar_items,
        ),
    ]


def _encode_signatures(recommender: Recommender, request: Sequence[TensorInfo]) -> list[Signature]:
    """Returns what embeds requests and items."""
    towers = recommender.retrieval
    assert towers is not None  # the caller asks
    meaning = "Of length 1." if towers.is_unit else "Of any length."
    embedding = TensorInfo(Tensors.EMBEDDING, "float32", [None, towers.embedding_dim], meaning)
    return [
        Signature(
            Signatures.ENCODE_USER,
            "Embeds requests.",
            list(request),
            [embedding],
            lambda request: {Tensors.EMBEDDING: recommender.encode_user(request)},
        ),
        Signature(
            Signatures.ENCODE_ITEM,
            "Embeds items, known or new.",
            _item_inputs(recommender),
            [embedding],
            lambda item: {Tensors.EMBEDDING: recommender.encode_item(item)},
        ),
    ]


def _score(recommender: Recommender) -> TensorInfo:
    """Describes the retrieval score: a cosine only where the towers give unit vectors."""
    towers = recommender.retrieval
    if towers is not None and towers.is_unit:
        meaning = "Retrieval score in [-1, 1], the cosine of user and item."
    else:
        meaning = "Retrieval score, the dot product of user and item: any number."
    return _number(Tensors.SCORE, meaning)


def _with_neutral(signature: Signature, given: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Asks a signature with what says "unknown" in place of the inputs that are not given."""
    batch = tf.shape(next(iter(given.values())))[0]
    unknown = {}
    for info in signature.inputs:
        row = tf.constant(info.neutral_values(1), tf.as_dtype(info.dtype))
        unknown[info.name] = tf.repeat(row, batch, axis=0)
    return signature.function({**unknown, **given})


def _number(name: str, meaning: str) -> TensorInfo:
    return TensorInfo(name, "float32", [None, None], meaning)


def _of_width(width: int, *infos: TensorInfo) -> list[TensorInfo]:
    return [replace(info, shape=[None, width]) for info in infos]


_ITEM_ID = TensorInfo(Tensors.ITEM_ID, "string", [None, None], "Item id; '' pads.")
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
)
_TIME = TensorInfo(
    Tensors.TIME, "int64", [None], "When is asked, seconds since 1970; 0 for unknown.", 0
)


def _request_inputs(recommender: Recommender) -> list[TensorInfo]:
    inputs, retrieval = recommender.inputs, recommender.retrieval
    has_clock = recommender.ranking.time_features
    history_meaning = "Item ids the user chose before, oldest first; '' pads. "
    optional: list[TensorInfo] = []
    if retrieval is None:
        history_meaning += "They are left out of the answer."
        optional += [_TIME] if has_clock else []
    else:
        history_meaning += (
            f"The last {retrieval.max_history} shape the answer, all are left out of it."
        )
        optional += [
            *(_HISTORY_KIND if retrieval.reads_event_kinds else ()),
            *(_HISTORY_TIMES if retrieval.reads_time_gaps else ()),
            *([_TIME] if retrieval.reads_time_gaps or has_clock else []),
            TensorInfo(Tensors.QUERY, "string", [None], "Search text; '' for none.", ""),
            *(
                TensorInfo(column, "string", [None], f"User text {column!r}.", "")
                for column in inputs.user_text
            ),
        ]
    return [
        TensorInfo(Tensors.USER_ID, "string", [None], "User id.", ""),
        TensorInfo(Tensors.HISTORY, "string", [None, None], history_meaning, ""),
        *optional,
        *(_feature_input(feature) for feature in inputs.request_features),
    ]


def _filter_inputs(recommender: Recommender) -> list[TensorInfo]:
    def texts(name: str, meaning: str) -> TensorInfo:
        return TensorInfo(name, "string", [None, None], f"{meaning}; '' pads.", "")

    inputs = [texts(Tensors.EXCLUDE, "Ids of items that are left out of the answer")]
    for name in recommender.filters.names:
        inputs += [
            texts(f"{Tensors.ALLOW}{name}", f"Values of {name!r}, one of which an item must have"),
            texts(f"{Tensors.DENY}{name}", f"Values of {name!r} that no item may have"),
        ]
    return inputs


def _item_inputs(recommender: Recommender) -> list[TensorInfo]:
    inputs = recommender.inputs
    return [
        TensorInfo(Tensors.ITEM_ID, "string", [None], "Item id; '' for a new item.", ""),
        *(
            TensorInfo(column, "string", [None], f"Item text {column!r}.", "")
            for column in inputs.item_text
        ),
        *(_feature_input(feature) for feature in inputs.item_features),
    ]


def _feature_input(feature: FeatureType) -> TensorInfo:
    return TensorInfo(feature.name, **asdict(feature.signature()))
