"""The only home of names that more than one module must agree on.

Three groups: columns of the prepared tables, feature keys of a training batch, and tensor names of
the exported signatures.
"""

from __future__ import annotations

from typing import Final

# Rows 0 of every table of embeddings or features stand for "none or unknown".
UNKNOWN_INDEX: Final = 0

UNKNOWN_TIME: Final = 0
"""Stands for a time that nobody knows, in seconds and in microseconds since 1970."""


CLICK: Final = "click"
"""Name of the head that every ranking model has: the answer to a shown item."""


class Columns:
    """Columns of the prepared tables (after reading, whatever the source called them)."""

    USER_ID: Final = "user_id"
    ITEM_ID: Final = "item_id"
    TIME: Final = "time"
    QUERY: Final = "query"
    POSITION: Final = "position"
    TRUE_PROBABILITY: Final = "true_probability"
    LABEL: Final = "label"
    WEIGHT: Final = "weight"
    IS_RANKED: Final = "is_ranked"
    IS_TARGET: Final = "is_target"
    TITLE: Final = "title"
    TEXT: Final = "text"
    SPLIT: Final = "split"
    WATCH_TIME: Final = "watch_time"
    IMPRESSION: Final = "impression"
    EVENT_KIND: Final = "event_kind"
    RATING: Final = "rating"
    OUTCOMES: Final = "outcomes"
    HISTORY_LAST_KIND: Final = "history_last_kind"
    ROW: Final = "row"


class Batch:
    """Keys of a training batch; every value has the batch as its first dimension.

    In a batch of sequences that is the number of windows for the keys of histories and the number
    of targets for all others; in a batch of the ranking model the number of requests for what
    belongs to requests and the number of pairs for all others.
    """

    CONTEXT: Final = "context_row"
    TIME: Final = "request_time"
    REQUEST_ROW: Final = "request_row"
    LOG_RATE: Final = "log_rate"
    TARGETS: Final = "targets"
    STATISTICS: Final = "statistics"
    TAUGHT: Final = "taught"

    USER_INDEX: Final = "user_index"
    TEXT_INDEX: Final = "text_index"
    HISTORY: Final = "history"
    HISTORY_KIND: Final = "history_kind"
    HISTORY_GAP: Final = "history_gap"
    HISTORY_SEGMENT: Final = "history_segment"
    LAST_GAP: Final = "last_gap"
    TARGET_WINDOW: Final = "target_window"
    TARGET_PLACE: Final = "target_place"
    ITEM_INDEX: Final = "item_index"
    LABEL: Final = "label"
    WEIGHT: Final = "weight"
    POSITION: Final = "position"
    RATING: Final = "rating"
    NEGATIVES: Final = "negatives"
    KNOWN_ROW: Final = "known_row"
    KNOWN_ITEM: Final = "known_item"


class Tensors:
    """Names of the tensors in the signatures of an exported model."""

    USER_ID: Final = "user_id"
    HISTORY: Final = "history"
    HISTORY_KIND: Final = "history_kind"
    HISTORY_TIME: Final = "history_time"
    TIME: Final = "time"
    QUERY: Final = "query"
    ITEM_ID: Final = "item_id"
    SCORE: Final = "score"
    PROBABILITY: Final = "probability"
    EMBEDDING: Final = "embedding"
    SOURCES: Final = "sources"
    EXCLUDE: Final = "exclude_item_ids"
    ALLOW: Final = "allow_"
    """Before the name of an attribute: the values that an item may have."""
    DENY: Final = "deny_"
    """Likewise: those that it may not have."""


class Signatures:
    """Names of the signatures of an exported model."""

    RECOMMEND: Final = "recommend"
    DEFAULT: Final = "serving_default"
    RETRIEVE: Final = "retrieve"
    RANK: Final = "rank"
    SEARCH: Final = "search"
    SIMILAR_ITEMS: Final = "similar_items"
    ENCODE_USER: Final = "encode_user"
    ENCODE_ITEM: Final = "encode_item"


class ExportFiles:
    """Files beside ``saved_model.pb``."""

    MANIFEST: Final = "manifest.json"
    TITLES: Final = "titles.csv"


SPLITS: Final = ("train", "validation", "test")
