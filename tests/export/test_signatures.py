import json
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfrec.config import Ranking
from tfrec.export.signatures import Signature, TensorInfo, build_signatures
from tfrec.features import Number, Vector
from tfrec.models.build import ranking_model

PLAIN = {"user_id": "string", "history": "string", "query": "string"}
KINDS = {"history_kind": "string"}
TIMES = {"history_time": "int64", "time": "int64"}


ANSWERED = ("recommend", "retrieve", "rank", "similar_items", "encode_user", "encode_item")
FILTERS = {"exclude_item_ids": "string"}


def signatures(
    several_sources: bool = False,
    attributes: tuple[str, ...] = (),
    *,
    event_kinds: bool = False,
    time_gaps: bool = False,
    is_unit: bool = True,
) -> dict[str, Signature]:
    """Returns the signatures of a recommender whose towers read histories in this way."""

    def answer(request: Any) -> Any:
        return request

    retrieval = SimpleNamespace(
        embedding_dim=8,
        max_history=5,
        reads_event_kinds=event_kinds,
        reads_time_gaps=time_gaps,
        is_unit=is_unit,
    )
    recommender: Any = SimpleNamespace(
        retrieval=retrieval,
        ranking=ranking_model([], [], Ranking(), num_items=3),
        inputs=SimpleNamespace(user_text=[], request_features=[], item_text=[], item_features=[]),
        k=3,
        num_candidates=9,
        has_several_sources=several_sources,
        filters=SimpleNamespace(names=attributes),
        **dict.fromkeys(ANSWERED, answer),
    )
    return {signature.name: signature for signature in build_signatures(recommender)}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, PLAIN),
        ({"event_kinds": True}, PLAIN | KINDS),
        ({"time_gaps": True}, PLAIN | TIMES),
        ({"event_kinds": True, "time_gaps": True}, PLAIN | KINDS | TIMES),
    ],
)
def test_request_has_kinds_and_times_only_if_they_are_read(asked: dict, expected: dict):
    found = signatures(**asked)
    assert {info.name: info.dtype for info in found["encode_user"].inputs} == expected
    for name in ("recommend", "retrieve"):
        assert {info.name: info.dtype for info in found[name].inputs} == expected | FILTERS
    assert {info.name: info.dtype for info in found["rank"].inputs} == {
        **expected, "item_id": "string",
    }  # fmt: skip
    assert [info.name for info in found["encode_item"].inputs] == ["item_id"]


def test_neutral_values_have_the_type_and_shape_of_their_tensor():
    inputs = {
        info.name: info for info in signatures(event_kinds=True, time_gaps=True)["rank"].inputs
    }
    described = signatures(time_gaps=True)["recommend"].to_dict()["inputs"]
    assert {info["name"]: info["neutral"] for info in described}["history_time"] == 0
    kind, time = inputs["history_kind"].neutral_values(2), inputs["time"].neutral_values(3)
    assert kind.tolist() == [[""], [""]]
    assert kind.dtype == object
    assert time.tolist() == [0, 0, 0]
    assert time.dtype == np.int64
    for info in inputs.values():
        assert info.spec().is_compatible_with(tf.constant(info.neutral_values(2)))


def test_neutral_number_is_nan_and_a_text_in_the_manifest():
    info = TensorInfo("age", **asdict(Number("age").signature()))
    assert np.isnan(info.neutral_values(2)).tolist() == [True, True]
    assert info.neutral_values(2).dtype == np.float32
    assert json.loads(json.dumps(info.to_dict(), allow_nan=False))["neutral"] == "NaN"
    vector = TensorInfo("image", **asdict(Vector("image", size=3).signature()))
    assert vector.neutral_values(1).tolist() == [[0.0, 0.0, 0.0]]
    assert vector.to_dict()["neutral"] == 0.0


def test_score_is_a_cosine_and_embeddings_have_length_1_only_if_towers_say_so():
    for is_unit in (True, False):
        found = signatures(is_unit=is_unit)
        described = {name: signature.to_dict() for name, signature in found.items()}
        for name in ("recommend", "retrieve", "rank", "search", "similar_items"):
            meanings = {info["name"]: info["meaning"] for info in described[name]["outputs"]}
            assert ("[-1, 1], the cosine" in meanings["score"]) is is_unit
        for name in ("encode_user", "encode_item"):
            assert (described[name]["outputs"][0]["meaning"] == "Of length 1.") is is_unit


def test_answers_name_their_sources_only_if_there_are_several():
    one, several = signatures()["recommend"], signatures(several_sources=True)["recommend"]
    assert [info.name for info in one.outputs] == ["item_id", "score", "probability"]
    assert [info.name for info in several.outputs][3:] == ["sources"]
    assert several.outputs[-1].dtype == "string"


def test_attributes_can_be_allowed_and_denied_where_items_are_searched():
    found = signatures(attributes=("brand",))
    wanted = {"exclude_item_ids", "allow_brand", "deny_brand"}
    searching = ("recommend", "retrieve", "search", "similar_items")
    for name, signature in found.items():
        inputs = {info.name: info for info in signature.inputs}
        assert wanted & set(inputs) == (wanted if name in searching else set())
        assert all(inputs[key].neutral == "" for key in wanted & set(inputs))


def test_search_takes_a_text_alone_and_fills_in_what_is_unknown():
    found = signatures(event_kinds=True, time_gaps=True)
    assert [info.name for info in found["search"].inputs] == ["query", "exclude_item_ids"]
    given = {"query": tf.constant(["a", "b"]), "exclude_item_ids": tf.constant([["i"], [""]])}
    asked = found["search"].answer(given)
    whole = found["recommend"].inputs
    assert set(asked) == {info.name for info in whole}
    for info in whole:
        assert asked[info.name].dtype == tf.as_dtype(info.dtype)
        assert asked[info.name].shape[0] == 2
        if info.name not in given:
            np.testing.assert_array_equal(
                asked[info.name],
                info.neutral_values(2).astype(bytes if info.dtype == "string" else info.dtype),
            )
