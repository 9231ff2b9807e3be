"""Models of a run, and what runs them: built from its settings, read back from its artefacts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tfrec.pipeline.run import INDEX, Run
from tfrec.schema import Columns

if TYPE_CHECKING:  # TensorFlow is loaded by what really needs it
    from tfrec.candidates.order import ListOrder
    from tfrec.candidates.sources import CandidateSources
    from tfrec.encoders.text_encoder import TextEncoder
    from tfrec.index import Searcher
    from tfrec.inference.embedder import Embedder
    from tfrec.inference.embeddings import Embeddings
    from tfrec.inference.pair_scorer import PairScorer
    from tfrec.inputs.batches import InputTables
    from tfrec.models.ranking import RankingModel
    from tfrec.models.retrieval import RetrievalModel
    from tfrec.recommender import Catalogue, Inputs, Recommender
    from tfrec.recommender.candidate_lists import CandidateLists
    from tfrec.recommender.changes import Changes


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
    from tfrec.candidates.build import loaded_sources

    settings = run.settings
    count = min(settings.index.candidates, run.data.num_items)
    return loaded_sources(settings.candidates, run.candidate_arrays(), count)


def exact_lists(
    run: Run, order: ListOrder | None = None, *, remove_seen: bool = True
) -> CandidateLists:
    """Returns the whole recommender with exact search, asked about requests of the prepared data.

    It has no filters, no caps, and what it computes with is float32.

    Args:
        run: The run.
        order: What lists are sorted by, where that is known.
        remove_seen: Whether items of the history are left out.
    """
    from tfrec.candidates.order import given_order
    from tfrec.index import ExactIndex
    from tfrec.recommender import Recommender
    from tfrec.recommender.recommender import order_names

    embeddings, sources = run.embeddings(), candidate_sources(run)
    assert embeddings is not None  # the stages are part of runs with towers only
    retrieval, own_towers = _trained_towers(run)
    recommender = Recommender(
        retrieval,
        trained_ranking(run),
        ExactIndex(embeddings.items[1:]),
        _trained_catalogue(run),
        _inputs(run),
        vocabulary=run.vocabulary(),
        max_item_tokens=run.settings.text.max_item_tokens,
        max_query_tokens=run.settings.text.max_query_tokens,
        ranking_towers=own_towers,
        sources=sources,
        order=order or given_order(order_names(sources), 1.0),
        k=sources.num_candidates,
    )
    return _prepared_lists(run, recommender, remove_seen, is_compressed=False)


def exported_lists(run: Run) -> CandidateLists:
    """Returns the recommender as it is exported, asked about requests of the prepared data."""
    settings = run.settings
    is_compressed = settings.index.precision != "float32" or settings.export.encoder != "float32"
    return _prepared_lists(run, load_recommender(run), True, is_compressed)


def _prepared_lists(
    run: Run, recommender: Recommender, leave_out_history: bool, is_compressed: bool
) -> CandidateLists:
    """Asks a recommender; a compressed one embeds requests itself, others take what is known."""
    from tfrec.inputs.item_statistics import live_statistics
    from tfrec.recommender.candidate_lists import CandidateLists
    from tfrec.recommender.prepared_requests import PreparedRequests

    embeddings = run.embeddings()
    assert embeddings is not None  # there are towers
    requests = PreparedRequests(
        run.data,
        input_tables(run),
        embeddings=None if is_compressed else embeddings,
        ranked_embeddings=None if is_compressed else _ranked_embeddings(run),
        tokenize=recommender.reader.tokenize_query,
        leave_out_history=leave_out_history,
    )
    return CandidateLists(
        recommender,
        requests,
        temperature=embeddings.temperature,
        statistics=live_statistics(run.data, run.settings),
    )


def load_recommender(run: Run, changes: Changes | None = None, index: str = INDEX) -> Recommender:
    """Builds the trained two-stage recommender in memory, as it is exported.

    Args:
        run: The run.
        changes: Of its catalogue since the training.
        index: Folder of its index, within that of the run.
    """
    from tfrec.recommender import Recommender

    settings = run.settings
    retrieval = own_towers = searched = None
    if run.has_towers:
        retrieval, own_towers = _trained_towers(run)
        if settings.export.encoder == "int8":
            retrieval.encoder.to_int8()
        searched = _load_index(run, index, changes)
    return Recommender(
        retrieval,
        trained_ranking(run),
        searched,
        _load_catalogue(run, changes),
        _inputs(run),
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


def _trained_towers(run: Run) -> tuple[RetrievalModel, RetrievalModel | None]:
    """Reads the towers that find candidates, and those of the ranking model's own."""
    retrieval = trained_retrieval(run, run.search_towers)
    if run.ranking_towers == run.search_towers:
        return retrieval, None
    return retrieval, trained_retrieval(run, run.ranking_towers, retrieval.encoder)


def _inputs(run: Run) -> Inputs:
    from tfrec.recommender import Inputs

    data, settings = run.data, run.settings
    return Inputs(
        user_text=settings.data.users.text,
        request_features=[*data.user_features, *data.context_features],
        item_text=settings.data.items.text,
        item_features=data.item_features,
        event_kinds=data.event_kinds,
    )


def _load_index(run: Run, name: str, changes: Changes | None) -> Searcher:
    """Reads an index; items that came after it are searched beside it."""
    from tfrec.index.delta import DeltaIndex

    searched = run.index(name, changes)
    if changes is not None:
        added = all_embeddings(run, changes)[1 + searched.num_items :]
        if len(added):
            return DeltaIndex(searched, added)
    return searched


def _load_catalogue(run: Run, changes: Changes | None) -> Catalogue:
    """Returns items and users as they are by now, with what filters and caps read."""
    from tfrec.recommender.catalogue import changed_catalogue, item_filters

    data, catalogue = run.data, _trained_catalogue(run)
    items, gone = data.items, frozenset[int]()
    if changes is not None and changes.number:
        items, gone = pl.concat([items, changes.items], how="diagonal_relaxed"), changes.gone
        catalogue = changed_catalogue(catalogue, changes, items, data.item_features)
    return replace(catalogue, **item_filters(items, run.settings.filters, gone))


def _trained_catalogue(run: Run) -> Catalogue:
    """Returns items and users of the training, before any filter."""
    from tfrec.recommender import Catalogue

    data, embeddings, ranked = run.data, run.embeddings(), _ranked_embeddings(run)
    return Catalogue(
        item_ids=data.items[Columns.ITEM_ID].to_list(),
        item_id_rows=data.item_id_rows,
        item_inputs=data.item_inputs,
        user_ids=data.users[Columns.USER_ID].to_list(),
        user_id_rows=data.user_id_rows,
        item_embeddings=None if embeddings is None else embeddings.items,
        ranked_embeddings=None if ranked is None else ranked.items,
    )


def _ranked_embeddings(run: Run) -> Embeddings | None:
    """Returns what the ranking model's own towers say; None where it has none."""
    if run.ranking_towers == run.search_towers:
        return None
    return run.embeddings(run.ranking_towers)


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
