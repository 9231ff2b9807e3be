"""Click prediction on the test rows: ours beside baselines, chance and, if known, truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.evaluation.slices import target_slices
from tfrec.metrics.calibration import expected_calibration_error
from tfrec.metrics.decisions import Confusion, best_threshold, confuse
from tfrec.metrics.intervals import percentile_interval
from tfrec.metrics.ranking import ranking_metrics
from tfrec.metrics.ranking_tally import METRICS, tally_requests

if TYPE_CHECKING:  # reports are shown without loading TensorFlow
    from tfrec.inference.embeddings import Embeddings
    from tfrec.inference.pair_scorer import PairScorer
    from tfrec.inputs.ranked_rows import RankedRows

OURS, UNCALIBRATED = "ours", "ours, uncalibrated"
_COMPARED = ("auc", "gauc", "log_loss")

Metrics = dict[str, dict[str, float]]


@dataclass(frozen=True)
class RankingReport:
    """Click prediction in numbers; the mappings go from model to metric to value.

    Attributes:
        metrics: Of `ranking_metrics`, with ``mrr``, ``ndcg_at_5`` and ``ndcg_at_10`` over the
            shown lists, and the number of ``rows``.
        intervals: 95% intervals [low, high], requests drawn; empty without any.
        differences: Ours less each other model: ``difference``, ``low`` and ``high`` of AUC, GAUC
            and log loss; empty without intervals.
        segments: By segment: ``rows``, ``click_rate``, and ``ece`` and ``uncalibrated_ece`` of
            ours.
        threshold: Probability from which on ours counts as a predicted click, chosen on
            validation.
        decisions: At that threshold, on the test: ``precision``, ``recall``, ``f1`` and the four
            counts of the confusion matrix.
    """

    metrics: Metrics
    intervals: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    differences: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    segments: dict[str, dict[str, float]] = field(default_factory=dict)
    threshold: float = 0.5
    decisions: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Predictions:
    """The test rows with what models say of them.

    Attributes:
        rows: The rows.
        probabilities: By model, float64 [n].
    """

    rows: RankedRows
    probabilities: dict[str, np.ndarray]


def evaluate_ranking(
    data: PreparedData, scorer: PairScorer, embeddings: Embeddings | None, config: Config
) -> tuple[RankingReport, Predictions]:
    """Measures predicted click probabilities against the answers of the test.

    Models: ``ours`` (calibrated), the same before calibration, ``popularity`` (each item's share of
    clicks in train, drawn towards the overall share as if it had been shown 20 times more),
    ``random`` (the overall share for everything, lowered by up to one per cent so that the order
    is a random one), ``oracle`` where the truth is known, and those
    of `evaluation.ranking_baselines`.

    Args:
        data: The prepared data set.
        scorer: Runs the ranking model.
        embeddings: From the finished towers; None without.
        config: `evaluation`, `ranking` and the seed.
    """
    from tfrec.inputs.ranked_rows import ranked_rows

    train, validation, test = (
        ranked_rows(data, split, config) for split in ("train", "validation", "test")
    )
    predictions = dict(_predict(data, scorer, embeddings, config, train, validation, test))
    labels, weights = test.label, test.weights
    threshold = best_threshold(
        validation.label, scorer.probabilities(validation), validation.weights
    )
    report = RankingReport(
        metrics={
            name: ranking_metrics(labels, values, weights, test.context)
            | {"rows": float(len(test))}
            for name, values in predictions.items()
        },
        segments=_measure_segments(data, test, predictions),
        threshold=threshold,
        decisions=_describe(confuse(labels, predictions[OURS], threshold, weights)),
    )
    if config.evaluation.bootstrap and len(test):
        _add_intervals(report, test, predictions, config)
    return report, Predictions(test, predictions)


def true_probabilities(data: PreparedData, split: str) -> np.ndarray | None:
    """Returns float32 [n], the truth of the logged rows of `split`, or None where it is unknown."""
    truth = data.examples["true_probability"].to_numpy()[data.ranked_rows(split)]
    return None if np.isnan(truth).any() else truth


def _predict(
    data: PreparedData,
    scorer: PairScorer,
    embeddings: Embeddings | None,
    config: Config,
    train: RankedRows,
    validation: RankedRows,
    test: RankedRows,
) -> Iterator[tuple[str, np.ndarray]]:
    from tfrec.evaluation.ranking_baselines import predict_baselines, read_features
    from tfrec.inputs.ranked_rows import chosen_rate

    yield OURS, scorer.probabilities(test).astype(np.float64)
    if config.ranking.calibration.kind != "none":
        yield UNCALIBRATED, expit(scorer.raw(test)[:, 0].astype(np.float64))
    rate, overall = chosen_rate(train, data.num_items)
    yield "popularity", rate[test.item_index]
    log_rate = np.log(np.maximum(rate, 1e-9))[:, None]

    def past_of(rows: RankedRows) -> np.ndarray:
        if scorer.statistics is None:
            return log_rate[rows.item_index]
        return scorer.statistics.live(rows.context, rows.item_index)

    if config.evaluation.ranking_baselines and len(test):
        described = [
            read_features(data, rows, embeddings, past_of(rows))
            for rows in (train, validation, test)
        ]
        yield from predict_baselines(
            (described[0], train), (described[1], validation), described[2], config
        )
    chance = np.random.default_rng(config.seed).uniform(-0.01, 0.0, len(test))
    yield "random", overall * (1 + chance)
    truth = true_probabilities(data, "test")
    if truth is not None and len(truth) == len(test):
        yield "oracle", truth


def _describe(confusion: Confusion) -> dict[str, float]:
    return {
        "precision": confusion.precision,
        "recall": confusion.recall,
        "f1": confusion.f1,
        "true_positives": confusion.true_positives,
        "false_positives": confusion.false_positives,
        "false_negatives": confusion.false_negatives,
        "true_negatives": confusion.true_negatives,
    }


def _measure_segments(
    data: PreparedData, test: RankedRows, predictions: dict[str, np.ndarray]
) -> dict[str, dict[str, float]]:
    segments = {}
    inside_of: dict[str, Any] = {"all": np.ones(len(test), bool)}
    inside_of |= target_slices(data, test.context, test.item_index)
    for name, inside in inside_of.items():
        if not inside.any():
            continue
        labels, weights = test.label[inside], test.weights[inside]
        segments[name] = {
            "rows": float(inside.sum()),
            "click_rate": float(np.average(labels, weights=weights)),
        } | {
            column: expected_calibration_error(labels, predictions[model][inside], weights)
            for column, model in (("ece", OURS), ("uncalibrated_ece", UNCALIBRATED))
            if model in predictions
        }
    return segments


def _add_intervals(
    report: RankingReport, test: RankedRows, predictions: dict[str, np.ndarray], config: Config
) -> None:
    """Draws requests, the same for all models, and adds intervals and paired differences."""
    drawn, whole = {}, {}
    for name, values in predictions.items():
        tally = tally_requests(test.label, values, test.context, test.weights)
        drawn[name] = tally.resample(config.evaluation.bootstrap, config.seed)
        whole[name] = {
            n: float(v[0]) for n, v in tally.measure(np.ones((1, len(tally.weights)))).items()
        }
        report.metrics[name] |= {n: whole[name][n] for n in ("mrr", "ndcg_at_5", "ndcg_at_10")}
        bounds = percentile_interval(drawn[name]).tolist()
        report.intervals[name] = dict(zip(METRICS, bounds, strict=True))
    for name in predictions:
        if name == OURS:
            continue
        bounds = percentile_interval(drawn[OURS] - drawn[name])
        report.differences[name] = {
            metric: {
                "difference": whole[OURS][metric] - whole[name][metric],
                "low": float(bounds[METRICS.index(metric), 0]),
                "high": float(bounds[METRICS.index(metric), 1]),
            }
            for metric in _COMPARED
        }
