"""Models of a run, and what runs them: built from its settings, read back from its artefacts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tfrec.pipeline.run import INDEX, Run
from tfrec.schema import Columns

if TYPE_CHECKING:  # TensorFlow is loaded by what really needs it
    from tfrec.candidates.sources import CandidateSources
    from tfrec.encoders.text_encoder import TextEncoder
    from tfrec.index.build import ItemIndex
    from tfrec.inference.embedder import Embedder
    from tfrec.inference.embeddings import Embeddings
    from tfrec.inference.pair_scorer import PairScorer
    from tfrec.inputs.batches import InputTables
    from tfrec.models.ranking import RankingModel
    from tfrec.models.retrieval import RetrievalModel
    from tfrec.recommender import Catalogue, Recommender
    from tfrec.recommender.changes import Changes
    from tfrec.training.candidate_lists import CandidateLists


def start_tensorflow(run: Run) -> None:
    """Loads TensorFlow, seeded."""
    from tfrec import environment

    environment.start_tensorflow(run.settings.seed)


def input_tables(run: Run) -> InputTables:
    """Returns the arrays that batches are gathered from."""
    from tfrec.inputs.batches import InputTables

    if not run.has_towers:  # no text is read
        no_tokens = np.zeros((run.data.num_items + 1, 0), np.int32)
        return InputTables(run.data, no_tokens, no_tokens[:1])
    history = run.settings.retrieval.user.history
    return InputTables(
        run.data,
        run.item_tokens(),
        run.text_tokens(),
        event_kinds=history.event_kinds,
        time_gaps=history.time_gaps,
    )


def new_backbone(run: Run) -> Any:
    """Builds BERT with the weights of its source."""
    from tfrec.models import build

    return build.new_backbone(run.settings, len(run.vocabulary()))


def new_retrieval(run: Run, encoder: TextEncoder | None = None) -> RetrievalModel:
    """Builds untrained towers on an encoder, by default on one with the source's weights."""
    from tfrec.models import build

    encoder = encoder or build.new_encoder(run.settings, len(run.vocabulary()))
    return build.new_retrieval(run.settings, run.data, encoder)


def pretrained_retrieval(run: Run) -> RetrievalModel:
    """Builds untrained towers on the pre-trained encoder, adapted as configured."""
    model = new_retrieval(run)
    if run.settings.encoder.kind == "bert":
        run.load_backbone(model.encoder.backbone)
    _adapt(run, model)
    return model


def trained_retrieval(run: Run, towers: str, encoder: TextEncoder | None = None) -> RetrievalModel:
    """Reads the towers of a folder; with `encoder` for their own, which equals it."""
    model = new_retrieval(run, encoder)
    if encoder is None:
        _adapt(run, model)
    run.load_towers(model, towers)
    return model


def _adapt(run: Run, model: RetrievalModel) -> None:
    from tfrec.encoders.adaptation import adapt

    settings = run.settings.encoder
    adapt(model.encoder, settings.adaptation, settings.trained_layers, settings.lora_rank)


def new_ranking(run: Run) -> RankingModel:
    """Builds an untrained ranking model."""
    from tfrec.models import build

    return build.new_ranking(run.settings, run.data)


def trained_ranking(run: Run) -> RankingModel:
    """Reads the ranking model."""
    model = new_ranking(run)
    run.load_ranking(model)
    return model


def pair_scorer(run: Run) -> PairScorer:
    """Returns the trained ranking model, ready for rows of the prepared data."""
    from tfrec.inference.pair_scorer import PairScorer
    from tfrec.inputs.item_statistics import live_statistics

    return PairScorer(
        trained_ranking(run),
        input_tables(run),
        run.embeddings(run.ranking_towers),
        live_statistics(run.data, run.settings),
    )


def candidate_sources(run: Run) -> CandidateSources:
    """Returns all sources of candidates."""
    from tfrec.candidates.sources import CandidateSources

    settings = run.settings
    count = min(settings.index.candidates, run.data.num_items)
    return CandidateSources(run.candidate_tables(), settings.candidates, count)


def candidate_lists(run: Run, *, remove_seen: bool = True) -> CandidateLists:
    """Returns what finds the candidates of prepared requests."""
    from tfrec.encoders.tokenizer import build_tokenizer, pack_tokens
    from tfrec.training.candidate_lists import CandidateLists

    embeddings, tokenizer = run.embeddings(), build_tokenizer(run.vocabulary())
    assert embeddings is not None  # the stages are part of runs with towers only
    max_tokens = run.settings.text.max_query_tokens
    return CandidateLists(
        run.data,
        embeddings,
        candidate_sources(run),
        lambda texts: pack_tokens(tokenizer, texts, max_tokens),
        pair_scorer(run),
        remove_seen=remove_seen,
    )


def load_recommender(run: Run, changes: Changes | None = None, index: str = INDEX) -> Recommender:
    """Builds the trained two-stage recommender in memory, as it is exported.

    Args:
        run: The run.
        changes: Of its catalogue since the training.
        index: Folder of its index, within that of the run.
    """
    from tfrec.recommender import Inputs, Recommender

    data, settings = run.data, run.settings
    retrieval = own_towers = searched = None
    if run.has_towers:
        retrieval = trained_retrieval(run, run.search_towers)
        if run.ranking_towers != run.search_towers:
            own_towers = trained_retrieval(run, run.ranking_towers, retrieval.encoder)
        if settings.export.encoder == "int8":
            retrieval.encoder.to_int8()
        searched = _load_index(run, index, changes)
    return Recommender(
        retrieval,
        trained_ranking(run),
        searched,
        _load_catalogue(run, changes),
        Inputs(
            user_text=settings.data.users.text,
            request_features=[*data.user_features, *data.context_features],
            item_text=settings.data.items.text,
            item_features=data.item_features,
            event_kinds=data.event_kinds,
        ),
        vocabulary=run.vocabulary() if run.has_towers else [],
        max_item_tokens=settings.text.max_item_tokens,
        max_query_tokens=settings.text.max_query_tokens,
        ranking_towers=own_towers,
        sources=candidate_sources(run) if run.has_towers else None,
        order=run.order() if run.has_towers else None,
        k=settings.export.k,
        caps=settings.filters.caps,
        precision=settings.index.precision,
    )


def _load_index(run: Run, name: str, changes: Changes | None) -> ItemIndex:
    """Reads an index; items that came after it are searched beside it."""
    from tfrec.index.delta import DeltaIndex

    searched = run.index(name, changes)
    if changes is not None:
        added = all_embeddings(run, changes)[1 + searched.num_items :]
        if len(added):
            return DeltaIndex(searched, added)
    return searched


def _load_catalogue(run: Run, changes: Changes | None) -> Catalogue:
    from tfrec.recommender import Catalogue
    from tfrec.recommender.catalogue import changed_catalogue, item_filters

    data, embeddings, ranked = run.data, run.embeddings(), None
    if run.ranking_towers != run.search_towers:
        ranked = run.embeddings(run.ranking_towers)
    catalogue = Catalogue(
        item_ids=data.items[Columns.ITEM_ID].to_list(),
        item_id_rows=data.item_id_rows,
        item_inputs=data.item_inputs,
        user_ids=data.users[Columns.USER_ID].to_list(),
        user_id_rows=data.user_id_rows,
        item_embeddings=None if embeddings is None else embeddings.items,
        ranked_embeddings=None if ranked is None else ranked.items,
    )
    items, gone = data.items, frozenset[int]()
    if changes is not None and changes.number:
        items, gone = pl.concat([items, changes.items], how="diagonal_relaxed"), changes.gone
        catalogue = changed_catalogue(catalogue, changes, items, data.item_features)
    return replace(catalogue, **item_filters(items, run.settings.filters, gone))


def embed_all(run: Run, embedder: Embedder) -> Embeddings:
    """Embeds all items and requests of the prepared data with finished towers."""
    from tfrec.inference.embeddings import Embeddings

    items = embedder.catalogue()
    requests = embedder.requests(np.arange(run.data.contexts.height), items)
    return Embeddings(items, requests, embedder.model.temperature)


def all_embeddings(run: Run, changes: Changes) -> np.ndarray:
    """Returns float32 [n + 1, embedding_dim], trained items and added ones; row 0 zeros."""
    embeddings = run.embeddings()
    assert embeddings is not None  # there are towers
    return np.concatenate([embeddings.items, changes.embeddings])
