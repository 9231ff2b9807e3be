"""An untrained recommender over thirty items, for the tests of what it answers."""

from functools import cached_property
from typing import Any

import keras
import numpy as np
import polars as pl
import tensorflow as tf

from tfrec.candidates.order import CLICK_LOG_ODDS, SCORE, ListOrder
from tfrec.candidates.source import TwoTower
from tfrec.candidates.sources import CandidateSources
from tfrec.config import Feature, Filters, Missing, Ranking
from tfrec.encoders.bert import BertEncoder, build_backbone
from tfrec.encoders.tokenizer import train_vocabulary
from tfrec.features import Category, Number, encode_frame, fit_features
from tfrec.index import ExactIndex, Searcher
from tfrec.index.table import Precision
from tfrec.models.build import ranking_model
from tfrec.models.retrieval import RetrievalModel
from tfrec.recommender import Catalogue, Inputs, Recommender
from tfrec.recommender.catalogue import item_filters
from tfrec.towers import AttentionReader, ItemTower, UserTower

NUM_ITEMS, NUM_USERS, DIM, MAX_HISTORY, CANDIDATES, K = 30, 5, 8, 4, 12, 7
SCORE_WEIGHT = 3.0
COLOURS, THINGS = ("red", "blue", "green", "black", "white"), ("shoe", "lamp", "chair", "cup")
ITEMS = pl.DataFrame(
    {
        "item_id": [f"i{n}" for n in range(NUM_ITEMS - 1)] + ["café ☕"],
        "title": [
            f"{COLOURS[n % 5]} {THINGS[n % 4]} number {n}" if n else "" for n in range(NUM_ITEMS)
        ],
        "brand": [f"b{n % 3}" if n > 1 else "rare" for n in range(NUM_ITEMS)],
        "price": [float(n + 1) for n in range(NUM_ITEMS)],
        "tags": [["new"] * (n % 2) + ["sale"] * (n % 3 == 0) for n in range(NUM_ITEMS)],
        "image": [[float(n % 7), 1.0, -float(n % 2)] for n in range(NUM_ITEMS)],
        "in_stock": [float(n % 5 != 0) for n in range(NUM_ITEMS)],
        "adult": [float(n % 7 == 0) for n in range(NUM_ITEMS)],
    }
)
ITEM_IDS = ITEMS["item_id"].to_list()


class Compiled:
    """The methods of a recommender as graphs, as an export holds them."""

    def __init__(self, recommender: Recommender) -> None:
        self.eager = recommender

    def _compile(self, method: Any, *inputs: dict[str, tf.Tensor]) -> Any:
        (example,) = inputs
        specs = {
            name: tf.TensorSpec([None] * value.shape.rank, value.dtype)
            for name, value in example.items()
        }
        return tf.function(method, input_signature=[specs], autograph=False)

    @cached_property
    def encode_item(self) -> Any:
        return self._compile(self.eager.encode_item, make_items([0]))

    @cached_property
    def encode_user(self) -> Any:
        return self._compile(self.eager.encode_user, make_request())

    @cached_property
    def retrieve(self) -> Any:
        return self._compile(self.eager.retrieve, make_request())

    @cached_property
    def rank(self) -> Any:
        return self._compile(self.eager.rank, make_request(item_id=[[""]]))

    @cached_property
    def recommend(self) -> Any:
        return self._compile(self.eager.recommend, make_request())


def make_recommender(
    num_candidates: int = CANDIDATES,
    k: int = K,
    use_user_id: bool = True,
    sources: CandidateSources | None = None,
    order: ListOrder | None = None,
    filters: Filters | None = None,
    catalogue: Catalogue | None = None,
    index: Searcher | None = None,
    in_int8: bool = False,
) -> Compiled:
    """Builds an untrained recommender whose every weight matters.

    With `in_int8` BERT and the tables of embeddings answer in 8 bits.
    """
    keras.utils.set_random_seed(0)
    features = {
        # One brand is rarer than the others: it is out of the vocabulary, in a bucket.
        "brand": Feature(type="category", min_count=3, oov_buckets=2),
        "price": Feature(type="number", scale="log", missing=Missing(method="median")),
        "tags": Feature(type="category_list"),
        "image": Feature(type="vector"),
    }
    item_features = fit_features(features, ITEMS)
    request_features = [
        Category("device", vocabulary=["desk", "phone"]),
        Number("age", mean=40.0, std=10.0),
    ]
    vocabulary = train_vocabulary([title for title in ITEMS["title"] for _ in range(3)], 200)
    item_id_rows = np.arange(NUM_ITEMS + 1, dtype=np.int32)
    item_id_rows[-3:] = 0  # items without training targets
    encoder = BertEncoder(build_backbone("nano", len(vocabulary), 16, 0.0))
    retrieval = RetrievalModel(
        encoder,
        ItemTower(int(item_id_rows.max()), item_features, encoder.hidden_dim, DIM),
        UserTower(
            NUM_USERS,
            request_features,
            encoder.hidden_dim,
            DIM,
            history=AttentionReader(DIM, MAX_HISTORY),
            use_id=use_user_id,
        ),
    )
    ranking = ranking_model(
        item_features,
        request_features,
        Ranking(),
        num_items=NUM_ITEMS,
        embedding_dim=DIM,
        max_history=MAX_HISTORY,
        num_statistics=1,
    )
    rng = np.random.default_rng(1)
    towers = [*retrieval.item_tower.trainable_variables, *retrieval.user_tower.trainable_variables]
    for weight in (*towers, ranking.item_statistics, ranking.position_bias):
        weight.assign(rng.normal(0, 0.4, weight.shape))

    item_inputs = encode_frame(item_features, ITEMS, with_unknown_row=True)

    precision: Precision = "int8" if in_int8 else "float32"

    def build(embeddings: np.ndarray) -> Compiled:
        recommender = Recommender(
            retrieval,
            ranking,
            index or ExactIndex(embeddings[1:], precision),
            catalogue
            or Catalogue(
                item_ids=ITEM_IDS,
                item_id_rows=item_id_rows,
                item_inputs=item_inputs,
                item_embeddings=embeddings,
                user_ids=[f"u{n}" for n in range(NUM_USERS)],
                user_id_rows=np.arange(NUM_USERS + 1, dtype=np.int32),
                **item_filters(ITEMS, filters or Filters()),
            ),
            Inputs(["bio"], request_features, ["title"], item_features),
            vocabulary=vocabulary,
            max_item_tokens=16,
            max_query_tokens=8,
            sources=sources or CandidateSources({"two_tower": TwoTower()}, num_candidates),
            order=order or ListOrder([CLICK_LOG_ODDS, SCORE], [1.0, SCORE_WEIGHT]),
            k=k,
            caps=filters.caps if filters else {},
            precision=precision,
        )
        return Compiled(recommender)

    empty = build(np.zeros((NUM_ITEMS + 1, DIM), np.float32))
    embedded = empty.encode_item(make_items(range(NUM_ITEMS))).numpy()
    if in_int8:
        retrieval.encoder.to_int8()
    return build(np.concatenate([np.zeros((1, DIM), np.float32), embedded]))


def make_items(rows: range | list[int]) -> dict[str, tf.Tensor]:
    frame = ITEMS[list(rows)]
    width = 2
    return {
        "item_id": tf.constant(frame["item_id"].to_list()),
        "title": tf.constant(frame["title"].to_list()),
        "brand": tf.constant(frame["brand"].to_list()),
        "price": tf.constant(frame["price"].to_list(), tf.float32),
        "tags": tf.constant([(tags + [""] * width)[:width] for tags in frame["tags"].to_list()]),
        "image": tf.constant(frame["image"].to_list(), tf.float32),
    }


def make_request(rows: int = 1, **changes: object) -> dict[str, tf.Tensor]:
    """Makes requests of which nothing is known, with the given inputs changed."""
    request: dict[str, object] = {
        "user_id": [""] * rows,
        "history": np.full((rows, 1), "", object),
        "query": [""] * rows,
        "bio": [""] * rows,
        "device": [""] * rows,
        "age": np.full(rows, np.nan, np.float32),
        **changes,
    }
    dtypes = {"age": tf.float32}
    return {
        name: tf.constant(value, dtypes.get(name, tf.string)) for name, value in request.items()
    }


def make_mixed_requests(rows: int, seed: int = 0) -> dict[str, tf.Tensor]:
    rng = np.random.default_rng(seed)
    history = rng.choice([*ITEM_IDS, "", "no such item"], (rows, 6)).astype(object)
    return make_request(
        rows,
        user_id=rng.choice(["u0", "u3", "stranger", ""], rows).astype(object),
        history=history,
        query=rng.choice(["red shoe", "", "blue lamp cup", "☕"], rows).astype(object),
        device=rng.choice(["phone", "desk", "toaster", ""], rows).astype(object),
        age=rng.choice([np.nan, 0.0, 20.0, 90.0], rows).astype(np.float32),
    )


def recommend(
    recommender: Compiled, request: dict[str, tf.Tensor]
) -> tuple[list[list[str]], np.ndarray, np.ndarray]:
    answer = recommender.recommend(request)
    ids = [[cell.decode() for cell in row] for row in answer["item_id"].numpy()]
    return ids, answer["score"].numpy(), answer["probability"].numpy()


def order_value(scores: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """What answers are sorted by: log odds of a click and the weighted score."""
    return np.log(probabilities / (1 - probabilities)) + SCORE_WEIGHT * scores


def assert_same(
    first: dict[str, tf.Tensor], second: dict[str, tf.Tensor], atol: float = 1e-5
) -> None:
    for name, value in first.items():
        if value.dtype == tf.string:
            np.testing.assert_array_equal(value, second[name])
        else:
            np.testing.assert_allclose(value, second[name], atol=atol)


# last_items
