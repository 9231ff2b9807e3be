"""Where the tables come from, what their columns mean, how they are cleaned and split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import model_validator

from tfrec.config.base import PositiveFloat, PositiveInt, Section
from tfrec.config.cleaning import Cleaning, Privacy, Split
from tfrec.config.features import Features
from tfrec.config.roles import Events, Items, Relations, Users
from tfrec.config.tables import TableFiles
from tfrec.schema import Batch, Columns, Tensors

# Names that stand beside the declared columns: in signatures (`rank` takes a request and item ids),
# in the prepared tables and in batches.
_REQUEST_INPUTS = (
    Tensors.USER_ID, Tensors.HISTORY, Tensors.HISTORY_KIND, Tensors.HISTORY_TIME, Tensors.TIME,
    Tensors.QUERY, Tensors.ITEM_ID,
)  # fmt: skip
_ITEM_COLUMNS = (Columns.ITEM_ID, Columns.TITLE, Columns.TEXT)
_USER_COLUMNS = (Columns.USER_ID, Columns.TEXT)
_EVENT_COLUMNS = (
    Columns.TIME, Columns.TEXT, Columns.LABEL, Columns.WEIGHT, Columns.IS_RANKED,
    Columns.IS_TARGET, Columns.POSITION, Columns.TRUE_PROBABILITY, Columns.SPLIT,
    Columns.WATCH_TIME, Columns.IMPRESSION, Columns.EVENT_KIND, Columns.RATING, Columns.ROW,
    Batch.USER_INDEX, Batch.ITEM_INDEX, Batch.TEXT_INDEX, Batch.HISTORY_GAP, Batch.LAST_GAP,
    Batch.TARGET_WINDOW, Batch.TARGET_PLACE, "context", "history_start", "history_end",
    Columns.HISTORY_LAST_KIND, Columns.OUTCOMES, Batch.CONTEXT, Batch.TIME, Batch.REQUEST_ROW,
    Batch.LOG_RATE, Batch.TARGETS, Batch.STATISTICS, "sequence", "file", "source_row",
)  # fmt: skip


class Data(Section):
    """Where the tables come from and what their columns mean."""

    source: Literal["shop", "movielens", "files", "tables"]
    """``tables``: data frames given from Python."""
    path: str | None = None
    """Folder of the raw files; relative to the working directory."""
    tfds_name: str = "movielens/100k"
    """Source `movielens` without a path: the TensorFlow Datasets name before ``-ratings``."""
    scale: PositiveFloat = 1.0
    """Source `shop`: 1 is about half a million events, 20 about ten million."""
    tables: TableFiles | None = None
    events: Events = Events()
    items: Items = Items()
    users: Users = Users()
    relations: Relations = Relations()
    unknown_items: Literal["error", "drop"] = "error"
    """What to do with events whose item is not in the catalogue."""
    cleaning: Cleaning = Cleaning()
    split: Split = Split()
    privacy: Privacy = Privacy()
    max_history: PositiveInt = 20
    """A user's last positive items that the user tower sees."""

    @model_validator(mode="after")
    def _check_source(self) -> Data:
        if self.source == "files" and self.tables is None:
            raise ValueError("source `files` needs `tables`")
        if self.source != "files" and self.tables is not None:
            raise ValueError(f"`tables` is for source `files`, got source `{self.source}`")
        if self.split.kind == "given" and self.events.split is None:
            raise ValueError("`split.kind: given` needs `events.split`, the column that gives it")
        if self.split.kind == "time" and self.events.time is None:
            raise ValueError(
                "`split.kind: time` needs `events.time`; for logs without it take `leave_one_out` "
                "or `user_ratio`"
            )
        needs_time = self.split.test_from is not None or self.cleaning.sessions is not None
        if self.events.time is None and needs_time:
            raise ValueError("`test_from` and `sessions` need `events.time`")
        return self

    @model_validator(mode="after")
    def _check_tables(self) -> Data:
        if self.relations.features and self.source in ("shop", "movielens"):
            raise ValueError(f"`relations.features`: source `{self.source}` has no relations")
        tables = self.tables
        if tables is None:
            return self
        # The default of `text` may stay: it is in every resolved configuration.
        if tables.items is None and (
            self.items.features or (self.items.text and self.items.changed(["text"]))
        ):
            raise ValueError("`items.text` and `items.features` need `tables.items`")
        if tables.users is None and (self.users.text or self.users.features):
            raise ValueError("`users.text` and `users.features` need `tables.users`")
        if (tables.relations is None) != (not self.relations.features):
            raise ValueError(
                "`tables.relations` and `relations.features` go together: give both or neither"
            )
        if tables.relations is not None and tables.items is None:
            raise ValueError("`tables.relations` needs `tables.items`")
        return self

    @model_validator(mode="after")
    def _check_names(self) -> Data:
        users, items, context = self.users, self.items, self.events.context
        reserved = "reserved names"
        _refuse_shared_names(
            {
                reserved: _REQUEST_INPUTS,
                "users.text": users.text,
                "users.features": users.features,
                "events.context": context,
            }
        )
        _refuse_shared_names(
            {
                reserved: [Tensors.ITEM_ID],
                "items.text": items.text,
                "items.features": items.features,
                "relations.features": self.relations.features,
            }
        )
        _refuse_shared_names(
            {
                reserved: _ITEM_COLUMNS,
                "items.features": items.features,
                "relations.features": self.relations.features,
            }
        )
        _refuse_shared_names({reserved: _USER_COLUMNS, "users.features": users.features})
        _refuse_shared_names({reserved: _EVENT_COLUMNS, "events.context": context})
        return self

    @model_validator(mode="after")
    def _check_privacy(self) -> Data:
        places = {
            **{f"events.{role}": [column] for role, column in self.events.role_columns().items()},
            "events.context": self.events.context,
            "users.user_id": [self.users.user_id],
            "users.text": self.users.text,
            "users.features": self.users.features,
        }
        if self.tables is None or self.tables.items is not None:
            places |= {
                "items.item_id": [self.items.item_id],
                "items.title": [self.items.title] if self.items.title else [],
                "items.text": self.items.text,
                "items.features": self.items.features,
            }
        if self.relations.features:
            places |= {
                f"relations.{role}": [getattr(self.relations, role)]
                for role in ("head", "relation", "tail")
            }
        places |= self._columns_of_steps()
        for place, columns in places.items():
            for column in self.privacy.never_write:
                if column in columns:
                    raise ValueError(
                        f"`privacy.never_write` names {column!r}, which `{place}` reads"
                    )
        return self

    def _columns_of_steps(self) -> dict[str, list[str]]:
        """Returns the columns that steps name by themselves; those in SQL are the reader's."""
        columns: dict[str, list[str]] = {}
        for name in TableFiles.model_fields:
            for part in getattr(self.tables, name, None) or []:
                for step in part.steps:
                    used = [*(step.explode or []), *(step.join.on if step.join else [])]
                    columns.setdefault(f"tables.{name}", []).extend(used)
        return columns

    @property
    def item_features(self) -> Features:
        """Features of items: columns of the catalogue, then those that relations make."""
        return {**self.items.features, **self.relations.features}


def _refuse_shared_names(places: Mapping[str, Iterable[str]]) -> None:
    """Raises `ValueError` where two places, or one place twice, give the same name."""
    owners: dict[str, str] = {}
    for place, names in places.items():
        for name in names:
            if name in owners:
                raise ValueError(
                    f"wanted a name of its own for each column that a model reads, got {name!r} "
                    f"in {place} and in {owners[name]}; rename the column"
                )
            owners[name] = place
