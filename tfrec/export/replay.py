"""Real requests for verification, and the sample that a run shows to people."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import tensorflow as tf

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.export.signatures import TensorInfo, build_signatures
from tfrec.features.feature_type import FeatureType
from tfrec.recommender import Recommender
from tfrec.schema import Columns, Signatures, Tensors

_MICROSECONDS = 1_000_000
_BLOCK = 1024
_ODD_TEXTS = ("", "no such id", "naïve café 靴 🛒", "null \x00 byte", "word " * 2000)
_MAX_EXCLUDED = 5000


def replay_requests(
    data: PreparedData, config: Config, recommender: Recommender
) -> dict[str, dict[str, np.ndarray]]:
    """Draws test requests and catalogue items, and adds odd ones.

    Odd are those of which nothing is known and those with `_ODD_TEXTS` in every text; in a
    catalogue that is not large one of them also excludes all of it.

    Returns:
        Signature to its inputs; strings are object arrays.
    """
    rng = np.random.default_rng(config.seed)
    contexts = data.examples["context"].to_numpy()[data.target_rows("test")]
    chosen = rng.choice(contexts, min(config.export.replay_rows, len(contexts)), replace=False)
    items = np.sort(
        rng.choice(data.num_items, min(config.export.replay_rows, data.num_items), replace=False)
    )
    inputs = {
        signature.name: {info.name: info for info in signature.inputs}
        for signature in build_signatures(recommender)
    }
    known = raw_requests(data, config, chosen)
    filtered = odd_rows(inputs[Signatures.RECOMMEND])
    request = {name: _append(known[name], filtered[name]) for name in filtered if name in known}
    count = len(request[Tensors.HISTORY])
    filtered = {name: np.repeat(rows[:1], count, axis=0) for name, rows in filtered.items()}
    # Half of the requests leave out what others chose.
    history = request[Tensors.HISTORY]
    excluded = np.where(np.arange(count)[:, None] % 2, history[::-1], "")
    ids = data.items[Columns.ITEM_ID].to_numpy().astype(object)
    if len(ids) <= _MAX_EXCLUDED:
        excluded = np.pad(excluded, ((0, 0), (0, len(ids))), constant_values="")
        excluded[-1, -len(ids) :] = ids
    filtered[Tensors.EXCLUDE] = excluded
    filtered |= request
    pairs = rng.choice(ids, (count, 5))
    pairs[-1, -1] = ""
    pairs[-len(_ODD_TEXTS) :, 0] = _ODD_TEXTS
    own = {
        Signatures.RANK: {Tensors.ITEM_ID: pairs},
        Signatures.SIMILAR_ITEMS: {Tensors.ITEM_ID: pairs[:, 0]},
    }
    if Signatures.ENCODE_ITEM in inputs:
        catalogue = raw_items(data.items[items], data.item_features, config)
        odd = odd_rows(inputs[Signatures.ENCODE_ITEM])
        own[Signatures.ENCODE_ITEM] = {n: _append(rows, odd[n]) for n, rows in catalogue.items()}
    values = {name: {**filtered, **own.get(name, {})} for name in inputs}
    return {name: {key: values[name][key] for key in inputs[name]} for name in inputs}


def odd_rows(inputs: Mapping[str, TensorInfo]) -> dict[str, np.ndarray]:
    """Returns a row for each of `_ODD_TEXTS`: it stands in every text, numbers are unknown.

    The first row says nothing at all.
    """
    rows = {name: info.neutral_values(len(_ODD_TEXTS)) for name, info in inputs.items()}
    texts = np.array(_ODD_TEXTS, dtype=object)
    return {
        name: np.broadcast_to(texts.reshape(-1, *[1] * (values.ndim - 1)), values.shape)
        if values.dtype == object
        else values
        for name, values in rows.items()
    }


def raw_requests(data: PreparedData, config: Config, contexts: np.ndarray) -> dict[str, np.ndarray]:
    """Turns rows of the prepared contexts back into the raw inputs of a request."""
    frame = data.contexts[contexts]
    users = data.users[frame["user_index"].to_numpy() - 1]
    item_ids = np.array(["", *data.items[Columns.ITEM_ID].to_list()], dtype=object)
    events = data.history_events(contexts)
    request = {
        Tensors.USER_ID: _texts(users[Columns.USER_ID]),
        Tensors.HISTORY: item_ids[events.items],
        Tensors.QUERY: _texts(frame[Columns.QUERY]),
    }
    history = config.retrieval.user.history
    if history.event_kinds:
        kinds = np.array(["", *data.event_kinds], dtype=object)
        request[Tensors.HISTORY_KIND] = kinds[events.kinds]
    if history.time_gaps:
        request[Tensors.HISTORY_TIME] = events.times // _MICROSECONDS
    if history.time_gaps or config.ranking.time_features:
        request[Tensors.TIME] = data.request_times(contexts) // _MICROSECONDS
    request |= _raw_text(config.data.users.text, users[Columns.TEXT])
    request |= {f.name: f.request_values(users[f.name]) for f in data.user_features}
    return request | {f.name: f.request_values(frame[f.name]) for f in data.context_features}


def raw_items(
    items: pl.DataFrame, features: Sequence[FeatureType], config: Config
) -> dict[str, np.ndarray]:
    """Turns rows of the prepared items back into the raw inputs of `encode_item`."""
    item = {Tensors.ITEM_ID: _texts(items[Columns.ITEM_ID])}
    item |= _raw_text(config.data.items.text, items[Columns.TEXT])
    return item | {f.name: f.request_values(items[f.name]) for f in features}


def encode_in_blocks(
    encode: Callable[[dict[str, tf.Tensor]], tf.Tensor], raw: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Encodes raw items block by block; float32 [n, embedding_dim]."""
    compiled = tf.function(encode, autograph=False, reduce_retracing=True)
    count = len(raw[Tensors.ITEM_ID])
    found = []
    for start in range(0, count, _BLOCK):
        block = {name: values[start : start + _BLOCK] for name, values in raw.items()}
        found.append(compiled({n: tf.constant(v, _dtype(v)) for n, v in block.items()}).numpy())
    return np.concatenate(found)


def _dtype(values: np.ndarray) -> tf.DType:
    return tf.string if values.dtype == object else tf.as_dtype(values.dtype)


def _raw_text(columns: list[str], text: pl.Series) -> dict[str, np.ndarray]:
    """Puts a prepared text, which is already joined, into the first of its columns."""
    values = [_texts(text), *(np.full(len(text), "", dtype=object) for _ in columns[1:])]
    return dict(zip(columns, values, strict=False))


def sample_request(
    data: PreparedData, config: Config, recommender: Recommender, k: int = 10
) -> dict[str, Any]:
    """Asks for the test user with the longest history and names the items.

    Returns:
        ``user_id``, ``query``, the last items as ``history_ids`` (oldest first) and ``history``
        (titles, newest first), and ``items`` (rank, item_id, title, and the rest of the answer).
    """
    contexts = np.unique(data.examples["context"].to_numpy()[data.target_rows("test")])
    frame = data.contexts[contexts]
    length = frame["history_end"].to_numpy() - frame["history_start"].to_numpy()
    has_query = (frame[Columns.QUERY] != "").to_numpy()
    chosen = contexts[[int(np.argmax(np.where(has_query, -1, length)))]]
    request = raw_requests(data, config, chosen)
    answer = recommender.recommend({name: tf.constant(value) for name, value in request.items()})
    others = {name: values[0].numpy() for name, values in answer.items() if name != Tensors.ITEM_ID}
    titles = dict(data.items.select(Columns.ITEM_ID, Columns.TITLE).iter_rows())
    found = [value.decode() for value in answer[Tensors.ITEM_ID][0, :k].numpy() if value]
    history = [item for item in request[Tensors.HISTORY][0] if item]
    return {
        "user_id": request[Tensors.USER_ID][0],
        "query": request[Tensors.QUERY][0],
        "history_ids": history[-5:],
        "history": [titles[item] for item in reversed(history[-5:])],
        "items": [
            {
                "rank": rank + 1,
                "item_id": item,
                "title": titles[item],
                **{name: _plain(values[rank]) for name, values in others.items()},
            }
            for rank, item in enumerate(found)
        ],
    }


def _plain(value: Any) -> str | float:
    return value.decode() if isinstance(value, bytes) else float(value)


def _texts(column: pl.Series) -> np.ndarray:
    return np.array(column.to_list(), dtype=object)


def _append(rows: np.ndarray, more: np.ndarray) -> np.ndarray:
    if rows.ndim > 1 and more.shape[1:] != rows.shape[1:]:
        more = np.broadcast_to(more, (len(more), *rows.shape[1:]))
    return np.concatenate([rows, more])
