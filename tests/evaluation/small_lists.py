"""An untrained recommender over a small prepared log, and its lists."""

import keras
import numpy as np

from tfrec.candidates.order import ListOrder
from tfrec.candidates.source import TwoTower
from tfrec.candidates.sources import CandidateSources
from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.encoders.bert import BertEncoder, build_backbone
from tfrec.encoders.tokenizer import tokenize_texts, train_vocabulary
from tfrec.index import ExactIndex, Searcher
from tfrec.inference.embeddings import Embeddings
from tfrec.inputs.batches import InputTables
from tfrec.models.build import new_ranking, new_retrieval
from tfrec.recommender import Catalogue, Inputs, Recommender
from tfrec.recommender.candidate_lists import CandidateLists
from tfrec.recommender.catalogue import item_filters
from tfrec.recommender.prepared_requests import PreparedRequests
from tfrec.schema import Columns

MAX_TOKENS = 8


def draw_embeddings(data: PreparedData, seed: int = 0) -> Embeddings:
    draw = np.random.default_rng(seed)
    items = draw.normal(size=(data.num_items + 1, 8)).astype(np.float32)
    items[0] = 0
    requests = draw.normal(size=(data.contexts.height, 8)).astype(np.float32)
    return Embeddings(items, requests)


class SmallRecommender:
    """Models with random weights.

    Attributes:
        embeddings: Drawn, or, with `embed`, of the towers.
    """

    def __init__(self, data: PreparedData, config: Config) -> None:
        keras.utils.set_random_seed(0)
        self.data, self.config = data, config
        texts = [*data.items[Columns.TEXT].to_list(), *data.texts]
        self.vocabulary = train_vocabulary([text for text in texts for _ in range(3)], 200)
        backbone = build_backbone("nano", len(self.vocabulary), MAX_TOKENS, 0.0)
        self.retrieval = new_retrieval(config, data, BertEncoder(backbone))
        self.ranking = new_ranking(config, data)
        draw = np.random.default_rng(1)
        for weight in (*self.ranking.trainable_variables, self.ranking.item_statistics):
            weight.assign(draw.normal(0, 0.5, weight.shape))
        self.embeddings = draw_embeddings(data)

    def tables(self) -> InputTables:
        tokens = [
            tokenize_texts(self.vocabulary, texts, MAX_TOKENS, "")
            for texts in (["", *self.data.items[Columns.TEXT].to_list()], self.data.texts)
        ]
        return InputTables(self.data, *tokens)

    def recommender(
        self,
        weights: tuple[float, float] = (1.0, 1.5),
        index: Searcher | None = None,
        is_exported: bool = False,
    ) -> Recommender:
        """Sorts by log odds and score; with `is_exported` it filters and caps."""
        data, config = self.data, self.config
        filters = item_filters(data.items, config.filters) if is_exported else {}
        number = min(config.index.candidates, data.num_items)
        sources = CandidateSources({"two_tower": TwoTower()}, number)
        return Recommender(
            self.retrieval,
            self.ranking,
            index or ExactIndex(self.embeddings.items[1:]),
            Catalogue(
                item_ids=data.items[Columns.ITEM_ID].to_list(),
                item_id_rows=data.item_id_rows,
                item_inputs=data.item_inputs,
                user_ids=data.users[Columns.USER_ID].to_list(),
                user_id_rows=data.user_id_rows,
                item_embeddings=self.embeddings.items,
                **filters,
            ),
            Inputs(
                config.data.users.text,
                [*data.user_features, *data.context_features],
                config.data.items.text,
                data.item_features,
                data.event_kinds,
            ),
            vocabulary=self.vocabulary,
            max_item_tokens=MAX_TOKENS,
            max_query_tokens=MAX_TOKENS,
            sources=sources,
            order=ListOrder(["click log-odds", "retrieval score"], list(weights)),
            k=min(config.export.k, number),
            caps=config.filters.caps if is_exported else {},
        )

    def lists(self, is_exported: bool = False, **asked) -> CandidateLists:
        requests = PreparedRequests(
            self.data,
            self.tables(),
            embeddings=self.embeddings,
            leave_out_history=is_exported or self.config.evaluation.remove_seen,
        )
        return CandidateLists(self.recommender(is_exported=is_exported, **asked), requests)

    def log_odds(self, context: int) -> np.ndarray:
        """What the ranking model says of every item for one request, one pair at a time."""
        lists = self.lists()
        request = lists._requests.decode(np.array([context]))
        core = lists._core
        found = [0.0]
        for item in range(1, self.data.num_items + 1):
            outputs = core.score(request, np.array([[item]], np.int32))
            found.append(float(self.ranking.click_order(outputs)[0]))
        return np.array(found)
