"""What the columns of the tables mean."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from pydantic import model_validator

from tfrec.config.base import Column, PositiveFloat, Section
from tfrec.config.features import Features, refuse_method, refuse_use

# Roles of events. A column of the first kind has one meaning only; of the second, no feature of a
# request may be one: it says what the user did, or which row it is.
_UNSHARED_ROLES = (
    "user_id", "item_id", "time", "kind", "label", "query", "split", "true_probability",
)  # fmt: skip
_SHARED_ROLES = ("sequence", "rating", "watch_time", "weight", "impression", "position")
_NO_CONTEXT_ROLES = (
    "user_id", "item_id", "kind", "label", "rating", "watch_time", "weight", "impression", "split",
    "true_probability",
)  # fmt: skip


class EventKind(Section):
    """What one kind of event means."""

    label: Literal[0, 1]
    """1: the user wanted the item. 0: the user saw it and did not."""
    weight: PositiveFloat = 1.0
    """Weight of the event in the retrieval loss."""
    ranked: bool = True
    """Whether the event is a row for the ranking model (a shown item with its answer)."""
    target: bool = True
    """Whether a positive event may be what retrieval has to find."""


class Events(Section):
    """Columns of the event table by role."""

    user_id: Column = "user_id"
    item_id: Column = "item_id"
    time: Column | None = "time"
    """Datetime, date, ISO 8601 text or a number since 1970. None for logs without time."""
    time_format: str | None = None
    """Of text in another form, as ``%m/%d/%Y %I:%M:%S %p``."""
    time_unit: Literal["s", "ms", "us", "ns"] = "s"
    """Of numbers."""
    sequence: Column | None = None
    """A whole number that orders a user's events of one time, or all of them without a time."""
    order: Literal["rows", "shuffled"] = "rows"
    """Logs without `time` and `sequence`: whether the rows stand in order. If not, one is drawn."""
    kind: Column | None = None
    kinds: dict[str, EventKind] = {}
    label: Column | None = None
    """0 or 1."""
    rating: Column | None = None
    positive_rating: float | None = None
    """With `rating`: an event with at least this rating has label 1, others label 0."""
    watch_time: Column | None = None
    """Seconds spent with the item."""
    positive_watch_time: float | None = None
    """Where given, label 1 is at least this watch time."""
    weight: Column | None = None
    """Weight of the event; multiplies the weight of its kind."""
    impression: Column | None = None
    """Id of the list in which the item was shown: its rows are one request."""
    query: Column | None = None
    position: Column | None = None
    split: Column | None = None
    """train, validation or test, for `split.kind: given`."""
    true_probability: Column | None = None
    """Known only for generated data; used by reports, never by a model."""
    context: Features = {}
    """Features of the request (device, place ...): categories, numbers and dates."""

    @model_validator(mode="after")
    def _check_labels(self) -> Events:
        if (self.kind is None) != (not self.kinds):
            raise ValueError("`kind` and `kinds` go together: give both or neither")
        if (self.rating is None) != (self.positive_rating is None):
            raise ValueError("`rating` and `positive_rating` go together: give both or neither")
        if self.positive_watch_time is not None and self.watch_time is None:
            raise ValueError("`positive_watch_time` needs `watch_time`")
        sources = {
            "kind": self.kind,
            "label": self.label,
            "rating": self.rating,
            "positive_watch_time": self.positive_watch_time,
        }
        given = [f"`{name}`" for name, value in sources.items() if value is not None]
        if len(given) > 1:
            raise ValueError(
                f"labels come from one of {', '.join(f'`{name}`' for name in sources)}, got "
                f"{' and '.join(given)}"
            )
        if self.kinds and not any(kind.label and kind.target for kind in self.kinds.values()):
            raise ValueError(
                "wanted at least one of `kinds` with `label: 1` and `target: true`: nothing else "
                "may be recommended"
            )
        return self

    @model_validator(mode="after")
    def _check_order(self) -> Events:
        if self.time is None and self.time_format is not None:
            raise ValueError("`time_format` needs `time`")
        for role in ("time", "sequence"):
            column = self.role_columns().get(role)
            if self.order == "shuffled" and column is not None:
                raise ValueError(
                    f"`order: shuffled` is for logs without `time` and `sequence`, got "
                    f"`{role}: {column}`"
                )
        return self

    @model_validator(mode="after")
    def _check_columns(self) -> Events:
        columns = self.role_columns()
        for role in _UNSHARED_ROLES:
            for other, column in columns.items():
                if role in columns and other != role and column == columns[role]:
                    raise ValueError(
                        f"wanted two columns for `{role}` and `{other}`, got {column!r}"
                    )
        for role in _NO_CONTEXT_ROLES:
            if columns.get(role) in self.context:
                raise ValueError(
                    "wanted features that a request knows before its answer, got "
                    f"{columns[role]!r} in events.context, the column of `{role}`"
                )
        return self

    @model_validator(mode="after")
    def _check_context(self) -> Events:
        refuse_use(self.context, "context", "context")
        refuse_method(self.context, "nearest", "context", "numbers of items and users")
        return self

    def role_columns(self) -> dict[str, str]:
        """Returns the declared column of each role that has one."""
        roles = _UNSHARED_ROLES + _SHARED_ROLES
        return {role: getattr(self, role) for role in roles if getattr(self, role) is not None}


class Items(Section):
    """Columns of the catalogue by role."""

    item_id: Column = "item_id"
    title: Column | None = "title"
    """Shown to people; None shows the id."""
    text: list[Column] = ["title"]
    """Columns joined, in this order, into the text that BERT reads; may be empty."""
    features: Features = {}
    duplicates: Literal["error", "first", "last"] = "error"
    """What to do with an id that stands in several rows."""

    @model_validator(mode="after")
    def _check_columns(self) -> Items:
        _refuse_id(self.item_id, {"items.text": self.text, "items.features": self.features})
        refuse_method(self.features, "interpolate", "features", "numbers of `events.context`")
        return self


class Users(Section):
    """Columns of the user table by role."""

    user_id: Column = "user_id"
    text: list[Column] = []
    """Columns joined, with the query behind them, into the text that BERT reads."""
    features: Features = {}
    duplicates: Literal["error", "first", "last"] = "error"

    @model_validator(mode="after")
    def _check_columns(self) -> Users:
        _refuse_id(self.user_id, {"users.text": self.text, "users.features": self.features})
        refuse_method(self.features, "interpolate", "features", "numbers of `events.context`")
        return self


class Relations(Section):
    """Columns of the table of triples, and the relations that become features of items."""

    head: Column = "head"
    """The item that the triple is about."""
    relation: Column = "relation"
    tail: Column = "tail"
    features: Features = {}
    """Relation to the feature its tails make, a category list: ``directed_by: category_list``."""

    @model_validator(mode="after")
    def _check_types(self) -> Relations:
        refuse_use(self.features, "relations", "features")
        columns = (self.head, self.relation, self.tail)
        if len(set(columns)) < len(columns):
            raise ValueError(
                f"wanted three columns for `head`, `relation` and `tail`, got {', '.join(columns)}"
            )
        return self


def _refuse_id(column: str, places: Mapping[str, Collection[str]]) -> None:
    """Raises `ValueError` where an id is also a text or a feature, to be learnt by heart."""
    for place, names in places.items():
        if column in names:
            raise ValueError(
                f"wanted the column of the id for nothing else, got {column!r} in {place}"
            )
