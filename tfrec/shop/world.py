"""The shop before anything happens: its size, its catalogue, its people, and their latent factors.

Everything here is drawn once from `(seed, stream)`, in whole columns.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tfrec.shop import words

NUM_DAYS: Final = 60
START: Final = np.datetime64("2025-01-06T00:00:00", "us")
"""First instant of day 0, a Monday."""

FACTOR_DIM: Final = 16
STYLE_DIM: Final = 8
IMAGE_DIM: Final = 32
RECENT_DAYS: Final = 7
"""The last days of the window, in which `RECENT_SHARE` of items and of users are new."""
RECENT_SHARE: Final = 0.05

# One random stream per thing drawn, so that one more item changes nothing about the users.
LATENT_STREAM, ITEM_STREAM, USER_STREAM, POPULARITY_STREAM, EVENT_STREAM = range(5)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def make_generator(seed: int, *stream: int) -> np.random.Generator:
    """Makes the generator of one stream, a pure function of `seed` and `stream`."""
    return np.random.default_rng(np.random.SeedSequence([seed, *stream]))


def unit(vectors: FloatArray) -> FloatArray:
    """Scales vectors along the last axis to length 1."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


@dataclass(frozen=True)
class ShopSize:
    """How large a shop of a given scale is. Twenty gives about ten million events.

    Args:
        scale: float, > 0. Users grow with it, items with its square root.

    Raises:
        ValueError: `scale` is not a positive finite number.
    """

    scale: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"`scale` must be a positive number. Received: scale={self.scale!r}.")

    @property
    def num_users(self) -> int:
        """Number of users, at least 1."""
        return max(1, round(6000 * self.scale))

    @property
    def num_items(self) -> int:
        """Number of items, at least 128, two for each product type."""
        return max(128, round(4000 * float(np.sqrt(self.scale))))

    @property
    def num_days(self) -> int:
        """Length of the observed window in days."""
        return NUM_DAYS


class Vocabulary:
    """Words as numbers, and the latent vectors of types, brands, materials and uses.

    Attributes:
        type_names: list of str, `[num_types]`, grouped by department.
        type_department: int64 `[num_types]`.
        material_names: list of str, `[num_materials]`, each word once.
        use_names: list of str, `[num_uses]`, each word once.
        department_materials: int64 `[num_departments, materials of one department]`.
        department_uses: int64 `[num_departments, uses of one department]`.
        department_brands: list of int64 arrays, the brands each department sells.
        brand_tier: float64 `[num_brands]`, log price of a brand relative to the average one.
        type_vectors, brand_vectors, material_vectors, use_vectors: float64 `[n, FACTOR_DIM]`,
            of length 1.
        colour_styles, material_styles: float64 `[n, STYLE_DIM]`, of length 1.
        type_price: float64 `[num_types]`, typical price.
        style_to_image: float64 `[STYLE_DIM, IMAGE_DIM]`.
    """

    def __init__(self, seed: int) -> None:
        rng = make_generator(seed, LATENT_STREAM)
        departments = words.DEPARTMENTS
        self.type_names = [name for d in departments for name in d.types]
        self.type_department = np.repeat(
            np.arange(len(departments)), [len(d.types) for d in departments]
        )
        self.material_names = sorted({name for d in departments for name in d.materials})
        self.use_names = sorted({name for d in departments for name in d.uses})
        self.department_materials = np.array(
            [[self.material_names.index(name) for name in d.materials] for d in departments]
        )
        self.department_uses = np.array(
            [[self.use_names.index(name) for name in d.uses] for d in departments]
        )

        num_types, num_brands = len(self.type_names), len(words.BRANDS)
        home = np.arange(num_brands) % len(departments)
        # Every second brand sells in one more department.
        away = (home + 1 + rng.integers(0, len(departments) - 1, num_brands)) % len(departments)
        away = np.where(rng.random(num_brands) < 0.5, away, home)
        self.department_brands = [
            np.flatnonzero((home == d) | (away == d)) for d in range(len(departments))
        ]
        self.brand_tier = rng.choice([-0.4, 0.0, 0.5], num_brands, p=[0.3, 0.4, 0.3])

        def draw(count: int, dim: int = FACTOR_DIM) -> FloatArray:
            return unit(rng.normal(size=(count, dim)))

        department_vectors = draw(len(departments))
        self.type_vectors = unit(
            0.5 * department_vectors[self.type_department] + 0.85 * draw(num_types)
        )
        self.brand_vectors = draw(num_brands)
        self.material_vectors = draw(len(self.material_names))
        self.use_vectors = draw(len(self.use_names))
        self.colour_styles = draw(len(words.COLOURS), STYLE_DIM)
        self.material_styles = draw(len(self.material_names), STYLE_DIM)
        department_price = np.array([d.price for d in departments])
        self.type_price = department_price[self.type_department] * np.exp(
            rng.normal(0, 0.4, num_types)
        )
        self.style_to_image = rng.normal(size=(STYLE_DIM, IMAGE_DIM))


class Catalogue:
    """The items of a shop, one row each, in the order of `item_id`.

    Attributes:
        type, brand, material, use, colour: int64 `[num_items]`, numbers of words.
        added_day: int64 `[num_items]`, the day an item appears; negative before the window.
        factors: float64 `[num_items, FACTOR_DIM]`, what an item is, of length 1.
        styles: float64 `[num_items, STYLE_DIM]`, what it looks like, of length 1.
        price: float64 `[num_items]`.
        relative_price: float64 `[num_items]`, log of price over the typical price of the type.
        quality: float64 `[num_items]`, added to the click logit for everyone.
        ids: str Series `[num_items]`.
        frame: the public table of items, see `Shop.items`.
    """

    def __init__(self, size: ShopSize, vocabulary: Vocabulary, seed: int) -> None:
        rng = make_generator(seed, ITEM_STREAM)
        count, num_types = size.num_items, len(vocabulary.type_names)
        self.type = rng.permutation(np.arange(count) % num_types)
        department = vocabulary.type_department[self.type]
        self.material = vocabulary.department_materials[
            department, rng.integers(0, vocabulary.department_materials.shape[1], count)
        ]
        self.use = vocabulary.department_uses[
            department, rng.integers(0, vocabulary.department_uses.shape[1], count)
        ]
        self.colour = rng.integers(0, len(words.COLOURS), count)
        self.brand = np.empty(count, np.int64)
        for number, brands in enumerate(vocabulary.department_brands):
            of_department = department == number
            self.brand[of_department] = rng.choice(brands, int(of_department.sum()))

        self.added_day = _draw_arrival_days(rng, count, share_before=0.8)
        # The oldest item of each type is older than the window: no type is ever empty.
        _, first_of_type = np.unique(self.type, return_index=True)
        self.added_day[first_of_type] = -rng.integers(1, 300, len(first_of_type))

        self.factors = unit(
            vocabulary.type_vectors[self.type]
            + 0.7 * vocabulary.brand_vectors[self.brand]
            + 0.55 * vocabulary.material_vectors[self.material]
            + 0.55 * vocabulary.use_vectors[self.use]
        )
        self.styles = unit(
            vocabulary.colour_styles[self.colour]
            + 0.7 * vocabulary.material_styles[self.material]
            + 0.5 * unit(rng.normal(size=(count, STYLE_DIM)))
        )
        self.relative_price = vocabulary.brand_tier[self.brand] + rng.normal(0, 0.3, count)
        self.price = np.round(vocabulary.type_price[self.type] * np.exp(self.relative_price), 2)
        self.quality = rng.normal(0, 0.35, count)
        images = self.styles @ vocabulary.style_to_image
        images += rng.normal(0, 0.3, images.shape)

        self.ids = _make_ids("i", count, 5)
        titles, descriptions = self._compose_texts(vocabulary, department, rng)
        self.frame = pl.DataFrame(
            {
                "item_id": self.ids,
                "title": titles,
                "description": descriptions,
                "category": pl.Series([d.name for d in words.DEPARTMENTS]).gather(department),
                "brand": pl.Series(list(words.BRANDS)).gather(self.brand),
                "price": self.price,
                "image": pl.Series(
                    images.astype(np.float32), dtype=pl.Array(pl.Float32, IMAGE_DIM)
                ),
                "added": START.astype("datetime64[D]") + self.added_day,
            }
        ).with_columns(pl.col("added").cast(pl.Date))

    def _compose_texts(
        self, vocabulary: Vocabulary, department: IntArray, rng: np.random.Generator
    ) -> tuple[list[str], list[str]]:
        """Writes titles and descriptions, one list of `num_items` str each."""
        count = len(self.type)
        adjective = rng.integers(0, len(words.ADJECTIVES), count)
        second = (adjective + rng.integers(1, len(words.ADJECTIVES), count)) % len(words.ADJECTIVES)
        feature = rng.integers(0, len(words.DEPARTMENTS[0].features), count)
        title_form = rng.integers(0, len(words.TITLES), count)
        description_form = rng.integers(0, len(words.DESCRIPTIONS), count)
        fields = [
            {
                "brand": words.BRANDS[brand],
                "colour": words.COLOURS[colour],
                "material": vocabulary.material_names[material],
                "type": vocabulary.type_names[kind],
                "use": vocabulary.use_names[use],
                "adjective": words.ADJECTIVES[one],
                "second": words.ADJECTIVES[two],
                "feature": words.DEPARTMENTS[number].features[detail],
            }
            for brand, colour, material, kind, use, one, two, number, detail in zip(
                *(
                    column.tolist()
                    for column in (
                        self.brand,
                        self.colour,
                        self.material,
                        self.type,
                        self.use,
                        adjective,
                        second,
                        department,
                        feature,
                    )
                ),
                strict=True,
            )
        ]
        titles = [
            words.TITLES[form].format(**values)
            for form, values in zip(title_form.tolist(), fields, strict=True)
        ]
        descriptions = [
            words.DESCRIPTIONS[form].format(**values)
            for form, values in zip(description_form.tolist(), fields, strict=True)
        ]
        return titles, descriptions


class People:
    """The users of a shop, one row each, in the order of `user_id`.

    Attributes:
        joined_day: int64 `[num_users]`, first day with sessions; 0 for users older than the window.
        first_factors, last_factors: float64 `[num_users, FACTOR_DIM]`, taste at the start and at
            the end of the window, of length 1.
        styles: float64 `[num_users, STYLE_DIM]`, of length 1.
        budget: float64 `[num_users]`, log of the relative price a user likes best.
        num_sessions: float64 `[num_users]`, expected number of sessions in the window.
        ids: str Series `[num_users]`.
        frame: the public table of users, see `Shop.users`.
    """

    def __init__(self, size: ShopSize, vocabulary: Vocabulary, seed: int) -> None:
        rng = make_generator(seed, USER_STREAM)
        count = size.num_users
        # What a group likes does not depend on the number of users: drawn first.
        group_vectors = unit(rng.normal(size=(6, len(words.GENDERS), FACTOR_DIM)))
        region_budget = rng.normal(0, 0.3, len(words.REGIONS))

        age = rng.integers(18, 76, count)
        gender = rng.choice(len(words.GENDERS), count, p=[0.5, 0.46, 0.04])
        region = rng.integers(0, len(words.REGIONS), count)
        group = group_vectors[np.digitize(age, [25, 35, 45, 55, 65]), gender]
        own = unit(rng.normal(size=(count, FACTOR_DIM)))
        self.first_factors = unit(0.55 * group + 0.85 * own)
        drift = unit(rng.normal(size=(count, FACTOR_DIM)))
        self.last_factors = unit(self.first_factors + 0.9 * drift)
        self.styles = unit(rng.normal(size=(count, STYLE_DIM)))
        self.budget = region_budget[region] + rng.normal(0, 0.35, count)

        self.joined_day = np.maximum(0, _draw_arrival_days(rng, count, share_before=0.7))
        activity = rng.lognormal(-0.5 * 0.9**2, 0.9, count)  # mean 1
        self.num_sessions = 9.9 * activity * (NUM_DAYS - self.joined_day) / NUM_DAYS

        self.ids = _make_ids("u", count, 6)
        age_unknown, gender_unknown = rng.random(count) < 0.04, rng.random(count) < 0.04
        self.frame = pl.DataFrame(
            {
                "user_id": self.ids,
                "age": age,
                "gender": pl.Series(list(words.GENDERS)).gather(gender),
                "region": pl.Series(list(words.REGIONS)).gather(region),
            }
        ).with_columns(
            age=pl.when(~pl.Series(age_unknown)).then("age"),
            gender=pl.when(~pl.Series(gender_unknown)).then("gender"),
        )


def _draw_arrival_days(rng: np.random.Generator, count: int, share_before: float) -> IntArray:
    """Draws the day on which each of `count` things arrives, int64 `[count]`.

    `share_before` of them come before day 0, `RECENT_SHARE` in the last `RECENT_DAYS` days, the
    others evenly in between.
    """
    first_recent = NUM_DAYS - RECENT_DAYS
    part = rng.random(count)
    before = -rng.integers(1, 300, count)
    between = rng.integers(0, first_recent, count)
    recent = rng.integers(first_recent, NUM_DAYS, count)
    return np.select([part < share_before, part < 1 - RECENT_SHARE], [before, between], recent)


def _make_ids(letter: str, count: int, width: int) -> pl.Series:
    """Makes "i00000", "i00001" and so on, a str Series `[count]`."""
    numbers = pl.Series(np.arange(count)).cast(pl.String).str.zfill(width)
    return (letter + numbers).rename("")
