"""From raw tables to the prepared data set: type, check, label, split by time, index.

Every step is a pure function of frames. What is dropped is counted in the report.
"""

from __future__ import annotations

import html
import math

import numpy as np
import polars as pl

from tfrec.config import Config, Data, Events, Features
from tfrec.data import convert
from tfrec.data.dataset import PreparedData
from tfrec.data.read import require_columns
from tfrec.data.sources import RawTables
from tfrec.data.tabular import fit_features
from tfrec.errors import DataError
from tfrec.schema import SPLITS, Columns

_USER, _ITEM, _TIME = Columns.USER_ID, Columns.ITEM_ID, Columns.TIME


def prepare(raw: RawTables, config: Config) -> PreparedData:
    """Builds the prepared data set.

    Raises:
        DataError: A column is missing, a cell does not fit its role, an item is unknown (with
            ``unknown_items: error``) or a split is left without events.
    """
    data = config.data
    items = type_items(raw, data)
    events, counts = type_events(raw, data)
    users = type_users(raw, data, events)
    events, num_dropped = match_items(events, items, raw, data)
    events = events.with_columns(
        split_by_time(events[_TIME], data.split.validation, data.split.test)
    )
    events = events.sort(_TIME, _USER, maintain_order=True)

    item_index = pl.DataFrame({_ITEM: items[_ITEM]}).with_row_index("item_index", offset=1)
    user_index = pl.DataFrame({_USER: users[_USER]}).with_row_index("user_index", offset=1)
    events = events.join(item_index, on=_ITEM, how="left", maintain_order="left")
    events = events.join(user_index, on=_USER, how="left", maintain_order="left")
    events = events.with_columns(_request_text(events, users, data).alias(Columns.TEXT))

    contexts, events = build_contexts(events, data.events.context)
    history_items, starts, ends = build_histories(events, contexts, users.height)
    texts, text_index = _distinct_texts(contexts[Columns.TEXT])
    contexts = contexts.with_columns(
        pl.col("user_index").cast(pl.Int32),
        pl.Series("text_index", text_index),
        pl.Series("history_start", starts),
        pl.Series("history_end", ends),
    )
    examples = build_examples(events)

    is_train = contexts[Columns.SPLIT].to_numpy() == SPLITS.index("train")
    in_train = examples.filter(pl.Series(is_train[examples["context"].to_numpy()]))
    train_contexts = contexts.filter(pl.Series(is_train))
    train_items = items[np.unique(in_train["item_index"].to_numpy()) - 1]
    train_users = users[np.unique(train_contexts["user_index"].to_numpy()) - 1]
    prepared = PreparedData(
        items=items,
        users=users,
        texts=texts,
        contexts=contexts.drop(Columns.TEXT),
        examples=examples,
        history_items=history_items,
        item_features=fit_features(data.items.features, train_items),
        user_features=fit_features(data.users.features, train_users),
        context_features=fit_features(data.events.context, train_contexts),
        max_history=data.max_history,
        report={**counts, "events_of_unknown_items_dropped": num_dropped},
    )
    _check_splits(prepared)
    return _with_counts(prepared)


def type_items(raw: RawTables, data: Data) -> pl.DataFrame:
    """Types the catalogue: item_id, title, text and features; ids must be unique."""
    declared, origin = data.items, raw.origins["items"]
    frame = raw.items
    require_columns(
        frame, [declared.item_id, declared.title, *declared.text, *declared.features], origin
    )
    if frame.is_empty():
        raise DataError(f"{origin}: wanted at least one item, the table is empty.")
    ids = convert.to_ids(frame, declared.item_id, origin)
    _check_unique(ids, declared.item_id, origin)
    text = [_clean_text(convert.to_text(frame, column, origin)) for column in declared.text]
    return pl.DataFrame(
        [
            ids.alias(_ITEM),
            _clean_text(convert.to_text(frame, declared.title, origin)).alias(Columns.TITLE),
            _join_text(text).alias(Columns.TEXT),
            *_type_features(frame, declared.features, origin),
        ]
    )


def type_users(raw: RawTables, data: Data, events: pl.DataFrame) -> pl.DataFrame:
    """Types the users; users that only events name follow, with unknown attributes."""
    declared = data.users
    in_events = events.select(_USER).unique(maintain_order=True).sort(_USER)
    if raw.users is None:
        if declared.features or declared.text:
            raise DataError("data.users: attributes are declared but there is no user table.")
        return in_events.with_columns(pl.lit("").alias(Columns.TEXT))
    frame, origin = raw.users, raw.origins["users"]
    require_columns(frame, [declared.user_id, *declared.text, *declared.features], origin)
    ids = convert.to_ids(frame, declared.user_id, origin)
    _check_unique(ids, declared.user_id, origin)
    text = [_clean_text(convert.to_text(frame, column, origin)) for column in declared.text]
    users = pl.DataFrame(
        [
            ids.alias(_USER),
            _join_text(text, frame.height).alias(Columns.TEXT),
            *_type_features(frame, declared.features, origin),
        ]
    )
    strangers = in_events.join(users, on=_USER, how="anti").with_columns(
        pl.lit("").alias(Columns.TEXT)
    )
    return pl.concat([users, strangers], how="diagonal")


def type_events(raw: RawTables, data: Data) -> tuple[pl.DataFrame, dict[str, object]]:
    """Types the events and gives each its label and weight.

    Returns:
        Columns user_id, item_id, time, label (int8), weight (float32), is_ranked, is_target,
        query, position, true_probability and context features; and what was counted.
    """
    declared, origin, frame = data.events, raw.origins["events"], raw.events
    optional = [declared.kind, declared.rating, declared.query, declared.position]
    needed = [declared.user_id, declared.item_id, declared.time, *declared.context]
    needed += [column for column in (*optional, declared.true_probability) if column]
    require_columns(frame, needed, origin)
    if frame.is_empty():
        raise DataError(f"{origin}: wanted at least one event, the table is empty.")
    zeros = pl.Series("zeros", np.zeros(frame.height, np.float32))
    events = pl.DataFrame(
        [
            convert.to_ids(frame, declared.user_id, origin).alias(_USER),
            convert.to_ids(frame, declared.item_id, origin).alias(_ITEM),
            convert.to_times(frame, declared.time, origin).alias(_TIME),
            *_label(frame, declared, origin),
            (
                convert.to_text(frame, declared.query, origin)
                if declared.query
                else zeros.cast(pl.String)
            ).alias(Columns.QUERY),
            (convert.to_numbers(frame, declared.position, origin) if declared.position else zeros)
            .fill_null(0).clip(0, 1000).cast(pl.Int16).alias(Columns.POSITION),
            (
                convert.to_numbers(frame, declared.true_probability, origin)
                .cast(pl.Float32).fill_null(float("nan"))
                if declared.true_probability
                else zeros + float("nan")
            ).alias(Columns.TRUE_PROBABILITY),
            *_type_features(frame, declared.context, origin),
        ]
    )  # fmt: skip
    if not declared.query:
        events = events.with_columns(pl.lit("").alias(Columns.QUERY))
    num_read = events.height
    events = events.unique(maintain_order=True)
    counts: dict[str, object] = {
        "events_read": num_read,
        "duplicate_events_dropped": num_read - events.height,
    }
    return events, counts


def match_items(
    events: pl.DataFrame, items: pl.DataFrame, raw: RawTables, data: Data
) -> tuple[pl.DataFrame, int]:
    """Refuses or drops (and counts) events whose item is not in the catalogue."""
    known = events[_ITEM].is_in(items[_ITEM].implode())
    num_unknown = int((~known).sum())
    if not num_unknown:
        return events, 0
    if data.unknown_items == "error":
        first = events[_ITEM].filter(~known)[0]
        ids = convert.to_ids(raw.events, data.events.item_id, raw.origins["events"])
        row = (ids == first).arg_max()
        assert row is not None
        raise DataError(
            f"{raw.origins['events']}: row {row + 1}, column {data.events.item_id!r}: wanted an "
            f"item of {raw.origins['items']}, got {first!r} ({num_unknown} events like it). "
            "Add the item or set data.unknown_items: drop."
        )
    events = events.filter(known)
    if events.is_empty():
        raise DataError(
            f"{raw.origins['events']}: no event names an item of {raw.origins['items']}."
        )
    return events, num_unknown


def split_by_time(times: pl.Series, validation: float, test: float) -> pl.Series:
    """Cuts at time quantiles; events of one instant are never torn apart.

    Returns:
        int8 series ``split``: position in `SPLITS`.
    """
    ordered = times.sort()
    n = len(ordered)
    # Rounded first: 10 * (0.3 + 0.3) is a little more than 6 in floating point.
    num_test = math.ceil(round(n * test, 6))
    num_late = math.ceil(round(n * (test + validation), 6))
    test_from, validation_from = ordered[n - num_test], ordered[n - num_late]
    is_late = (times >= validation_from).cast(pl.Int8) + (times >= test_from).cast(pl.Int8)
    return is_late.alias(Columns.SPLIT)


def build_contexts(
    events: pl.DataFrame, context_features: Features
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Finds the distinct requests (user, time, text, context features).

    Returns:
        The contexts in order of first appearance, and the events with their ``context`` row.
    """
    keys = ["user_index", _TIME, Columns.TEXT, Columns.QUERY, *context_features, Columns.SPLIT]
    contexts = events.select(keys).unique(keep="first", maintain_order=True)
    rows = contexts.with_row_index("context")
    events = events.join(rows, on=keys, how="left", nulls_equal=True, maintain_order="left")
    return contexts, events


def build_histories(
    events: pl.DataFrame, contexts: pl.DataFrame, num_users: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Stores each user's positive items once and gives every request its range.

    An item that directly follows itself (click, then cart) is stored once. A request's range ends
    strictly before its time, so a label never sits in its own history.

    Returns:
        history_items int32 [num_positives]; start and end int32 [num_contexts].
    """
    positives = events.filter(pl.col(Columns.LABEL) == 1).sort(
        "user_index", _TIME, maintain_order=True
    )
    user = positives["user_index"].to_numpy()
    item = positives["item_index"].to_numpy()
    repeats = np.zeros(len(user), bool)
    repeats[1:] = (user[1:] == user[:-1]) & (item[1:] == item[:-1])
    user, item = user[~repeats], item[~repeats].astype(np.int32)
    times = positives[_TIME].to_physical().to_numpy()[~repeats]
    of_context = contexts[_TIME].to_physical().to_numpy()

    instants, context_rank = np.unique(of_context, return_inverse=True)
    rank = np.searchsorted(instants, times, side="right")  # <= r: strictly before instant r
    width = len(instants) + 2
    key = user.astype(np.int64) * width + rank
    context_user = contexts["user_index"].to_numpy().astype(np.int64)
    starts = np.searchsorted(key, context_user * width)
    ends = np.searchsorted(key, context_user * width + context_rank, side="right")
    return item, starts.astype(np.int32), ends.astype(np.int32)


def build_examples(events: pl.DataFrame) -> pl.DataFrame:
    """Keeps the events that train or test a model; see `PreparedData.examples`.

    A target is a user's first positive event with an item: what was found before need not be
    retrieved again.
    """
    positive = events[Columns.LABEL] == 1
    # Events are in time order, so the first distinct (user, item) is the earliest.
    triples = events.select(pl.struct("user_index", "item_index", positive.alias("positive")))
    is_first = triples.to_series().is_first_distinct()
    events = events.with_columns(pl.col(Columns.IS_TARGET) & positive & is_first)
    return events.filter(pl.col(Columns.IS_TARGET) | pl.col(Columns.IS_RANKED)).select(
        pl.col("context").cast(pl.Int32),
        pl.col("item_index").cast(pl.Int32),
        Columns.LABEL,
        Columns.WEIGHT,
        Columns.POSITION,
        Columns.IS_TARGET,
        Columns.IS_RANKED,
        Columns.TRUE_PROBABILITY,
    )


def _label(frame: pl.DataFrame, declared: Events, origin: str) -> list[pl.Series]:
    """Returns the series label, weight, is_ranked and is_target."""
    if declared.kind:
        kinds = frame[declared.kind].cast(pl.String)
        known = kinds.is_in(list(declared.kinds)).fill_null(False)
        if not known.all():
            row = int(np.argmin(known.to_numpy()))
            raise DataError(
                f"{origin}: row {row + 1}, column {declared.kind!r}: wanted one of "
                f"{', '.join(declared.kinds)}, got {kinds[row]!r}."
            )

        def by_kind(values: list[float]) -> pl.Series:
            mapping = dict(zip(declared.kinds, values, strict=True))
            return kinds.replace_strict(mapping, return_dtype=pl.Float32)

        settings = declared.kinds.values()
        labels = by_kind([float(kind.label) for kind in settings])
        weights = by_kind([kind.weight for kind in settings])
        ranked = by_kind([float(kind.ranked) for kind in settings]) > 0
        targets = by_kind([float(kind.target) for kind in settings]) > 0
    else:
        weights = pl.Series(np.ones(frame.height, np.float32))
        ranked = targets = weights > 0
        labels = weights
        if declared.rating:
            ratings = convert.to_numbers(frame, declared.rating, origin)
            convert.require_values(ratings, frame, declared.rating, origin, "a rating")
            labels = ratings >= declared.positive_rating
    return [
        labels.cast(pl.Int8).alias(Columns.LABEL),
        weights.cast(pl.Float32).alias(Columns.WEIGHT),
        ranked.alias(Columns.IS_RANKED),
        targets.alias(Columns.IS_TARGET),
    ]


def _type_features(frame: pl.DataFrame, declared: Features, origin: str) -> list[pl.Series]:
    typed = []
    for name, feature in declared.items():
        if feature.type == "number":
            typed.append(convert.to_numbers(frame, name, origin).alias(name))
        elif feature.type == "vector":
            typed.append(convert.to_vectors(frame, name, origin).alias(name))
        elif feature.type == "category_list":
            typed.append(convert.to_lists(frame, name, origin).alias(name))
        else:
            typed.append(convert.to_text(frame, name, origin).alias(name))
    return typed


def _clean_text(text: pl.Series) -> pl.Series:
    """Replaces HTML entities and squeezes white space; entities are rare, so only where '&' is."""
    has_entity = text.str.contains("&", literal=True)
    if has_entity.any():
        unescaped = pl.Series([html.unescape(value) for value in text.filter(has_entity)])
        text = text.scatter(has_entity.arg_true(), unescaped)
    return text.str.replace_all(r"\s+", " ").str.strip_chars()


def _join_text(columns: list[pl.Series], height: int = 0) -> pl.Series:
    if not columns:
        return pl.Series([""] * height, dtype=pl.String)
    named = [column.alias(str(number)) for number, column in enumerate(columns)]
    joined = pl.DataFrame(named).select(pl.concat_str(pl.all(), separator=" ")).to_series()
    return joined.str.replace_all(r" +", " ").str.strip_chars()


def _request_text(events: pl.DataFrame, users: pl.DataFrame, data: Data) -> pl.Series:
    """The text U of a request: the user's own text, then the query."""
    query = _clean_text(events[Columns.QUERY])
    if not data.users.text:
        return query
    of_user = users[Columns.TEXT].gather(events["user_index"].cast(pl.Int64) - 1)
    return _join_text([of_user, query])


def _distinct_texts(text: pl.Series) -> tuple[list[str], np.ndarray]:
    distinct = text.filter(text != "").unique(maintain_order=True).to_list()
    index = {value: row for row, value in enumerate(["", *distinct])}
    return ["", *distinct], text.replace_strict(index, return_dtype=pl.Int32).to_numpy()


def _check_unique(ids: pl.Series, column: str, origin: str) -> None:
    repeated = ids.is_duplicated()
    if repeated.any():
        first = ids.filter(repeated)[0]
        rows = (ids == first).arg_true().head(2) + 1
        raise DataError(
            f"{origin}: column {column!r}: wanted each id once, "
            f"got {first!r} in rows {rows[0]} and {rows[1]}."
        )


def _check_splits(prepared: PreparedData) -> None:
    for split in SPLITS:
        if not prepared.target_rows(split).size:
            raise DataError(
                f"data.split: no positive event falls into {split!r}; the log has "
                f"{prepared.contexts.height} requests. Give more events or other split sizes."
            )
        if not prepared.ranked_rows(split).size:
            raise DataError(
                f"data.events.kinds: no event with `ranked: true` falls into {split!r}; the "
                "ranking model has nothing to learn from. Let at least one kind be ranked."
            )


def _with_counts(prepared: PreparedData) -> PreparedData:
    times = prepared.contexts[_TIME]
    prepared.report.update(
        {
            "users": prepared.num_users,
            "items": prepared.num_items,
            "requests": prepared.contexts.height,
            "distinct_texts": len(prepared.texts) - 1,
            "first_time": str(times.min()),
            "last_time": str(times.max()),
            "targets": {split: int(prepared.target_rows(split).size) for split in SPLITS},
            "ranked": {split: int(prepared.ranked_rows(split).size) for split in SPLITS},
        }
    )
    return prepared
