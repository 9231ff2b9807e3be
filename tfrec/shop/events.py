"""Draws what happens in the shop: sessions, slates, clicks, carts, purchases."""

from typing import Final

import numpy as np
import polars as pl

from tfrec.shop import words
from tfrec.shop.behaviour import (
    CLICK_BIAS,
    DEVICE_LOGITS,
    DEVICE_SHARES,
    EXAMINATION,
    MATCH_BONUS,
    NO_QUERY,
    POPULAR_SHARE,
    SLATE_SIZE,
    Behaviour,
    sigmoid,
)
from tfrec.shop.world import (
    EVENT_STREAM,
    NUM_DAYS,
    START,
    FloatArray,
    IntArray,
    make_generator,
)

BLOCK_USERS: Final = 2000
"""Users drawn together. Part of what a seed means: another number gives another shop."""
SEARCH_SHARE: Final = 0.25
PURCHASE_SHARE: Final = 0.4
CART_BIAS: Final = -2.4
SESSIONS_PER_USER: Final = 10_000
"""Session ids of user number n begin at n times this."""

_SECOND = 1_000_000
DAY: Final = 86_400 * _SECOND
"""One day in microseconds."""
_WEEK = np.array([1.0, 0.95, 0.95, 1.0, 1.1, 1.25, 1.3])
_HOURS = np.array(
    [3, 2, 1, 1, 1, 2, 4, 6, 8, 9, 10, 11, 13, 12, 10, 10, 11, 13, 15, 18, 20, 18, 12, 6]
)


def draw_block(behaviour: Behaviour, seed: int, block: int) -> pl.DataFrame:
    """Draws all events of one block of users.

    Args:
        behaviour: the probabilities of the shop.
        seed: int, the seed of the shop.
        block: int, users `block * BLOCK_USERS` up to the next block.

    Returns:
        Events sorted by time, user and position; columns as in `Shop.event_blocks`.
    """
    rng = make_generator(seed, EVENT_STREAM, block)
    catalogue, people, queries = behaviour.catalogue, behaviour.people, behaviour.queries

    # Sessions, by user, then time.
    user, session_id, time = _draw_sessions(behaviour, rng, block)
    day = time // DAY
    device = rng.choice(len(words.DEVICES), len(user), p=DEVICE_SHARES)
    described = behaviour.describe_users(user, time / DAY)
    type_bounds = np.cumsum(behaviour.compute_type_probabilities(described), axis=1)
    is_search = rng.random(len(user)) < SEARCH_SHARE
    wanted = _draw_types(rng.random((len(user), 1)), type_bounds)[:, 0]
    query = np.where(is_search, queries.sample(rng, wanted), NO_QUERY)

    slot_item = _draw_slots(behaviour, rng, day, type_bounds, np.where(is_search, wanted, -1))

    # Shown items, one row each, by session, then position.
    is_first = _find_first_occurrences(slot_item)
    session, _ = np.nonzero(is_first)
    item = slot_item[is_first]
    position = np.cumsum(is_first, axis=1)[is_first]
    affinity = behaviour.compute_affinity(described, session, item)
    match = queries.match(query[session], catalogue, item)
    logits = CLICK_BIAS + affinity + MATCH_BONUS * match + DEVICE_LOGITS[device[session]]
    probability = EXAMINATION[position - 1] * sigmoid(logits)
    is_click = rng.random(len(item)) < probability

    carted, cart_time, bought, purchase_time = _draw_orders(
        rng, np.flatnonzero(is_click), affinity, time[session]
    )
    shown = np.arange(len(item))
    row = np.concatenate([shown, carted, bought])
    kind = np.repeat([1, 2, 3], [len(shown), len(carted), len(bought)])
    kind[: len(shown)] = is_click
    is_slate = pl.Series(np.arange(len(row)) < len(shown))
    row_session = session[row]
    row_time = np.concatenate([time[session], cart_time, purchase_time])
    query_texts = pl.concat([queries.texts, pl.Series([""])])  # NO_QUERY is the last row
    return (
        pl.DataFrame(
            {
                "user_id": people.ids.gather(user[row_session]),
                "item_id": catalogue.ids.gather(item[row]),
                "time": START + row_time.astype("timedelta64[us]"),
                "kind": pl.Series(["impression", "click", "cart", "purchase"]).gather(kind),
                "session_id": session_id[row_session],
                "position": position[row],
                "query": query_texts.gather(query[row_session] % len(query_texts)),
                "device": pl.Series(list(words.DEVICES)).gather(device[row_session]),
                "true_probability": probability[row],
            }
        )
        .with_columns(
            pl.when(is_slate).then(pl.col("position", "true_probability")),
        )
        .sort("time", "user_id", "position", maintain_order=True)
    )


def _draw_sessions(
    behaviour: Behaviour, rng: np.random.Generator, block: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Draws the sessions of a block.

    Returns:
        Three int64 `[num_sessions]`: the row of the user, the session id, the time in
        microseconds since the start of the window; sorted by user, then time.
    """
    people = behaviour.people
    users = np.arange(block * BLOCK_USERS, min((block + 1) * BLOCK_USERS, len(people.ids)))
    counts = np.minimum(rng.poisson(people.num_sessions[users]), SESSIONS_PER_USER)
    user = np.repeat(users, counts)

    # A day not before the user joined: the upper part of the cumulative weights of the days.
    bounds = np.concatenate([[0.0], np.cumsum(np.resize(_WEEK, NUM_DAYS))])
    low = bounds[people.joined_day[user]]
    value = low + rng.random(len(user)) * (bounds[-1] - low)
    day = np.minimum(np.searchsorted(bounds, value, side="right") - 1, NUM_DAYS - 1)
    hour = rng.choice(len(_HOURS), len(user), p=_HOURS / _HOURS.sum())
    time = day * DAY + hour * (DAY // 24) + rng.integers(0, DAY // 24, len(user))
    time = time[np.lexsort((time, user))]

    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    ordinal = np.arange(len(user)) - np.repeat(first, counts)
    return user, user * SESSIONS_PER_USER + ordinal, time


def _draw_slots(
    behaviour: Behaviour,
    rng: np.random.Generator,
    day: IntArray,
    type_bounds: FloatArray,
    searched_type: IntArray,
) -> IntArray:
    """Draws the item of each slot, all independent, int64 `[num_sessions, SLATE_SIZE]`.

    Args:
        behaviour: The probabilities of the shop.
        rng: Where the numbers come from.
        day: int64 `[num_sessions]`.
        type_bounds: float64 `[num_sessions, num_types]`, cumulative probabilities of the types.
        searched_type: int64 `[num_sessions]`, the type of all slots; -1 where nothing is searched.
    """
    shape = (len(day), SLATE_SIZE)
    slot_type = _draw_types(rng.random(shape), type_bounds)
    slot_type[rng.random(shape) < POPULAR_SHARE] = -1
    is_search = searched_type >= 0
    slot_type[is_search] = searched_type[is_search, None]
    slot_day = np.broadcast_to(day[:, None], shape)
    return behaviour.popularity.sample(
        rng.random(shape).ravel(), slot_day.ravel(), slot_type.ravel()
    ).reshape(shape)


def _draw_orders(
    rng: np.random.Generator, clicked: IntArray, affinity: FloatArray, time: IntArray
) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Draws what follows clicks: carts, and purchases of what is in them.

    Args:
        rng: Where the numbers come from.
        clicked: int64, rows of the clicks among the shown items.
        affinity: float64 `[num_shown]`.
        time: int64 `[num_shown]`, microseconds since the start of the window.

    Returns:
        Rows of the carts and their times, rows of the purchases and their times, int64 each.
    """
    cart_chance = sigmoid(CART_BIAS + 0.5 * affinity[clicked])
    carted = clicked[rng.random(len(clicked)) < cart_chance]
    cart_time = time[carted] + rng.integers(20 * _SECOND, 300 * _SECOND, len(carted))
    is_bought = rng.random(len(carted)) < PURCHASE_SHARE
    bought = carted[is_bought]
    purchase_time = cart_time[is_bought] + rng.integers(30 * _SECOND, 1800 * _SECOND, len(bought))
    return carted, cart_time, bought, purchase_time


def _draw_types(uniform: FloatArray, bounds: FloatArray) -> IntArray:
    """Draws types by inverse transform, int64 `[n, k]`.

    Args:
        uniform: float64 `[n, k]`, in [0, 1).
        bounds: float64 `[n, num_types]`, cumulative probabilities of each row.
    """
    num_rows, num_types = bounds.shape
    offset = np.arange(num_rows)[:, None]
    # Row n occupies the values from n to n + 1, so one search serves all rows.
    flat = (bounds / bounds[:, -1:] + offset).ravel()
    found = np.searchsorted(flat, (uniform + offset).ravel(), side="right")
    return np.minimum(found.reshape(uniform.shape) - offset * num_types, num_types - 1)


def _find_first_occurrences(items: IntArray) -> np.ndarray:
    """Marks the first slot of each distinct item in each row, bool, shape of `items`."""
    order = np.argsort(items, axis=1, kind="stable")
    ordered = np.take_along_axis(items, order, axis=1)
    is_new = np.ones(items.shape, bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    marks = np.empty_like(is_new)
    np.put_along_axis(marks, order, is_new, axis=1)
    return marks
