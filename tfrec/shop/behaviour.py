"""The probabilities of the shop: who is shown what, and who clicks what.

Events are drawn from these formulas, and the oracle reports them; both read the same tables.
"""

from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tfrec.shop import words
from tfrec.shop.world import (
    FACTOR_DIM,
    NUM_DAYS,
    POPULARITY_STREAM,
    STYLE_DIM,
    Catalogue,
    FloatArray,
    IntArray,
    People,
    Vocabulary,
    make_generator,
)

SLATE_SIZE: Final = 10
POPULAR_SHARE: Final = 0.2
"""Share of slots of a session without search that are filled by popularity alone."""
TYPE_SHARPNESS: Final = 9.0
"""How strongly a user is shown the product types of their taste."""

TASTE_WEIGHT: Final = 4.6
STYLE_WEIGHT: Final = 1.6
PRICE_WEIGHT: Final = 0.8
CLICK_BIAS: Final = -3.1
MATCH_BONUS: Final = 1.2
"""Added to the click logit of an item that has the attribute the search text asks for."""

DEVICE_SHARES: Final[FloatArray] = np.array([0.6, 0.32, 0.08])
_DEVICE_EFFECTS = np.array([-0.1, 0.2, -0.05])
DEVICE_LOGITS: Final[FloatArray] = _DEVICE_EFFECTS - DEVICE_SHARES @ _DEVICE_EFFECTS
"""Added to the click logit; float64 `[num_devices]`, mean 0 over sessions."""
EXAMINATION: Final[FloatArray] = 1 / (1 + 0.08 * np.arange(SLATE_SIZE))
"""Probability that a user looks at a position; float64 `[SLATE_SIZE]`, from 1 down."""

NO_QUERY: Final = -1


def sigmoid(logits: NDArray) -> NDArray:
    """Computes 1 / (1 + exp(-x)) in the dtype of `logits`."""
    return 1 / (1 + np.exp(-logits))


class Popularity:
    """How often each item is drawn on each day when taste plays no part.

    The weight of an item is its Zipf weight, times a season of its type (a sine with a random
    phase and period), times a slow random walk of its own, and zero before the item is added.

    Attributes:
        share: float64 `[num_days, num_items]`, columns in catalogue order; each row sums to 1.
        type_share: float64 `[num_days, num_types]`, the same summed over the items of a type.
    """

    def __init__(self, catalogue: Catalogue, num_types: int, seed: int) -> None:
        rng = make_generator(seed, POPULARITY_STREAM)
        # Seasons first: they do not depend on the number of items.
        phase = rng.uniform(0, 2 * np.pi, num_types)
        period = rng.uniform(30, 90, num_types)
        num_items = len(catalogue.type)
        rank = 1 + rng.permutation(num_items)
        days = np.arange(NUM_DAYS)[:, None]
        season = 0.4 * np.sin(2 * np.pi * days / period + phase)  # [num_days, num_types]
        walk = np.cumsum(rng.normal(0, 0.05, (NUM_DAYS, num_items)), axis=0)
        weight = np.exp(season[:, catalogue.type] + walk - 0.4 * np.log(rank))
        weight *= catalogue.added_day <= days
        self.share = weight / weight.sum(axis=1, keepdims=True)

        # Items sorted by type: a type is then one range of the cumulative row of any day.
        self._order = np.argsort(catalogue.type, kind="stable")
        self._type_starts = np.searchsorted(catalogue.type[self._order], np.arange(num_types + 1))
        cumulative = np.cumsum(self.share[:, self._order], axis=1)
        cumulative /= cumulative[:, -1:]
        # [num_days, num_types + 1], where each type begins and ends in the row of the day.
        self._bounds = np.concatenate([np.zeros((NUM_DAYS, 1)), cumulative], axis=1)[
            :, self._type_starts
        ]
        self.type_share = np.diff(self._bounds, axis=1)
        # Day d occupies the values from d to d + 1, so one search serves all days.
        self._cumulative = (cumulative + days).ravel()

    def sample(self, uniform: FloatArray, day: IntArray, item_type: IntArray) -> IntArray:
        """Draws items, each from the popularity of its day.

        Args:
            uniform: float64 `[n]`, in [0, 1).
            day: int64 `[n]`, in [0, num_days).
            item_type: int64 `[n]`, the type to draw from; negative for the whole catalogue.

        Returns:
            int64 `[n]`, rows of the catalogue.
        """
        is_typed = item_type >= 0
        low = day + np.where(is_typed, self._bounds[day, item_type], 0.0)
        high = day + np.where(is_typed, self._bounds[day, item_type + 1], 1.0)
        # Rounding may reach `high`, which belongs to the next type.
        value = np.minimum(low + uniform * (high - low), np.nextafter(high, -np.inf))
        found = np.searchsorted(self._cumulative, value, side="right")
        return self._order[found - day * len(self._order)]


class Queries:
    """All search texts the shop knows: a type, alone or after one of its attributes.

    Attributes:
        texts: str Series `[num_queries]`, grouped by type, `num_per_type` each: first the type
            alone, then by use, by material, by colour.
        type: int64 `[num_queries]`.
        use, material, colour: int64 `[num_queries]`, the attribute asked for, -1 where none.
        num_per_type: int.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        rows: list[tuple[str, int, int, int, int]] = []
        for number, name in enumerate(vocabulary.type_names):
            department = vocabulary.type_department[number]
            rows.append((name, number, -1, -1, -1))
            for use in vocabulary.department_uses[department]:
                rows.append((f"{vocabulary.use_names[use]} {name}", number, use, -1, -1))
            for material in vocabulary.department_materials[department]:
                text = f"{vocabulary.material_names[material]} {name}"
                rows.append((text, number, -1, material, -1))
            for colour, word in enumerate(words.COLOURS):
                rows.append((f"{word} {name}", number, -1, -1, colour))
        texts, *columns = zip(*rows, strict=True)
        self.texts = pl.Series(list(texts))
        self.type, self.use, self.material, self.colour = (
            np.array(column, np.int64) for column in columns
        )
        self.num_uses = vocabulary.department_uses.shape[1]
        self.num_materials = vocabulary.department_materials.shape[1]
        self.num_per_type = 1 + self.num_uses + self.num_materials + len(words.COLOURS)
        self._index = {text: row for row, text in enumerate(texts)}

    def sample(self, rng: np.random.Generator, item_type: IntArray) -> IntArray:
        """Draws a search text for each given type, int64 `[n]`, rows of `texts`.

        30% ask for the type alone, 30% by use, 25% by material, 15% by colour.
        """
        sizes = [1, self.num_uses, self.num_materials, len(words.COLOURS)]
        starts = np.cumsum([0, *sizes[:-1]])
        asked = rng.choice(4, len(item_type), p=[0.3, 0.3, 0.25, 0.15])
        within = (rng.random(len(item_type)) * np.array(sizes)[asked]).astype(np.int64)
        return item_type * self.num_per_type + starts[asked] + within

    def find(self, texts: list[str]) -> IntArray:
        """Finds search texts, int64 `[n]`; `NO_QUERY` for an empty or unknown text."""
        return np.array([self._index.get(text, NO_QUERY) for text in texts], np.int64)

    def match(self, query: IntArray, catalogue: Catalogue, item: IntArray) -> NDArray[np.bool_]:
        """Says where an item has the attribute that the search text asks for.

        Args:
            query: int64, any shape, rows of `texts` or `NO_QUERY`.
            catalogue: the items.
            item: int64, rows of the catalogue, a shape that broadcasts with `query`.

        Returns:
            bool, the broadcast shape.
        """
        has_attribute = (
            (self.use[query] == catalogue.use[item])
            | (self.material[query] == catalogue.material[item])
            | (self.colour[query] == catalogue.colour[item])
        )
        return (query != NO_QUERY) & has_attribute


class Behaviour:
    """Taste, exposure and clicks as exact probabilities.

    Args:
        vocabulary: the latent vectors of words.
        catalogue: the items.
        people: the users.
        seed: int, the seed of the shop.
    """

    def __init__(
        self, vocabulary: Vocabulary, catalogue: Catalogue, people: People, seed: int
    ) -> None:
        self.catalogue = catalogue
        self.people = people
        self.queries = Queries(vocabulary)
        self.popularity = Popularity(catalogue, len(vocabulary.type_names), seed)
        self._type_vectors = vocabulary.type_vectors
        # Affinity is one inner product: taste, style, then the price term multiplied out,
        # -(r - b)^2 = 2 r b - r^2 - b^2.
        price = catalogue.relative_price
        self._item_table = np.column_stack(
            [
                catalogue.factors,
                catalogue.styles,
                price,
                catalogue.quality - PRICE_WEIGHT * price**2,
                np.ones(len(price)),
            ]
        )

    def describe_users(self, user: IntArray, day_time: FloatArray) -> FloatArray:
        """Computes the user side of the affinity.

        Args:
            user: int64 `[n]`, rows of the people.
            day_time: float64 `[n]`, time in days since the start of the window.

        Returns:
            float64 `[n, FACTOR_DIM + STYLE_DIM + 3]`; the first `FACTOR_DIM` columns are the
            taste at that time, times `TASTE_WEIGHT`.
        """
        part = np.clip(day_time / NUM_DAYS, 0, 1)[:, None]
        first, last = self.people.first_factors[user], self.people.last_factors[user]
        budget = self.people.budget[user]
        table = np.empty((len(user), FACTOR_DIM + STYLE_DIM + 3))
        table[:, :FACTOR_DIM] = TASTE_WEIGHT * (first + part * (last - first))
        table[:, FACTOR_DIM:-3] = STYLE_WEIGHT * self.people.styles[user]
        table[:, -3] = 2 * PRICE_WEIGHT * budget
        table[:, -2] = 1.0
        table[:, -1] = -PRICE_WEIGHT * budget**2
        return table

    def compute_type_probabilities(self, described: FloatArray) -> FloatArray:
        """Computes softmax(TYPE_SHARPNESS * taste . type), float64 `[n, num_types]`."""
        taste = described[:, :FACTOR_DIM] / TASTE_WEIGHT
        logits = TYPE_SHARPNESS * taste @ self._type_vectors.T
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)

    def compute_affinity(self, described: FloatArray, row: IntArray, item: IntArray) -> FloatArray:
        """Computes affinities of pairs, float64 `[m]`.

        Args:
            described: float64 `[n, d]`, from `describe_users`.
            row: int64 `[m]`, rows of `described`.
            item: int64 `[m]`, rows of the catalogue.
        """
        return np.einsum("md,md->m", described[row], self._item_table[item])

    def compute_slot_probabilities(
        self, described: FloatArray, day: IntArray, query: IntArray
    ) -> FloatArray:
        """Computes how likely one slot holds each item.

        Args:
            described: float64 `[n, d]`, from `describe_users`.
            day: int64 `[n]`, in [0, num_days).
            query: int64 `[n]`, rows of the queries or `NO_QUERY`.

        Returns:
            float64 `[n, num_items]`, each row sums to 1.
        """
        types = self.compute_type_probabilities(described)
        # By type: how much more likely than by popularity over the whole catalogue.
        lift = POPULAR_SHARE + (1 - POPULAR_SHARE) * types / self.popularity.type_share[day]
        searched = np.flatnonzero(query != NO_QUERY)
        wanted = self.queries.type[query[searched]]
        lift[searched] = 0.0
        lift[searched, wanted] = 1 / self.popularity.type_share[day[searched], wanted]
        return self.popularity.share[day] * lift[:, self.catalogue.type]

    def compute_expected_clicks(
        self, described: FloatArray, day: IntArray, query: IntArray
    ) -> NDArray[np.float32]:
        """Computes how many clicks a slate brings each item, on average.

        P(item in the slate) * mean examination * P(click | seen), where the slate holds the
        distinct items of `SLATE_SIZE` independent slots. Position and device are averaged over:
        the examination is the same for all items, the device adds its mean, 0, to the logit.

        Args:
            described: float64 `[n, d]`, from `describe_users`.
            day: int64 `[n]`, in [0, num_days).
            query: int64 `[n]`, rows of the queries or `NO_QUERY`.

        Returns:
            float32 `[n, num_items]`.
        """
        slot = np.minimum(self.compute_slot_probabilities(described, day, query), 1.0)
        with np.errstate(divide="ignore"):  # log 0 where one item fills every slot
            shown = -np.expm1(SLATE_SIZE * np.log1p(-slot))
        logits = described @ self._item_table.T + CLICK_BIAS
        searched = np.flatnonzero(query != NO_QUERY)
        every_item = np.arange(len(self.catalogue.type))
        match = self.queries.match(query[searched, None], self.catalogue, every_item)
        logits[searched] += MATCH_BONUS * match
        return (EXAMINATION.mean() * shown * sigmoid(logits)).astype(np.float32)
