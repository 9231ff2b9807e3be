"""The shop as its users see it: tables, files, and the oracle."""

import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tfrec.shop.behaviour import Behaviour
from tfrec.shop.events import BLOCK_USERS, DAY, draw_block
from tfrec.shop.world import (
    NUM_DAYS,
    START,
    Catalogue,
    FloatArray,
    IntArray,
    People,
    ShopSize,
    Vocabulary,
)


class Shop:
    """A small online shop with known probabilities; see `tfrec.shop` for the model.

    Args:
        scale: float, > 0. 1 gives 6,000 users, 4,000 items, about 500,000 events.
        seed: int, >= 0. The same scale and seed give the same shop.

    Attributes:
        size: ShopSize.
        seed: int.
        num_blocks: int, how many frames `event_blocks` yields.

    Raises:
        ValueError: `scale` is not positive or `seed` is negative.
    """

    def __init__(self, scale: float = 1.0, seed: int = 42) -> None:
        if seed < 0:
            raise ValueError(f"`seed` must be >= 0. Received: seed={seed}.")
        self.size = ShopSize(scale)
        self.seed = seed
        self.num_blocks = -(-self.size.num_users // BLOCK_USERS)
        vocabulary = Vocabulary(seed)
        self._catalogue = Catalogue(self.size, vocabulary, seed)
        self._people = People(self.size, vocabulary, seed)
        self._behaviour = Behaviour(vocabulary, self._catalogue, self._people, seed)

    def items(self) -> pl.DataFrame:
        """Returns the catalogue, one row for each item, in the order of `item_id`.

        Returns:
            `item_id` str, "i00042"; `title` str; `description` str; `category` str, one of 8
            departments; `brand` str; `price` float64; `image` array of 32 float32, what the item
            looks like; `added` date, the day the item appeared. All without nulls.
        """
        return self._catalogue.frame

    def users(self) -> pl.DataFrame:
        """Returns the users, one row each, in the order of `user_id`.

        Returns:
            `user_id` str, "u000123"; `age` int64, 18 to 75; `gender` str; `region` str. About 4%
            of ages and 4% of genders are null.
        """
        return self._people.frame

    def event_blocks(self) -> Iterator[pl.DataFrame]:
        """Yields events, one frame for each block of 2,000 users, each sorted by time.

        A slot of a slate gives one row, "click" or "impression". Carts and purchases come on rows
        of their own; the last of them may fall a little after the end of the window.

        Yields:
            `user_id` str; `item_id` str; `time` datetime in microseconds, one for a whole slate;
            `kind` str, "impression", "click", "cart" or "purchase"; `session_id` int64;
            `position` int64, from 1, null for carts and purchases; `query` str, "" where nothing
            was searched; `device` str; `true_probability` float64, the probability with which
            this slot was clicked, null for carts and purchases.
        """
        for block in range(self.num_blocks):
            yield self.draw_events(block)

    def draw_events(self, block: int) -> pl.DataFrame:
        """Draws the events of one block; columns as in `event_blocks`.

        Args:
            block: int, in [0, num_blocks). Blocks may be drawn in any order, anywhere.

        Raises:
            ValueError: there is no such block.
        """
        if not 0 <= block < self.num_blocks:
            raise ValueError(
                f"`block` must be in [0, num_blocks). Received: block={block}, "
                f"num_blocks={self.num_blocks}."
            )
        return draw_block(self._behaviour, self.seed, block)

    def events(self) -> pl.DataFrame:
        """Returns all events, sorted by time, user and position; columns as in `event_blocks`."""
        return pl.concat(self.event_blocks()).sort(
            "time", "user_id", "position", maintain_order=True
        )

    def write(self, folder: str | Path, overwrite: bool = False) -> Path:
        """Writes the shop as Parquet files, holding one block of events in memory at a time.

        The files are `items.parquet`, `users.parquet`, and `events/part-00000.parquet` and so
        on, one for each block. They are written beside `folder` and moved into place when
        complete, so a folder that exists is never half a shop.

        Args:
            folder: where to write.
            overwrite: bool, whether to replace a folder that exists.

        Returns:
            `folder` as an absolute Path.

        Raises:
            FileExistsError: `folder` exists and `overwrite` is False.
        """
        folder = Path(folder).resolve()
        if folder.exists() and not overwrite:
            raise FileExistsError(
                f"`folder` must not exist unless `overwrite` is True. Received: {folder}."
            )
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "events").mkdir(parents=True)
        self.items().write_parquet(partial / "items.parquet")
        self.users().write_parquet(partial / "users.parquet")
        for block, events in enumerate(self.event_blocks()):
            events.write_parquet(partial / "events" / f"part-{block:05d}.parquet")
        if folder.exists():
            replaced = folder.with_name(f".{folder.name}.replaced")
            shutil.rmtree(replaced, ignore_errors=True)
            folder.rename(replaced)
            partial.rename(folder)
            shutil.rmtree(replaced)
        else:
            partial.rename(folder)
        return folder

    def expected_clicks(
        self,
        user_ids: Sequence[str],
        times: Sequence[datetime] | NDArray[np.datetime64] | pl.Series,
        queries: Sequence[str] | None = None,
    ) -> NDArray[np.float32]:
        """Computes the oracle: the clicks each item may expect from one slate for each request.

        P(item in the slate | user, time, query) * P(click | item shown, user, time, query), both
        averaged over position and device. Ranking items by it gives the best reachable recall.
        Takes `n * num_items` numbers several times over: call it in chunks.

        Args:
            user_ids: str `[n]`.
            times: datetime `[n]`; a time outside the window counts as its nearest end.
            queries: str `[n]`; "" or a text that the shop does not know counts as no search.
                None: no request searches.

        Returns:
            float32 `[n, num_items]`, >= 0, columns in the order of `items()`; 0 for items that
            are not yet added.

        Raises:
            ValueError: a user is unknown, or lengths differ.
        """
        return self._behaviour.compute_expected_clicks(*self._read(user_ids, times, queries))

    def slot_probabilities(
        self,
        user_ids: Sequence[str],
        times: Sequence[datetime] | NDArray[np.datetime64] | pl.Series,
        queries: Sequence[str] | None = None,
    ) -> FloatArray:
        """Computes how likely one slot of a slate is drawn as each item, duplicates included.

        Args:
            user_ids: str `[n]`.
            times: datetime `[n]`, as in `expected_clicks`.
            queries: str `[n]` or None, as in `expected_clicks`.

        Returns:
            float64 `[n, num_items]`, each row sums to 1, columns in the order of `items()`.

        Raises:
            ValueError: a user is unknown, or lengths differ.
        """
        return self._behaviour.compute_slot_probabilities(*self._read(user_ids, times, queries))

    def _read(
        self,
        user_ids: Sequence[str],
        times: Sequence[datetime] | NDArray[np.datetime64] | pl.Series,
        queries: Sequence[str] | None,
    ) -> tuple[FloatArray, IntArray, IntArray]:
        """Turns requests into the described users, the days and the rows of queries, `[n]` each."""
        user_ids = list(user_ids)
        queries = [""] * len(user_ids) if queries is None else list(queries)
        when = np.asarray(times, dtype="datetime64[us]")
        if not len(user_ids) == len(when) == len(queries):
            raise ValueError(
                "`user_ids`, `times` and `queries` must have one length. Received: "
                f"{len(user_ids)}, {len(when)}, {len(queries)}."
            )
        unknown = next((name for name in user_ids if name not in self._user_index), None)
        if unknown is not None:
            raise ValueError(f"`user_ids` must be users of this shop. Received: {unknown!r}.")
        user = np.array([self._user_index[name] for name in user_ids], np.int64)
        day_time = (when - START).astype(np.int64) / DAY
        day = np.clip(np.floor(day_time).astype(np.int64), 0, NUM_DAYS - 1)
        described = self._behaviour.describe_users(user, day_time)
        return described, day, self._behaviour.queries.find(queries)

    @cached_property
    def _user_index(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self._people.ids.to_list())}
