"""What a model answered to each row of the test, as tables that other runs can be held against."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from tfrec.data.dataset import PreparedData
from tfrec.schema import Columns

if TYPE_CHECKING:  # comparing runs loads no TensorFlow
    from tfrec.evaluation.ranking import Predictions
    from tfrec.evaluation.retrieval import RankedTargets

RETRIEVAL_FILE, RANKING_FILE = "ranks.parquet", "predictions.parquet"

RANK, RECOMMENDED_RANK, PROBABILITY = "rank", "recommended_rank", "probability"

KEY = (Columns.USER_ID, Columns.TIME, Columns.QUERY)
"""Outside names of a request, the same in every run on the same data."""


def write_ranks(folder: Path, data: PreparedData, ranked: RankedTargets) -> None:
    """Writes one row for each test target: request, item, and its rank by both stages."""
    from tfrec.evaluation.retrieval_report import OURS, RERANKED

    tests = ranked.tests
    columns = {RANK: ranked.ranks[OURS]}
    if RERANKED in ranked.ranks:
        columns[RECOMMENDED_RANK] = ranked.ranks[RERANKED]
    frame = _outside_names(data, tests.contexts[tests.request], tests.target)
    frame.with_columns(**columns).write_parquet(folder / RETRIEVAL_FILE)


def write_predictions(folder: Path, data: PreparedData, predictions: Predictions) -> None:
    """Writes one row for each ranked test row: request, item, answer, probability of a click."""
    from tfrec.evaluation.ranking import OURS

    rows = predictions.rows
    frame = _outside_names(data, rows.context, rows.item_index).with_columns(
        **{
            Columns.POSITION: rows.position,
            Columns.LABEL: rows.label.astype(np.int8),
            Columns.WEIGHT: rows.weights.astype(np.float64),
            PROBABILITY: predictions.probabilities[OURS].astype(np.float64),
        }
    )
    frame.write_parquet(folder / RANKING_FILE)


def _outside_names(data: PreparedData, contexts: np.ndarray, items: np.ndarray) -> pl.DataFrame:
    requests = data.contexts[contexts]
    users = data.users[Columns.USER_ID].gather(requests["user_index"].to_numpy() - 1)
    return pl.DataFrame(
        {
            Columns.USER_ID: users,
            Columns.TIME: requests[Columns.TIME],
            Columns.QUERY: requests[Columns.QUERY],
            Columns.ITEM_ID: data.items[Columns.ITEM_ID].gather(items.astype(np.int64) - 1),
        }
    )
