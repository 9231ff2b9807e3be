import keras
import numpy as np
import pytest
import tensorflow as tf
from small_recommender import (
    CANDIDATES,
    DIM,
    ITEM_IDS,
    ITEMS,
    MAX_HISTORY,
    NUM_ITEMS,
    Compiled,
    K,
    assert_same,
    make_items,
    make_mixed_requests,
    make_recommender,
    make_request,
    order_value,
    recommend,
)

from tfrec.candidates.build import loaded_sources
from tfrec.candidates.order import CLICK_LOG_ODDS, SCORE, ListOrder
from tfrec.candidates.tables import CandidateTable
from tfrec.config import Candidates, Feature, Ranking
from tfrec.features import Category, encode_frame, fit_features
from tfrec.models.build import ranking_model
from tfrec.models.ranking_head import RankingHead
from tfrec.recommender import Catalogue, Inputs, Recommender, last_items, last_values


@pytest.fixture(scope="module")
def recommender() -> Compiled:
    return make_recommender()


@pytest.fixture(scope="module")
def embeddings(recommender: Compiled) -> np.ndarray:
    return recommender.eager.index.tensors()[0]


@pytest.mark.parametrize(
    ("history", "length", "wanted"),
    [
        ([1, 2, 3], 3, [1, 2, 3]),
        ([1, 2, 3], 2, [2, 3]),
        ([1, 2, 3], 5, [0, 0, 1, 2, 3]),
        ([5, 0, 0, 6, 0], 3, [0, 5, 6]),
        ([5, 0, 7, 6, 0], 2, [7, 6]),
        ([0, 0], 3, [0, 0, 0]),
        ([], 2, [0, 0]),
        ([4, 4, 4], 2, [4, 4]),
    ],
)
def test_last_items_of_hand_made_histories(history, length, wanted):
    row = tf.constant([history], tf.int32, shape=[1, len(history)])
    assert last_items(row, length).numpy().tolist() == [wanted]


@pytest.mark.parametrize(
    ("history", "values", "wanted"),
    [
        ([1, 2, 3], [7, 8, 9], [8, 9]),
        ([1, 2, 3], [9], [0, 9]),  # of the last one alone
        ([5, 0, 6, 0], [7, 1, 8, 1], [7, 8]),
        ([6], [1, 2, 9], [0, 9]),  # more values than items
        ([0, 0], [7, 8], [0, 0]),
    ],
)
def test_last_values_go_with_the_last_items(history, values, wanted):
    row, numbers = (tf.constant([each], tf.int32) for each in (history, values))
    assert last_values(numbers, row, 2).numpy().tolist() == [wanted]


def test_last_items_of_no_rows_are_no_rows():
    assert last_items(tf.zeros([0, 5], tf.int32), 3).shape == (0, 3)


# Items


def test_items_of_the_catalogue_encode_to_their_table_rows(recommender, embeddings):
    encoded = recommender.encode_item(make_items(range(NUM_ITEMS))).numpy()
    np.testing.assert_allclose(encoded, embeddings, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(encoded, axis=1), 1, atol=1e-5)
    alone = recommender.encode_item(make_items([4])).numpy()
    np.testing.assert_allclose(alone[0], embeddings[4], atol=1e-5)


def test_item_that_is_new_or_has_no_row_shares_the_unknown_row(recommender, embeddings):
    last = make_items([NUM_ITEMS - 1])  # in the catalogue, without a row of its own
    renamed = last | {"item_id": tf.constant(["brand new"])}
    np.testing.assert_allclose(
        recommender.encode_item(renamed).numpy()[0], embeddings[-1], atol=1e-5
    )
    first = make_items([0]) | {"item_id": tf.constant(["brand new"])}
    assert np.abs(recommender.encode_item(first).numpy()[0] - embeddings[0]).max() > 1e-3


def test_item_of_which_nothing_is_known_has_length_one(recommender):
    nothing = {
        name: tf.zeros_like(value) if value.dtype != tf.string else tf.fill(tf.shape(value), "")
        for name, value in make_items([0, 1]).items()
    }
    encoded = recommender.encode_item(nothing).numpy()
    np.testing.assert_allclose(np.linalg.norm(encoded, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(encoded[0], encoded[1], atol=1e-6)


# Requests


@pytest.mark.parametrize("batch", [0, 1, 7])
def test_answers_have_the_declared_shapes(recommender, batch):
    request = make_mixed_requests(batch)
    recommended = recommender.recommend(request)
    assert {name: value.shape for name, value in recommended.items()} == {
        "item_id": (batch, K), "score": (batch, K), "probability": (batch, K)
    }  # fmt: skip
    retrieved = recommender.retrieve(request)
    assert {name: value.shape for name, value in retrieved.items()} == {
        "item_id": (batch, CANDIDATES), "score": (batch, CANDIDATES)
    }  # fmt: skip
    assert recommender.encode_user(request).shape == (batch, DIM)
    ranked = recommender.rank(request | {"item_id": tf.fill([batch, 3], "i1")})
    assert {value.shape for value in ranked.values()} == {(batch, 3)}


def test_rows_of_a_batch_are_answered_as_if_alone(recommender):
    request = make_mixed_requests(7)
    together = recommender.recommend(request)
    for row in range(7):
        alone = recommender.recommend(
            {name: value[row : row + 1] for name, value in request.items()}
        )
        assert_same(alone, {name: value[row : row + 1] for name, value in together.items()})


def test_recommended_items_are_distinct_known_new_and_best_first(recommender):
    request = make_mixed_requests(7)
    ids, scores, probabilities = recommend(recommender, request)
    histories = [{cell.decode() for cell in row} for row in request["history"].numpy()]
    for row, history in zip(ids, histories, strict=True):
        assert len(set(row)) == K
        assert set(row) <= set(ITEM_IDS)
        assert not set(row) & history
    assert (np.diff(order_value(scores, probabilities), axis=1) <= 1e-5).all()
    assert ((probabilities > 0) & (probabilities < 1)).all()
    assert (np.abs(scores) <= 1 + 1e-5).all()


def test_recommended_items_are_the_best_of_the_retrieved(recommender):
    request = make_mixed_requests(5)
    retrieved = recommender.retrieve(request)["item_id"]
    ranked = recommender.rank(request | {"item_id": retrieved})
    value = order_value(ranked["score"].numpy(), ranked["probability"].numpy())
    wanted = np.take_along_axis(retrieved.numpy(), np.argsort(-value, axis=1)[:, :K], axis=1)
    np.testing.assert_array_equal(recommender.recommend(request)["item_id"].numpy(), wanted)
    by_click = np.argsort(-ranked["probability"].numpy(), axis=1)[:, :K]
    assert (np.take_along_axis(retrieved.numpy(), by_click, axis=1) != wanted).any()


def test_rank_agrees_with_recommend_on_the_same_items(recommender):
    request = make_mixed_requests(5)
    recommended = recommender.recommend(request)
    ranked = recommender.rank(request | {"item_id": recommended["item_id"]})
    assert_same(ranked, recommended)


def test_rank_answers_in_the_given_order(recommender):
    request = make_mixed_requests(1)
    forward = recommender.rank(request | {"item_id": tf.constant([ITEM_IDS])})
    backward = recommender.rank(request | {"item_id": tf.constant([ITEM_IDS[::-1]])})
    assert_same(forward, {name: value[:, ::-1] for name, value in backward.items()})
    assert len(np.unique(forward["score"].numpy())) == NUM_ITEMS


def test_rank_of_unknown_and_empty_ids_scores_zero(recommender):
    request = make_mixed_requests(1)
    given = tf.constant([["i3", "", "no such item", "i3"]])
    answer = {k: v.numpy()[0] for k, v in recommender.rank(request | {"item_id": given}).items()}
    assert answer["score"][1] == answer["score"][2] == 0
    assert answer["score"][0] == pytest.approx(answer["score"][3], abs=1e-6)
    assert answer["score"][0] != 0
    assert np.isfinite(answer["probability"]).all()


def test_rank_of_no_items_answers_no_columns(recommender):
    answer = recommender.rank(make_request(2, item_id=np.empty((2, 0), object)))
    assert {value.shape for value in answer.values()} == {(2, 0)}


def test_retrieved_scores_are_products_of_user_and_item_best_first(recommender, embeddings):
    request = make_mixed_requests(6)
    answer = recommender.retrieve(request)
    users = recommender.encode_user(request).numpy()
    rows = np.array(
        [[ITEM_IDS.index(cell.decode()) for cell in row] for row in answer["item_id"].numpy()]
    )
    scores = answer["score"].numpy()
    np.testing.assert_allclose(scores, np.einsum("bd,bnd->bn", users, embeddings[rows]), atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()


def test_retrieved_items_are_the_nearest_unseen(recommender, embeddings):
    request = make_mixed_requests(6)
    found = recommender.retrieve(request)["item_id"].numpy()
    products = recommender.encode_user(request).numpy() @ embeddings.T
    for row, history in enumerate(request["history"].numpy()):
        seen = {cell.decode() for cell in history}
        order = [ITEM_IDS[item] for item in np.argsort(-products[row])]
        wanted = [item for item in order if item not in seen][:CANDIDATES]
        assert [cell.decode() for cell in found[row]] == wanted


# Edges of requests


def test_catalogue_smaller_than_k_is_answered_whole_and_padded():
    # More candidates than items cannot be configured; an answer longer than the candidates can.
    small = make_recommender(num_candidates=NUM_ITEMS, k=40)
    ids, scores, probabilities = recommend(small, make_request(history=[["i2", "i5"]]))
    assert sorted(ids[0][: NUM_ITEMS - 2]) == sorted(set(ITEM_IDS) - {"i2", "i5"})
    assert ids[0][NUM_ITEMS - 2 :] == [""] * 12
    assert not scores[0, NUM_ITEMS - 2 :].any()
    assert not probabilities[0, NUM_ITEMS - 2 :].any()
    assert (probabilities[0, : NUM_ITEMS - 2] > 0).all()
    retrieved = small.retrieve(make_request(history=[["i2", "i5"]]))
    assert retrieved["item_id"].numpy()[0, -2:].tolist() == [b"", b""]
    assert retrieved["score"].numpy()[0, -2:].tolist() == [0.0, 0.0]


def test_history_of_all_items_leaves_padding_only(recommender):
    ids, scores, probabilities = recommend(recommender, make_request(history=[ITEM_IDS]))
    assert ids == [[""] * K]
    assert not scores.any()
    assert not probabilities.any()
    assert not recommender.retrieve(make_request(history=[ITEM_IDS]))["score"].numpy().any()


def test_history_longer_than_the_tower_sees_is_left_out_whole(recommender):
    history = ITEM_IDS[:20]
    ids, _, _ = recommend(recommender, make_request(history=[history]))
    assert not set(ids[0]) & set(history)
    assert len(set(ids[0]) - {""}) == K


def test_history_before_the_last_items_does_not_shape_the_user(recommender):
    recent = ITEM_IDS[-MAX_HISTORY:]
    one = recommender.encode_user(make_request(history=[["i1", *recent]]))
    other = recommender.encode_user(make_request(history=[["i2", *recent]]))
    np.testing.assert_allclose(one, other, atol=1e-6)
    changed = recommender.encode_user(make_request(history=[["i1", *recent[1:], "i2"]]))
    assert np.abs(changed - one).max() > 1e-4


@pytest.mark.parametrize(
    "history",
    [
        ["", "", "i1", "i2"],
        ["i1", "i2", "", ""],
        ["i1", "", "", "i2", ""],
        ["no such item", "i1", "i2"],
        ["i1", "i2", "no such item", "i\x001", "☕"],
    ],
)
def test_padding_and_unknown_items_anywhere_do_not_change_the_answer(recommender, history):
    wanted = recommender.recommend(make_request(history=[["i1", "i2"]]))
    assert_same(recommender.recommend(make_request(history=[history])), wanted)


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_history_without_columns_equals_an_empty_one(recommender, batch):
    request = make_request(batch, history=np.empty((batch, 0), object))
    for method in (recommender.recommend, recommender.retrieve):
        assert_same(method(request), method(make_request(batch)))


def test_repeated_history_items_are_left_out_once(recommender):
    ids, _, _ = recommend(recommender, make_request(history=[["i1", "i1", "i1"]]))
    assert "i1" not in ids[0]
    assert len(set(ids[0])) == K


def test_unknown_user_equals_no_user_and_known_users_differ(recommender):
    users = recommender.encode_user(make_request(4, user_id=["", "stranger", "u0", "u1"])).numpy()
    np.testing.assert_allclose(users[0], users[1], atol=1e-6)
    assert np.abs(users[2] - users[0]).max() > 1e-3
    assert np.abs(users[2] - users[3]).max() > 1e-3


def test_model_without_user_ids_answers_known_users_like_strangers():
    users = make_recommender(use_user_id=False).encode_user(
        make_request(2, user_id=["u0", "stranger"])
    )
    np.testing.assert_allclose(users[0], users[1], atol=1e-6)


def test_unknown_category_equals_no_category(recommender):
    users = recommender.encode_user(make_request(3, device=["", "toaster", "phone"])).numpy()
    np.testing.assert_allclose(users[0], users[1], atol=1e-6)
    assert np.abs(users[2] - users[0]).max() > 1e-4


@pytest.mark.parametrize("age", [np.nan, np.inf, -np.inf])
def test_number_that_is_none_counts_as_unknown(recommender, age):
    wanted = recommender.recommend(make_request())
    assert_same(recommender.recommend(make_request(age=[age])), wanted)


@pytest.mark.parametrize("age", [1e6, -1e6, 1e30, -3.4e38])
def test_extreme_number_gives_a_user_of_length_one_and_finite_answers(recommender, age):
    request = make_request(age=[age])
    ids, scores, probabilities = recommend(recommender, request)
    assert len(set(ids[0]) - {""}) == K
    assert np.isfinite(scores).all()
    assert np.isfinite(probabilities).all()
    length = np.linalg.norm(recommender.encode_user(request).numpy())
    assert length == pytest.approx(1, abs=1e-4)


def test_query_and_user_text_change_the_user(recommender):
    users = recommender.encode_user(
        make_request(4, query=["", "red shoe", "", "blue lamp"], bio=["", "", "red shoe", ""])
    ).numpy()
    assert np.abs(users[1] - users[0]).max() > 1e-4
    assert np.abs(users[3] - users[1]).max() > 1e-5
    np.testing.assert_allclose(users[2], users[1], atol=1e-6)  # one text, read in one go


@pytest.mark.parametrize("query", ["   ", "\t\n", "\u200b", "\x00"])
def test_query_without_tokens_gives_finite_answers(recommender, query):
    ids, _, probabilities = recommend(recommender, make_request(query=[query]))
    assert len(set(ids[0]) - {""}) == K
    assert np.isfinite(probabilities).all()


@pytest.mark.parametrize(
    "query",
    ["Ünïcödé ☕ 靴 обувь", "red\x00shoe", "red " * 20_000, "x" * 100_000, "[MASK] [PAD] [CLS]"],
    ids=["non-ascii", "null byte", "many words", "long word", "special tokens"],
)
def test_query_of_any_kind_is_answered(recommender, query):
    ids, scores, probabilities = recommend(recommender, make_request(query=[query]))
    assert len(set(ids[0]) - {""}) == K
    assert np.isfinite(scores).all()
    assert ((probabilities > 0) & (probabilities < 1)).all()


def test_query_that_is_no_utf8_is_answered(recommender):
    request = make_request() | {"query": tf.constant([b"\xff\xfe red \xc3"])}
    ids, _, probabilities = recommend(recommender, request)
    assert len(set(ids[0]) - {""}) == K
    assert np.isfinite(probabilities).all()


def test_query_beyond_the_longest_text_is_cut(recommender):
    words = " ".join(["red", "shoe", "lamp", "cup", "blue", "chair"])  # six tokens and two edges
    short = recommender.encode_user(make_request(query=[words]))
    long = recommender.encode_user(make_request(query=[words + " green white black"]))
    np.testing.assert_allclose(short, long, atol=1e-6)


def test_item_with_a_name_beyond_ascii_is_found_and_left_out(recommender):
    score = recommender.rank(make_request(item_id=[["café ☕"]]))["score"].numpy()
    assert score[0, 0] != 0
    ids, _, _ = recommend(recommender, make_request(history=[["café ☕"]]))
    assert "café ☕" not in ids[0]


@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("method", ["recommend", "retrieve"])
def test_recommender_called_eagerly_answers_as_its_graph(recommender, batch, method):
    request = make_mixed_requests(batch)
    wanted = getattr(recommender, method)(request)
    assert_same(getattr(recommender.eager, method)(request), wanted)


@pytest.mark.parametrize("rows", [[4], [4, 5], [0, 4, 5]])
def test_items_encoded_eagerly_equal_their_graph(recommender, embeddings, rows):
    # Item 0 has no title: in front of others it must not empty their texts.
    encoded = recommender.eager.encode_item(make_items(rows)).numpy()
    np.testing.assert_allclose(encoded, embeddings[rows], atol=1e-5)


# In fewer bits


def test_model_in_int8_answers_nearly_as_in_float32(recommender):
    small, requests = make_recommender(in_int8=True), make_mixed_requests(20)
    variables = small.eager.retrieval.encoder.backbone.variables
    assert sum("int8" in str(variable.dtype) for variable in variables) >= 7
    users, wanted = small.encode_user(requests).numpy(), recommender.encode_user(requests).numpy()
    assert (np.sum(users * wanted, axis=1) > 0.99).all()
    assert np.abs(users - wanted).max() > 1e-5
    found, best = (one.recommend(requests)["item_id"].numpy() for one in (small, recommender))
    shared = [len(np.intersect1d(a, b)) for a, b in zip(found, best, strict=True)]
    assert np.mean(shared) > 0.85 * found.shape[1]


# Without towers


class Count(RankingHead):
    """A number above 0, of two outputs."""

    num_outputs = 2

    def loss(self, logit, label):
        return tf.square(label - self.predict(logit))

    def predict(self, logit):
        return tf.exp(tf.reduce_sum(logit, axis=-1))


@pytest.fixture(scope="module")
def tabular() -> Compiled:
    """A ranking model on tables alone."""
    keras.utils.set_random_seed(0)
    item_features = fit_features({"price": Feature(type="number")}, ITEMS)
    request_features = [Category("device", vocabulary=["desk", "phone"])]
    heads = {
        "seconds": {"kind": f"{__name__}:Count", "value": "watch_time"},
        "cart": {"event": "cart"},
    }
    settings = Ranking.model_validate({"towers": "none", "heads": heads})
    ranking = ranking_model(
        item_features, request_features, settings, num_items=NUM_ITEMS, num_statistics=1
    )
    rng = np.random.default_rng(1)
    ranking.item_statistics.assign(rng.normal(0, 1, ranking.item_statistics.shape))
    rows = np.zeros(NUM_ITEMS + 1, np.int32)
    inputs = encode_frame(item_features, ITEMS, with_unknown_row=True)
    recommender = Recommender(
        None,
        ranking,
        None,
        Catalogue(ITEM_IDS, rows, inputs, ["u0"], np.array([0, 1], np.int32)),
        Inputs([], request_features, [], item_features),
        vocabulary=[],
        max_item_tokens=0,
        max_query_tokens=0,
        sources=None,
        order=None,
        k=NUM_ITEMS + 5,
    )
    return Compiled(recommender)


@pytest.mark.parametrize("batch", [0, 1, 3])
def test_ranking_alone_orders_all_items_but_those_of_the_history(tabular, batch):
    history = np.array([["i3", "", "no such item"]] * batch, object).reshape(batch, 3)
    answer = tabular.recommend(make_request(batch, history=history))
    assert {name: value.shape for name, value in answer.items()} == dict.fromkeys(
        ("item_id", "probability", "seconds", "cart"), (batch, NUM_ITEMS + 5)
    )
    for row, probability in zip(
        answer["item_id"].numpy(), answer["probability"].numpy(), strict=True
    ):
        ids = [cell.decode() for cell in row]
        assert sorted(ids[: NUM_ITEMS - 1]) == sorted(set(ITEM_IDS) - {"i3"})
        assert set(ids[NUM_ITEMS - 1 :]) == {""}
        assert (np.diff(probability) <= 1e-6).all()
    assert (answer["seconds"].numpy()[:, : NUM_ITEMS - 1] > 0).all()
    assert all(len(np.unique(row)) > 2 for row in answer["seconds"].numpy())


def test_ranking_alone_gives_the_same_probabilities_to_given_items(tabular):
    request = make_request(1)
    everything = tabular.recommend(request)
    asked = tabular.eager.rank(request | {"item_id": everything["item_id"][:, :7]})
    assert_same(asked, {name: everything[name][:, :7] for name in asked})


def test_recommender_without_towers_says_so_when_asked_for_embeddings(tabular):
    with pytest.raises(ValueError, match="with towers"):
        tabular.eager.encode_user(make_request())


# Several sources of candidates


NEIGHBOURS = CandidateTable(
    np.array([[0, 0], *([n % NUM_ITEMS + 1, (n + 3) % NUM_ITEMS + 1] for n in range(1, 31))]),
    np.array([[0, 0], *([2.0, 1.0] for _ in range(30))], np.float32),
)
POPULAR = CandidateTable(np.array([[7, 3, 1, 9]]), np.array([[4.0, 3.0, 2.0, 1.0]], np.float32))


def make_fused(names: list[str], weights: list[float]) -> Compiled:
    tables = {"item_knn": NEIGHBOURS, "popularity": POPULAR}
    arrays = {
        name: {"items": tables[name].items.astype(np.int32), "weights": tables[name].weights}
        for name in names
        if name in tables
    }
    config = Candidates.model_validate({"sources": {name: {"count": 5} for name in names}})
    of_sources = names if len(names) > 1 else []
    order = ListOrder([CLICK_LOG_ODDS, SCORE, *of_sources], weights)
    return make_recommender(sources=loaded_sources(config, arrays, CANDIDATES), order=order)


def test_answers_of_several_sources_are_what_they_propose_in_the_given_order():
    names = ["two_tower", "item_knn", "popularity"]
    fused = make_fused(names, [0.5, 2.0, 3.0, -4.0, 1.0])
    request = make_request(history=[["i4", "i6"]])
    answer = {name: value.numpy()[0] for name, value in fused.recommend(request).items()}
    proposed = {
        # Item n is in row n + 1: i4 proposes i5 and i8, i6 i7 and i10.
        "item_knn": ["i5", "i7", "i8", "i10"],
        "popularity": ["i2", "i0", "i8"],  # i6 is seen
    }
    ids = [item.decode() for item in answer["item_id"] if item]
    assert len(ids) == len(set(ids)) == K
    alone = [i.decode() for i in make_recommender().retrieve(request)["item_id"].numpy()[0]]
    alone = [item for item in alone if item][:5]
    assert answer["score"][:K].tolist() == pytest.approx(
        fused.rank(make_request(history=[["i4", "i6"]], item_id=[ids]))["score"].numpy()[0].tolist()
    )
    total = []
    for place, item in enumerate(ids):
        lists = {"two_tower": alone, **proposed}
        named = answer["sources"][place].decode().split(",")
        assert named == [name for name in names if item in lists[name]]
        odds = np.log(answer["probability"][place] / (1 - answer["probability"][place]))
        value = 0.5 * odds + 2.0 * answer["score"][place]
        for name, weight in zip(names, [3.0, -4.0, 1.0], strict=True):
            if item in lists[name]:
                value += weight * 61 / (61 + lists[name].index(item))
        total.append(value)
    assert total == pytest.approx(sorted(total, reverse=True), abs=1e-4)


def test_request_without_history_gets_what_other_sources_know_then_what_scores_highest():
    fused = make_fused(["item_knn", "popularity"], [0.0, 0.0, 1.0, 1.0])
    request = make_request(history=[[""]])
    answer = fused.recommend(request)
    found = [item.decode() for item in answer["item_id"].numpy()[0]]
    assert found[:4] == ["i6", "i2", "i0", "i8"]
    assert answer["sources"].numpy()[0].tolist() == [b"popularity"] * 4 + [b""] * 3
    none = make_fused(["item_knn"], [0.0, 1.0])
    alone = none.recommend(request)
    by_score = np.einsum("d,nd->n", none.encode_user(request)[0], none.eager.index.tensors()[0])
    best = [ITEM_IDS[row] for row in np.argsort(-by_score)[:K]]
    assert [item.decode() for item in alone["item_id"].numpy()[0]] == best
    assert found[4:] == [item for item in best if item not in found[:4]][:3]
