"""Items that came, changed and went after the training, against plain Python."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from small_recommender import (
    DIM,
    ITEM_IDS,
    ITEMS,
    NUM_ITEMS,
    K,
    make_recommender,
    make_request,
)

from tfrec.config import Filters
from tfrec.errors import DataError
from tfrec.index import ExactIndex
from tfrec.index.delta import DeltaIndex
from tfrec.recommender.catalogue import Catalogue, changed_catalogue, item_filters
from tfrec.recommender.changes import Changes

IDS = ITEMS["item_id"]


def unit(count: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def nothing_changed() -> Changes:
    return Changes("model", ITEMS.clear(), np.zeros((0, DIM), np.float32))


def rows_named(names: list[str]) -> pl.DataFrame:
    return ITEMS[: len(names)].with_columns(item_id=pl.Series(names))


@pytest.fixture(scope="module")
def changes() -> Changes:
    found = nothing_changed()
    found = found.with_items(
        rows_named(["new1", "new2", "new3"]), unit(3, 1), None, IDS, update=False
    )
    found = found.with_items(rows_named(["i4", "new2"]), unit(2, 2), None, IDS, update=True)
    found = found.without(["i9", "new3"], IDS)
    return found.with_items(rows_named(["i9"]), unit(1, 3), None, IDS, update=False)


def test_indices_are_for_good_and_ids_name_the_last_row(changes):
    assert changes.number == 4
    present = changes.present(IDS)
    assert set(present) == {*ITEM_IDS, "new1", "new2"}
    first = NUM_ITEMS + 1
    assert [present[i] for i in ("new1", "i4", "new2", "i9")] == [
        first, first + 3, first + 4, first + 5,
    ]  # fmt: skip
    assert present["i3"] == 4
    # Old i4, old new2, i9 and new3 are gone; new3 alone has no other row.
    assert changes.gone == {5, first + 1, 10, first + 2}
    assert changes.replaced == {5, first + 1, 10}


@pytest.mark.parametrize(
    ("ids", "update", "words"),
    [
        (["new9", "i3"], False, "'i3' is in the catalogue; `update` it"),
        (["i3", "x1", "x2"], True, "'x1', 'x2' are not in the catalogue; `add` it"),
    ],
)
def test_ids_that_do_not_fit_are_named(ids, update, words):
    with pytest.raises(DataError, match=words):
        nothing_changed().with_items(rows_named(ids), unit(len(ids), 0), None, IDS, update=update)
    with pytest.raises(DataError, match="'zzz' is not in the catalogue"):
        nothing_changed().without(["i3", "zzz"], IDS)


def test_saved_changes_are_read_as_they_were(changes, tmp_path):
    changes.save(tmp_path)
    loaded = Changes.load(tmp_path)
    assert loaded.items.equals(changes.items)
    np.testing.assert_array_equal(loaded.embeddings, changes.embeddings)
    for name in ("model", "gone", "replaced", "number", "ranked_embeddings"):
        assert getattr(loaded, name) == getattr(changes, name)


@pytest.fixture(scope="module")
def changed(changes):
    """The small recommender with the changed catalogue."""
    recommender = make_recommender(k=K).eager
    embeddings = recommender.index.tensors()[0]
    items = pl.concat([ITEMS, changes.items])
    catalogue = Catalogue(
        item_ids=ITEM_IDS,
        item_id_rows=recommender._item_id_rows.numpy(),
        item_inputs={name: table.numpy() for name, table in recommender.core._item_inputs.items()},
        user_ids=[],
        user_id_rows=np.zeros(1, np.int32),
        item_embeddings=np.concatenate([np.zeros((1, DIM), np.float32), embeddings]),
    )
    catalogue = changed_catalogue(catalogue, changes, items, recommender.inputs.item_features)
    filters = item_filters(items, Filters(attributes=["brand"]), changes.gone)
    catalogue = dataclasses.replace(catalogue, **filters)
    index = DeltaIndex(ExactIndex(embeddings), changes.embeddings)
    return make_recommender(k=K, catalogue=catalogue, index=index).eager, catalogue


def test_changed_catalogue_answers_what_is_present_alone(changed, changes):
    recommender, catalogue = changed
    present = changes.present(IDS)
    rng = np.random.default_rng(0)
    for _ in range(6):
        history = rng.choice([*present, "new3", "no such item"], 5).astype(object)[None]
        excluded = rng.choice([*present], 8).astype(object)[None]
        request = make_request(
            history=history, exclude_item_ids=excluded, allow_brand=[["b1", "rare"]]
        )
        answer = recommender.retrieve(request)
        found = [cell.decode() for cell in answer["item_id"].numpy()[0] if cell]
        brands = [*ITEMS["brand"], *changes.items["brand"]]
        barred = {*history[0], *excluded[0]}
        allowed = {
            item: index
            for item, index in present.items()
            if item not in barred and brands[index - 1] in ("b1", "rare")
        }
        assert set(found) == set(allowed)
        user = recommender.encode_user(request).numpy()[0]
        scores = [float(user @ catalogue.item_embeddings[allowed[item]]) for item in found]
        np.testing.assert_allclose(answer["score"].numpy()[0][: len(found)], scores, atol=1e-5)
        assert scores == sorted(scores, reverse=True)


def test_added_items_are_known_in_histories_and_ranked(changed):
    recommender, _ = changed
    with_new = recommender.encode_user(make_request(history=[["new1"]]))
    without = recommender.encode_user(make_request(history=[[""]]))
    assert np.abs(with_new.numpy() - without.numpy()).max() > 1e-3
    answer = recommender.rank(make_request(item_id=[["new1", "i4", "gone"]]))
    assert np.isfinite(answer["probability"].numpy()).all()
    assert answer["score"].numpy()[0, 0] != 0


def test_unchanged_items_keep_their_scores(changed):
    recommender, _ = changed
    before = make_recommender(k=K).eager
    request = make_request(history=[["i1", "i2"]], item_id=[["i7", "i20"]])
    for name, value in before.rank(request).items():
        np.testing.assert_array_equal(recommender.rank(request)[name], value)
