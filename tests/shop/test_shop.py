from datetime import date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tfrec.shop import Shop, ShopSize, behaviour, words
from tfrec.shop.behaviour import Popularity
from tfrec.shop.events import BLOCK_USERS

FIRST_DAY = date(2025, 1, 6)
SCALE = 0.1


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop(SCALE, seed=3)


@pytest.fixture(scope="module")
def events(shop: Shop) -> pl.DataFrame:
    return shop.events()


@pytest.fixture(scope="module")
def shown(events: pl.DataFrame) -> pl.DataFrame:
    """Returns the rows of slates, with `is_click` and the row of the item as columns."""
    return events.filter(pl.col("position").is_not_null()).with_columns(
        is_click=pl.col("kind") == "click",
        row=pl.col("item_id").str.slice(1).cast(pl.Int64),
    )


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Computes the share of (positive, negative) pairs in the right order, by ranks."""
    rank = np.empty(len(scores))
    rank[np.argsort(scores)] = np.arange(1, len(scores) + 1)
    positives = labels.sum()
    pairs = positives * (len(labels) - positives)
    return float((rank[labels].sum() - positives * (positives + 1) / 2) / pairs)


# Size, determinism, schema


def test_size_of_scale_one_and_twenty():
    assert (ShopSize(1.0).num_users, ShopSize(1.0).num_items) == (6000, 4000)
    assert (ShopSize(20).num_users, ShopSize(20).num_items) == (120_000, 17_889)
    assert ShopSize(20).num_days == 60


@pytest.mark.parametrize("scale", [0, -1.0, float("nan"), float("inf")])
def test_size_refuses_scale_that_is_not_positive(scale: float):
    with pytest.raises(ValueError, match="scale"):
        ShopSize(scale)


def test_shop_refuses_negative_seed():
    with pytest.raises(ValueError, match="seed"):
        Shop(0.01, seed=-1)


def test_same_seed_gives_same_frames_and_another_seed_others(shop: Shop, events: pl.DataFrame):
    np.random.seed(0)  # a global state, which must not matter
    again = Shop(SCALE, seed=3)
    assert_frame_equal(again.items(), shop.items(), check_exact=True)
    assert_frame_equal(again.users(), shop.users(), check_exact=True)
    assert_frame_equal(again.events(), events, check_exact=True)
    other = Shop(SCALE, seed=4)
    assert not other.items().equals(shop.items())
    assert not other.users().equals(shop.users())
    assert not other.events().equals(events)


def test_blocks_drawn_backwards_equal_blocks_in_order():
    shop = Shop(0.7)
    assert shop.num_blocks == 3
    forwards = list(shop.event_blocks())
    backwards = [Shop(0.7).draw_events(block) for block in (2, 1, 0)]
    for one, other in zip(forwards, reversed(backwards), strict=True):
        assert_frame_equal(one, other, check_exact=True)
    numbers = forwards[1]["user_id"].str.slice(1).cast(pl.Int64)
    assert numbers.min() >= BLOCK_USERS
    assert numbers.max() < 2 * BLOCK_USERS
    assert shop.events().height == sum(block.height for block in forwards)


def test_draw_events_refuses_unknown_block(shop: Shop):
    with pytest.raises(ValueError, match="num_blocks=1"):
        shop.draw_events(1)


def test_tiny_shop_has_items_and_events():
    shop = Shop(0.0004)  # two users
    assert shop.users().height == 2
    assert shop.items().height == 128
    assert set(shop.events().columns) >= {"user_id", "item_id", "time", "kind"}


def test_schema_of_tables(shop: Shop, events: pl.DataFrame):
    assert shop.items().schema == {
        "item_id": pl.String,
        "title": pl.String,
        "description": pl.String,
        "category": pl.String,
        "brand": pl.String,
        "price": pl.Float64,
        "image": pl.Array(pl.Float32, 32),
        "added": pl.Date,
    }
    assert shop.users().schema == {
        "user_id": pl.String,
        "age": pl.Int64,
        "gender": pl.String,
        "region": pl.String,
    }
    assert events.schema == {
        "user_id": pl.String,
        "item_id": pl.String,
        "time": pl.Datetime("us"),
        "kind": pl.String,
        "session_id": pl.Int64,
        "position": pl.Int64,
        "query": pl.String,
        "device": pl.String,
        "true_probability": pl.Float64,
    }


def test_values_of_items_and_users(shop: Shop):
    items, users = shop.items(), shop.users()
    assert items["item_id"][42] == "i00042"
    assert users["user_id"][123] == "u000123"
    assert items["item_id"].is_unique().all()
    assert users["user_id"].is_unique().all()
    assert sum(items.null_count().row(0)) == 0
    assert items["category"].n_unique() == 8
    assert items["price"].min() > 0
    assert np.isfinite(items["image"].to_numpy()).all()
    for column in ("age", "gender"):
        assert 0.01 < users[column].null_count() / users.height < 0.08


def test_nulls_are_where_they_should_be(events: pl.DataFrame):
    after = events["kind"].is_in(["cart", "purchase"])
    for column in ("position", "true_probability"):
        assert (events[column].is_null() == after).all()
    rest = events.drop("position", "true_probability")
    assert sum(rest.null_count().row(0)) == 0
    assert (events["query"] == "").any()
    assert (events["query"] != "").any()


def test_events_are_sorted(events: pl.DataFrame):
    assert_frame_equal(
        events, events.sort("time", "user_id", "position", maintain_order=True), check_exact=True
    )


# Texts


def test_texts_mention_type_material_and_use_and_category_does_not(shop: Shop):
    catalogue = shop._catalogue
    type_names = [name for d in words.DEPARTMENTS for name in d.types]
    assert len(set(type_names)) == 64
    materials = sorted({name for d in words.DEPARTMENTS for name in d.materials})
    uses = sorted({name for d in words.DEPARTMENTS for name in d.uses})
    items = shop.items()
    for row, (title, description) in enumerate(items.select("title", "description").iter_rows()):
        for text in (title, description):
            assert type_names[catalogue.type[row]] in text
            assert materials[catalogue.material[row]] in text
            assert uses[catalogue.use[row]] in text
        assert items["brand"][row] in title
        assert words.COLOURS[catalogue.colour[row]] in title
    assert set(items["category"]) == {d.name for d in words.DEPARTMENTS}


@pytest.mark.parametrize(("column", "low", "high"), [("title", 6, 9), ("description", 10, 18)])
def test_length_of_texts(shop: Shop, column: str, low: int, high: int):
    num_words = shop.items()[column].str.split(" ").list.len()
    assert low <= num_words.mean() <= high
    assert num_words.quantile(0.05) >= low
    assert num_words.quantile(0.9) <= high


def test_search_texts_are_distinct(shop: Shop):
    assert shop._behaviour.queries.texts.is_unique().all()


def test_search_shows_only_the_type_searched_for(shop: Shop, shown: pl.DataFrame):
    queries, catalogue = shop._behaviour.queries, shop._catalogue
    searched = shown.filter(pl.col("query") != "")
    assert 0.2 < searched["session_id"].n_unique() / shown["session_id"].n_unique() < 0.3
    row = queries.find(searched["query"].to_list())
    assert (queries.type[row] == catalogue.type[searched["row"].to_numpy()]).all()
    type_names = [name for d in words.DEPARTMENTS for name in d.types]
    for text, number in zip(searched["query"][:200], queries.type[row][:200], strict=True):
        assert text.endswith(type_names[number])


# Order in time


def test_items_are_shown_only_once_added_and_users_only_once_joined(
    shop: Shop, events: pl.DataFrame
):
    joined = pl.DataFrame(
        {"user_id": shop.users()["user_id"], "joined_day": shop._people.joined_day}
    )
    table = events.join(shop.items().select("item_id", "added"), on="item_id").join(
        joined, on="user_id"
    )
    assert table.height == events.height
    assert (table["time"].dt.date() >= table["added"]).all()
    day = table.select((pl.col("time").dt.date() - FIRST_DAY).dt.total_days()).to_series()
    assert (day >= table["joined_day"]).all()


def test_last_week_brings_items_and_users_without_earlier_events(shop: Shop, events: pl.DataFrame):
    last_week = FIRST_DAY + timedelta(days=53)
    new = shop.items().filter(pl.col("added") >= last_week)
    assert 0.02 < new.height / shop.items().height < 0.09
    of_new = events.filter(pl.col("item_id").is_in(new["item_id"].to_list()))
    assert of_new.height > 50
    assert of_new["time"].min() >= datetime(2025, 2, 28)
    new_users = int((shop._people.joined_day >= 53).sum())
    assert 0.02 < new_users / shop.users().height < 0.09


def test_all_slates_are_within_the_window(shown: pl.DataFrame):
    assert shown["time"].min() >= datetime(2025, 1, 6)
    assert shown["time"].max() < datetime(2025, 3, 7)
    assert shown["time"].dt.date().n_unique() == 60


def test_slates_have_positions_in_a_row_and_no_item_twice(shown: pl.DataFrame):
    slates = shown.group_by("session_id").agg(
        pl.col("position").sort().alias("positions"),
        pl.col("item_id").n_unique().alias("num_items"),
        pl.col("time", "user_id", "query", "device").n_unique(),
        pl.len(),
    )
    assert slates["num_items"].equals(slates["len"].rename("num_items"))
    expected = slates.select(pl.int_ranges(1, pl.col("len") + 1))
    assert slates["positions"].to_list() == expected.to_series().to_list()
    assert (slates.select("time", "user_id", "query", "device") == 1).to_numpy().all()
    assert slates["len"].max() == 10
    assert slates["len"].min() < 10  # duplicates were dropped


def test_cart_follows_click_and_purchase_follows_cart(events: pl.DataFrame):
    keys = ["session_id", "item_id"]
    of_kind = {
        kind: events.filter(pl.col("kind") == kind).select(*keys, "user_id", time=pl.col("time"))
        for kind in ("click", "cart", "purchase")
    }
    for later, earlier, least, most in (
        ("cart", "click", 20, 300),
        ("purchase", "cart", 30, 1800),
    ):
        assert of_kind[later].height > 50
        pairs = of_kind[later].join(of_kind[earlier], on=[*keys, "user_id"], validate="1:1")
        assert pairs.height == of_kind[later].height
        seconds = (pairs["time"] - pairs["time_right"]).dt.total_microseconds() / 1e6
        assert seconds.min() >= least
        assert seconds.max() <= most
    assert 0.15 < of_kind["cart"].height / of_kind["click"].height < 0.26
    assert 0.3 < of_kind["purchase"].height / of_kind["cart"].height < 0.5


# Probabilities


def test_affinity_equals_its_definition(shop: Shop):
    model, catalogue, people = shop._behaviour, shop._catalogue, shop._people
    rng = np.random.default_rng(0)
    user = rng.integers(0, shop.size.num_users, 50)
    item = rng.integers(0, shop.size.num_items, 50)
    day_time = rng.uniform(0, 60, 50)
    got = model.compute_affinity(model.describe_users(user, day_time), np.arange(50), item)
    for n in range(50):
        u, i, part = user[n], item[n], day_time[n] / 60
        taste = (1 - part) * people.first_factors[u] + part * people.last_factors[u]
        want = (
            4.6 * sum(taste * catalogue.factors[i])
            + 1.6 * sum(people.styles[u] * catalogue.styles[i])
            - 0.8 * (catalogue.relative_price[i] - people.budget[u]) ** 2
            + catalogue.quality[i]
        )
        assert got[n] == pytest.approx(want)


def test_true_probabilities_match_click_frequencies_in_bins(shown: pl.DataFrame):
    probability = shown["true_probability"].to_numpy()
    click = shown["is_click"].to_numpy()
    for part in np.array_split(np.argsort(probability), 10):
        error = click[part].sum() - probability[part].sum()
        deviation = np.sqrt((probability[part] * (1 - probability[part])).sum())
        assert abs(error) < 4 * deviation
    for position in (1, 5, 9):
        part = shown["position"].to_numpy() == position
        deviation = np.sqrt((probability[part] * (1 - probability[part])).sum())
        assert abs(click[part].sum() - probability[part].sum()) < 4 * deviation


def test_click_rate_and_oracle_auc_are_in_their_bands(shown: pl.DataFrame):
    click = shown["is_click"].to_numpy()
    assert 0.08 < click.mean() < 0.14
    assert 0.76 < auc(click, shown["true_probability"].to_numpy()) < 0.83


def test_examination_falls_from_one(shop: Shop):
    assert behaviour.EXAMINATION[0] == 1
    assert (np.diff(behaviour.EXAMINATION) < 0).all()
    mean_logit = behaviour.DEVICE_SHARES @ behaviour.DEVICE_LOGITS
    assert mean_logit == pytest.approx(0)


def test_popularity_samples_as_often_as_it_says(shop: Shop):
    popularity: Popularity = shop._behaviour.popularity
    catalogue = shop._catalogue
    rng = np.random.default_rng(1)
    count, day = 200_000, 55
    for item_type in (-1, 0, 17, 63):
        item = popularity.sample(rng.random(count), np.full(count, day), np.full(count, item_type))
        want = popularity.share[day] * ((catalogue.type == item_type) | (item_type < 0))
        want = count * want / want.sum()
        observed = np.bincount(item, minlength=len(want))
        assert observed[want == 0].sum() == 0
        kept = want > 0
        chi_square = ((observed - want)[kept] ** 2 / want[kept]).sum()
        freedom = kept.sum() - 1
        assert chi_square < freedom + 5 * np.sqrt(2 * freedom)


def test_popularity_sample_at_the_edges_stays_in_its_type(shop: Shop):
    popularity = shop._behaviour.popularity
    days, types = (grid.ravel() for grid in np.meshgrid(np.arange(60), np.arange(64)))
    for uniform in (0.0, np.nextafter(1.0, 0.0)):
        item = popularity.sample(np.full(len(days), uniform), days, types)
        assert (shop._catalogue.type[item] == types).all()
        assert (shop._catalogue.added_day[item] <= days).all()


def _count_by_mass(shop: Shop, first: pl.DataFrame, user_ids: list[str]) -> np.ndarray:
    """Counts, by tenths of probability mass, where the first item of each slate falls.

    Items of a request stand in order of their probability, the likeliest first. An item falls on
    a uniform point of the mass it covers, so all tenths get the same if probabilities are true.
    """
    rng = np.random.default_rng(2)
    counts = np.zeros(10)
    for start in range(0, first.height, 500):
        part = first[start : start + 500]
        probabilities = shop.slot_probabilities(
            user_ids[start : start + 500], part["time"], part["query"]
        )
        np.testing.assert_allclose(probabilities.sum(axis=1), 1)
        own = probabilities[np.arange(len(part)), part["row"].to_numpy()][:, None]
        before = np.where(probabilities > own, probabilities, 0).sum(axis=1)
        point = before + rng.random(len(part)) * own[:, 0]
        counts += np.histogram(point, bins=10, range=(0, 1))[0]
    return counts


def test_first_items_follow_slot_probabilities_of_their_user_only(shop: Shop, shown: pl.DataFrame):
    # The first slot is never dropped as a duplicate, so it is one pure draw.
    first = shown.filter((pl.col("position") == 1) & (pl.col("query") == ""))
    want = first.height / 10
    own = _count_by_mass(shop, first, first["user_id"].to_list())
    assert ((own - want) ** 2 / want).sum() < 9 + 5 * np.sqrt(2 * 9)
    others = first["user_id"].shuffle(seed=0).to_list()
    wrong = _count_by_mass(shop, first, others)
    assert ((wrong - want) ** 2 / want).sum() > 200
    searched = shown.filter((pl.col("position") == 1) & (pl.col("query") != ""))
    own = _count_by_mass(shop, searched, searched["user_id"].to_list())
    want = searched.height / 10
    assert ((own - want) ** 2 / want).sum() < 9 + 5 * np.sqrt(2 * 9)


def test_expected_clicks_match_click_counts_in_bins(shop: Shop, shown: pl.DataFrame):
    sessions = shown.unique("session_id", maintain_order=True)
    number = pl.DataFrame({"session_id": sessions["session_id"]}).with_row_index("request")
    clicked = shown.filter("is_click").join(number, on="session_id")
    edges = np.array([0.001, 0.003, 0.006, 0.01, 0.02, 0.04, 0.08])
    want, observed = np.zeros(len(edges) + 1), np.zeros(len(edges) + 1)
    for start in range(0, sessions.height, 500):
        part = sessions[start : start + 500]
        weights = shop.expected_clicks(part["user_id"], part["time"], part["query"])
        assert weights.dtype == np.float32
        assert weights.shape == (part.height, shop.size.num_items)
        want += np.bincount(
            np.digitize(weights.ravel(), edges), weights.ravel(), minlength=len(want)
        )
        here = clicked.filter(pl.col("request").is_between(start, start + part.height - 1))
        of_clicks = weights[here["request"].to_numpy() - start, here["row"].to_numpy()]
        assert (of_clicks > 0).all()
        observed += np.bincount(np.digitize(of_clicks, edges), minlength=len(want))
    # Averaging over positions and devices is worth a few per cent.
    assert (np.abs(observed - want) < 4 * np.sqrt(want) + 0.05 * want).all()
    assert (want > 50).all()


def test_expected_clicks_find_clicked_items_far_better_than_popularity(
    shop: Shop, shown: pl.DataFrame
):
    cut = shown["time"].quantile(0.9)
    clicks = shown.filter("is_click")
    before, after = clicks.filter(pl.col("time") < cut), clicks.filter(pl.col("time") >= cut)
    k = shop.size.num_items // 40
    counts = np.bincount(before["row"], minlength=shop.size.num_items)
    popular = np.argsort(-counts, kind="stable")[:k]
    by_popularity = np.isin(after["row"], popular).mean()
    weights = shop.expected_clicks(after["user_id"], after["time"], after["query"])
    own = weights[np.arange(after.height), after["row"].to_numpy()][:, None]
    by_oracle = ((weights > own).sum(axis=1) < k).mean()
    assert 0.03 < by_popularity < 0.25
    assert by_oracle > 4 * by_popularity


def test_expected_clicks_of_items_not_yet_added_are_zero(shop: Shop):
    weights = shop.expected_clicks(["u000000"], [datetime(2025, 1, 6, 12)])
    is_added = (shop.items()["added"] <= FIRST_DAY).to_numpy()
    assert (weights[0, ~is_added] == 0).all()
    assert (weights[0, is_added] > 0).all()


def test_expected_clicks_of_known_query_prefer_items_that_match(shop: Shop):
    catalogue = shop._catalogue
    type_names = [name for d in words.DEPARTMENTS for name in d.types]
    materials = sorted({name for d in words.DEPARTMENTS for name in d.materials})
    # The last day: all items are there.
    plain, leather = shop.expected_clicks(
        ["u000001"] * 2, [datetime(2025, 3, 6, 12)] * 2, ["wallet", "leather wallet"]
    )
    is_wallet = catalogue.type == type_names.index("wallet")
    is_leather = catalogue.material == materials.index("leather")
    for weights in (plain, leather):
        assert (weights[~is_wallet] == 0).all()
        assert (weights[is_wallet] > 0).all()
    ratio = leather[is_wallet] / plain[is_wallet]
    assert (ratio[is_leather[is_wallet]] > 1.01).all()
    np.testing.assert_allclose(ratio[~is_leather[is_wallet]], 1, rtol=1e-5)


def test_unknown_query_counts_as_no_query(shop: Shop):
    users, times = ["u000005"] * 3, [datetime(2025, 2, 1, 9)] * 3
    weights = shop.expected_clicks(users, times, ["", "no such thing", "wallet"])
    np.testing.assert_array_equal(weights[0], weights[1])
    np.testing.assert_array_equal(weights[0], shop.expected_clicks(users[:1], times[:1])[0])
    assert not np.array_equal(weights[0], weights[2])


def test_expected_clicks_refuse_unknown_user_and_unequal_lengths(shop: Shop):
    with pytest.raises(ValueError, match="'u999999'"):
        shop.expected_clicks(["u999999"], [datetime(2025, 2, 1)])
    with pytest.raises(ValueError, match="1, 2, 1"):
        shop.expected_clicks(["u000001"], [datetime(2025, 2, 1)] * 2)
    assert shop.expected_clicks([], []).shape == (0, shop.size.num_items)


# Files


def test_written_files_equal_frames(tmp_path):
    shop = Shop(0.4, seed=9)  # two blocks
    folder = shop.write(tmp_path / "new" / "shop")
    assert folder == tmp_path / "new" / "shop"
    assert_frame_equal(pl.read_parquet(folder / "items.parquet"), shop.items(), check_exact=True)
    assert_frame_equal(pl.read_parquet(folder / "users.parquet"), shop.users(), check_exact=True)
    parts = sorted((folder / "events").iterdir())
    assert [part.name for part in parts] == ["part-00000.parquet", "part-00001.parquet"]
    written = pl.concat([pl.read_parquet(part) for part in parts]).sort(
        "time", "user_id", "position", maintain_order=True
    )
    assert_frame_equal(written, shop.events(), check_exact=True)
    assert [path.name for path in folder.parent.iterdir()] == ["shop"]


def test_write_same_shop_twice_gives_same_bytes(tmp_path):
    one = Shop(0.01).write(tmp_path / "one")
    two = Shop(0.01).write(tmp_path / "two")
    for name in ("items.parquet", "users.parquet", "events/part-00000.parquet"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_write_replaces_a_folder_only_when_told(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "note.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite"):
        Shop(0.01).write(folder)
    assert (folder / "note.txt").exists()
    Shop(0.01).write(folder, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == [
        "events",
        "items.parquet",
        "users.parquet",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["shop"]


def test_write_that_fails_leaves_the_old_folder(tmp_path, monkeypatch):
    folder = Shop(0.01, seed=1).write(tmp_path / "shop")
    before = (folder / "items.parquet").read_bytes()
    broken = Shop(0.01, seed=2)

    def fail(block: int) -> pl.DataFrame:
        raise OSError("disk full")

    monkeypatch.setattr(broken, "draw_events", fail)
    with pytest.raises(OSError, match="disk full"):
        broken.write(folder, overwrite=True)
    assert (folder / "items.parquet").read_bytes() == before
