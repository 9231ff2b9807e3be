"""What a recommender keeps of items and users, and what requests bring along."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from tfrec.config import Filters
from tfrec.features import FeatureType, encode_frame
from tfrec.recommender.changes import Changes
from tfrec.schema import Columns


@dataclass(frozen=True)
class ItemAttribute:
    """What requests may allow or deny items by.

    Attributes:
        values: All values that occur; value v has the code v + 1.
        codes: int32 [n + 1, width], the codes of each item; 0 pads.
    """

    values: Sequence[str]
    codes: np.ndarray


@dataclass(frozen=True)
class Catalogue:
    """What the recommender keeps of items and users.

    Attributes:
        item_ids: The n items' outside ids.
        item_id_rows: int32 [n + 1], rows of the id table.
        item_inputs: Encoded item features, [n + 1, ...] each.
        user_ids: Outside ids of the known users.
        user_id_rows: int32 [num_users + 1].
        item_embeddings: float32 [n + 1, embedding_dim], row 0 zeros; None without towers.
        attributes: By name, what requests may allow or deny items by.
        is_available: bool [n + 1], false for items that no request gets; None: all are available.
        ranked_embeddings: The same from the ranking model's own towers; None where it has none.
    """

    item_ids: Sequence[str]
    item_id_rows: np.ndarray
    item_inputs: Mapping[str, np.ndarray]
    user_ids: Sequence[str]
    user_id_rows: np.ndarray
    item_embeddings: np.ndarray | None = None
    ranked_embeddings: np.ndarray | None = None
    attributes: Mapping[str, ItemAttribute] = field(default_factory=dict)
    is_available: np.ndarray | None = None


def changed_catalogue(
    catalogue: Catalogue,
    changes: Changes,
    items: pl.DataFrame,
    features: Sequence[FeatureType],
) -> Catalogue:
    """Appends added items to a catalogue; items that another row stands for lose their id.

    Args:
        catalogue: Of the training, n items.
        changes: What was added and removed since.
        items: All rows, the n of the training first.
        features: Fitted encoders of the item features.
    """
    added = encode_frame(list(features), items[len(catalogue.item_ids) :], with_unknown_row=False)
    ids = items[Columns.ITEM_ID].to_list()
    for index in changes.replaced:
        ids[index - 1] = ""
    ranked = catalogue.ranked_embeddings
    if ranked is not None and changes.ranked_embeddings is not None:
        ranked = np.concatenate([ranked, changes.ranked_embeddings])
    assert catalogue.item_embeddings is not None  # only models with towers know new items
    return replace(
        catalogue,
        item_ids=ids,
        item_id_rows=np.pad(catalogue.item_id_rows, (0, changes.items.height)),
        item_inputs={
            name: _stacked(values, added[name]) for name, values in catalogue.item_inputs.items()
        },
        item_embeddings=np.concatenate([catalogue.item_embeddings, changes.embeddings]),
        ranked_embeddings=ranked,
    )


def _stacked(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Puts rows below rows; lists of different lengths are padded with 0."""
    parts = [one, other]
    if one.ndim > 1:
        width = max(part.shape[1] for part in parts)
        parts = [np.pad(part, ((0, 0), (0, width - part.shape[1]))) for part in parts]
    return np.concatenate(parts)


def item_filters(
    items: pl.DataFrame, declared: Filters, gone: Collection[int] = ()
) -> dict[str, Any]:
    """Reads from the prepared items what a catalogue keeps for filters.

    Args:
        items: One row an item, with the declared columns.
        declared: Which columns those are.
        gone: Indices of items that no answer holds any more.

    Returns:
        ``attributes`` and ``is_available`` of `Catalogue`.
    """
    attributes = {name: _attribute(items[name]) for name in [*declared.attributes, *declared.caps]}
    is_available = np.ones(items.height + 1, bool)
    for name in declared.available:
        is_available[1:] &= (items[name].fill_null(1) != 0).to_numpy()
    for name in declared.unsafe:
        is_available[1:] &= (items[name].fill_null(0).fill_nan(0) == 0).to_numpy()
    is_available[list(gone)] = False
    return {"attributes": attributes, "is_available": is_available}


def _attribute(column: pl.Series) -> ItemAttribute:
    lists = (
        column if column.dtype == pl.List else column.fill_null("").reshape((-1, 1)).arr.to_list()
    )
    lengths = lists.list.len().fill_null(0).to_numpy()
    texts = lists.explode().drop_nulls() if lengths.sum() else pl.Series([], dtype=pl.String)
    values = sorted(set(texts) - {""})
    codes = np.zeros((len(column) + 1, max(1, int(lengths.max(initial=0)))), np.int32)
    is_value = np.arange(codes.shape[1]) < lengths[:, None]
    number_of = {value: number for number, value in enumerate(values, start=1)} | {"": 0}
    codes[1:][is_value] = texts.replace_strict(number_of, return_dtype=pl.Int32).to_numpy()
    return ItemAttribute(values, codes)


@dataclass(frozen=True)
class Inputs:
    """Names of the columns that requests and items bring along.

    Attributes:
        user_text: Text columns of users, read before the query.
        request_features: Encoders of user attributes and request features.
        item_text: Text columns of items.
        item_features: Encoders of item features.
        event_kinds: Names of the kinds of events; kind k is the one at k - 1.
    """

    user_text: Sequence[str]
    request_features: Sequence[FeatureType]
    item_text: Sequence[str]
    item_features: Sequence[FeatureType]
    event_kinds: Sequence[str] = ()
