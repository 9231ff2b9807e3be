"""What changed in a catalogue since its model was trained."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl

from tfrec.errors import DataError
from tfrec.files import read_json, write_arrays, write_json
from tfrec.schema import Columns

_MAX_NAMED = 5


@dataclass(frozen=True)
class Changes:
    """Items that were added, updated or removed after training.

    An updated item is a new row, and its old one is gone. Items keep their index for good: the n of
    the training come first, then the added ones in the order in which they came.

    Attributes:
        model: Fingerprint of the model that they belong to.
        items: Added rows, typed as the prepared items.
        embeddings: float32 [num_added, embedding_dim], from the item tower.
        ranked_embeddings: The same from the ranking model's own towers; None where it has none.
        gone: Indices that no answer holds any more.
        replaced: Of these, the ones whose id a later row has.
        number: How many changes there were.
    """

    model: str
    items: pl.DataFrame
    embeddings: np.ndarray
    ranked_embeddings: np.ndarray | None = None
    gone: frozenset[int] = field(default_factory=frozenset)
    replaced: frozenset[int] = field(default_factory=frozenset)
    number: int = 0

    def save(self, folder: Path) -> None:
        """Writes ``items.parquet``, ``embeddings.npz`` and ``changes.json``."""
        self.items.write_parquet(folder / "items.parquet")
        arrays = {"items": self.embeddings}
        if self.ranked_embeddings is not None:
            arrays["ranked"] = self.ranked_embeddings
        write_arrays(folder / "embeddings.npz", arrays)
        facts = {
            "model": self.model,
            "number": self.number,
            "gone": sorted(self.gone),
            "replaced": sorted(self.replaced),
        }
        write_json(folder / "changes.json", facts)

    @classmethod
    def load(cls, folder: Path) -> Changes:
        """Reads what `save` wrote."""
        facts = read_json(folder / "changes.json")
        with np.load(folder / "embeddings.npz") as arrays:
            found = {name: arrays[name] for name in arrays.files}
        return cls(
            model=facts["model"],
            items=pl.read_parquet(folder / "items.parquet"),
            embeddings=found["items"],
            ranked_embeddings=found.get("ranked"),
            gone=frozenset(facts["gone"]),
            replaced=frozenset(facts["replaced"]),
            number=facts["number"],
        )

    def present(self, trained_ids: pl.Series) -> dict[str, int]:
        """Returns the index of each item that answers may hold, by its id."""
        ids = [*trained_ids.to_list(), *self.items[Columns.ITEM_ID].to_list()]
        numbered = enumerate(ids, start=1)
        return {item: index for index, item in numbered if index not in self.gone}

    def with_items(
        self,
        items: pl.DataFrame,
        embeddings: np.ndarray,
        ranked_embeddings: np.ndarray | None,
        trained_ids: pl.Series,
        *,
        update: bool,
    ) -> Changes:
        """Adds rows, or, with `update`, puts them in the place of those with their ids.

        Raises:
            DataError: An added id is there already, or an updated one is not.
        """
        present = self.present(trained_ids)
        ids = items[Columns.ITEM_ID].to_list()
        wrong = [item for item in ids if (item in present) != update]
        if wrong:
            there = "not in the catalogue; `add` it" if update else "in the catalogue; `update` it"
            raise DataError(f"items: {_named(wrong)} {there}.")
        old = frozenset(present[item] for item in ids) if update else frozenset()
        # A removed item that comes back is another row as well.
        again = frozenset(
            index
            for index, item in enumerate(
                [*trained_ids.to_list(), *self.items[Columns.ITEM_ID].to_list()], start=1
            )
            if index in self.gone and item in set(ids)
        )
        ranked = self.ranked_embeddings
        if ranked is not None and ranked_embeddings is not None:
            ranked = np.concatenate([ranked, ranked_embeddings])
        return replace(
            self,
            items=pl.concat([self.items, items], how="diagonal_relaxed"),
            embeddings=np.concatenate([self.embeddings, embeddings]),
            ranked_embeddings=ranked,
            gone=self.gone | old,
            replaced=self.replaced | old | again,
            number=self.number + 1,
        )

    def without(self, ids: list[str], trained_ids: pl.Series) -> Changes:
        """Removes items: their rows are gone.

        Raises:
            DataError: An id is not in the catalogue.
        """
        present = self.present(trained_ids)
        wrong = [item for item in ids if item not in present]
        if wrong:
            raise DataError(f"items: {_named(wrong)} not in the catalogue.")
        gone = self.gone | {present[item] for item in ids}
        return replace(self, gone=gone, number=self.number + 1)


def _named(ids: list[str]) -> str:
    shown = ", ".join(repr(item) for item in ids[:_MAX_NAMED])
    more = len(ids) - _MAX_NAMED
    return f"{shown}{f' and {more} more' if more > 0 else ''} {'is' if len(ids) == 1 else 'are'}"
