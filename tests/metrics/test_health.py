import itertools
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from tfrec.metrics.diagnosis import HealthReport
from tfrec.metrics.health import (
    effective_rank,
    list_overlap,
    mean_cosine,
    measure_health,
    own_history_share,
    own_lead,
)
from tfrec.metrics.retrieval import target_ranks

# Numbers


def test_effective_rank_by_hand():
    assert effective_rank(np.eye(5)) == pytest.approx(5)
    assert effective_rank(np.outer(np.arange(1, 9), np.ones(4))) == pytest.approx(1)
    # Singular values 3 and 1: shares 3/4 and 1/4; entropy .5623; exp: 1.7548.
    assert effective_rank(np.diag([3.0, 1.0])) == pytest.approx(1.754765, rel=1e-6)
    assert effective_rank(np.zeros((4, 3))) == 0


@pytest.mark.parametrize("seed", range(3))
def test_effective_rank_agrees_with_singular_values(seed: int):
    matrix = np.random.default_rng(seed).normal(size=(40, 6)) * [9, 4, 2, 1, 0.5, 0.01]
    singular = np.linalg.svd(matrix, compute_uv=False)
    share = singular / singular.sum()
    assert effective_rank(matrix) == pytest.approx(np.exp(-(share * np.log(share)).sum()))


@pytest.mark.parametrize("seed", range(3))
def test_mean_cosine_agrees_with_a_loop_over_pairs(seed: int):
    rows = np.random.default_rng(seed).normal(0.3, size=(12, 4))
    cosines = [
        a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in itertools.combinations(rows, 2)
    ]
    assert mean_cosine(np.vstack([rows, np.zeros(4)])) == pytest.approx(np.mean(cosines))


@pytest.mark.parametrize("seed", range(3))
def test_list_overlap_agrees_with_a_loop_over_pairs(seed: int):
    top = np.array([np.random.default_rng([seed, n]).permutation(9)[:4] + 1 for n in range(15)])
    shared = [len({*a} & {*b}) / 4 for a, b in itertools.combinations(top.tolist(), 2)]
    assert list_overlap(top, 9) == pytest.approx(np.mean(shared))


def test_list_overlap_is_one_if_all_lists_are_equal():
    assert list_overlap(np.tile([3, 1], (7, 1)), 9) == 1


def test_own_history_share_counts_targets_that_stand_in_it():
    histories = np.array([[0, 1, 2], [0, 0, 0], [4, 5, 6], [0, 7, 7]])
    assert own_history_share(histories, np.array([2, 1, 3, 7])) == 0.5


# Findings

NUM_ITEMS, K = 400, 10


def measure(
    items: np.ndarray, requests: np.ndarray, targets: np.ndarray, **more: Any
) -> HealthReport:
    """Measures a model whose scores are dot products; popular are the items that come first."""
    scores = requests @ items.T
    scores[:, 0] = -np.inf
    popularity = np.tile(-np.arange(len(items), dtype=np.float32), (len(targets), 1))
    popularity += 0.5 * np.random.default_rng(9).random(len(items), np.float32)
    nothing = np.empty(0, int), np.empty(0, int)
    given: dict[str, Any] = {
        "items": items,
        "top": np.argsort(-scores, axis=1)[:, :K],
        "histories": np.zeros((len(targets), 3), int),
        "targets": targets,
        "ranks": target_ranks(lambda block: scores[block], targets, lambda block: nothing),
        "popularity_ranks": target_ranks(
            lambda block: popularity[block], targets, lambda block: nothing
        ),
        "k": K,
    }
    return measure_health(**(given | more))


def make_model(
    seed: int, num_items: int = NUM_ITEMS, num_requests: int = 300, noise: float = 0.35
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns items, requests that lie near their targets, and the targets."""
    draw = np.random.default_rng(seed)
    items = draw.normal(size=(num_items + 1, 16)).astype(np.float32)
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    items[0] = 0
    targets = draw.integers(1, num_items + 1, num_requests)
    requests = items[targets] + noise * draw.normal(size=(num_requests, 16)).astype(np.float32)
    return items, requests, targets


def kinds(report: HealthReport) -> set[str]:
    return {finding.kind for finding in report.findings}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("num_items", "num_requests"), [(400, 300), (20, 300), (6, 4), (1, 1)])
def test_healthy_model_of_any_size_raises_no_alarm(seed: int, num_items: int, num_requests: int):
    report = measure(*make_model(seed, num_items, num_requests))
    assert report.findings == []
    assert set(report.numbers()) >= {"effective_rank", "mean_cosine", "overlap", "ndcg_at_k"}


@pytest.mark.parametrize("seed", range(5))
def test_small_sample_of_a_weak_model_raises_no_alarm(seed: int):
    items, _, targets = make_model(seed, num_requests=30)
    requests = np.random.default_rng(seed + 100).normal(size=(30, 16))
    assert measure(items, requests, targets).findings == []


def test_items_on_one_line_are_a_collapse():
    items, requests, targets = make_model(0)
    items[1:] = np.outer(np.linspace(-1, 1, NUM_ITEMS), items[1]) + 1e-3 * items[1:]
    report = measure(items, requests, targets)
    assert report.effective_rank < 2
    assert "collapse" in kinds(report)
    assert any("effective rank" in finding.message for finding in report.findings)


def test_items_that_all_point_one_way_are_a_collapse():
    items, requests, targets = make_model(0)
    items[1:] = 0.15 * items[1:] + items[1]
    report = measure(items, requests, targets)
    assert any(
        "point the same way" in finding.message.replace("\n", " ") for finding in report.findings
    )


def test_one_answer_for_everybody_is_a_collapse():
    items, requests, targets = make_model(0)
    report = measure(items, np.tile(requests[:1], (len(requests), 1)), targets)
    assert report.overlap == 1
    assert any("whoever asks" in finding.message for finding in report.findings)


def test_targets_in_their_own_histories_are_a_leak():
    items, requests, targets = make_model(0)
    histories = np.stack([targets, targets % NUM_ITEMS + 1], axis=1)
    histories[10:, 0] = 0
    report = measure(items, requests, targets, histories=histories)
    assert report.in_own_history == pytest.approx(10 / 300)
    assert kinds(report) == {"leak"}


def test_too_good_to_be_true_is_a_leak():
    report = measure(*make_model(0, noise=0.01))
    assert report.recall_at_1 > 0.95
    assert kinds(report) == {"leak"}


def test_easy_targets_are_no_leak():
    items, _, _ = make_model(0)
    targets = np.ones(300, int)  # popularity finds all of them too
    requests = np.random.default_rng(0).normal(size=(300, 16)) * 0.05 + items[1]
    report = measure(items, requests, targets)
    assert report.recall_at_1 > 0.95
    assert "leak" not in kinds(report)


def test_worse_than_popularity_is_found():
    items, _, _ = make_model(0)
    targets = 1 + np.random.default_rng(0).geometric(0.2, 300).clip(1, NUM_ITEMS - 1)
    report = measure(items, np.random.default_rng(1).normal(size=(300, 16)), targets)
    assert kinds(report) == {"worse_than_popularity"}
    assert report.ndcg_lead[1] < 0


def test_no_worse_than_popularity_by_more_than_chance_is_level_with_it():
    items, requests, targets = make_model(0)
    ranks = np.random.default_rng(0).integers(1, 30, 300)
    swapped = ranks.copy()
    swapped[:40] = ranks[:40][::-1]  # better here, worse there
    swapped[0] = 1
    report = measure(items, requests, targets, ranks=ranks, popularity_ranks=swapped)
    assert report.ndcg_at_k < report.popularity_ndcg_at_k
    assert kinds(report) == {"level_with_popularity"}


@pytest.mark.parametrize("seed", range(3))
def test_requests_rank_their_own_targets_first_or_do_not_matter(seed: int):
    items, requests, targets = make_model(seed, num_requests=600, noise=1.5)
    sound = measure_own(items, requests, targets)
    assert sound.own_lead > 5
    assert "requests_do_not_matter" not in kinds(sound)
    order = np.random.default_rng(seed).permutation(600)
    broken = measure_own(items, requests[order], targets)
    assert abs(broken.own_lead) < 3.5
    assert "requests_do_not_matter" in kinds(broken) or broken.own_lead >= 3
    few = measure_own(items, requests[order][:250], targets[:250])
    assert "requests_do_not_matter" not in kinds(few)


def measure_own(items: np.ndarray, requests: np.ndarray, targets: np.ndarray) -> HealthReport:
    scores = np.roll(requests, len(requests) // 2, axis=0) @ items.T
    nothing = np.empty(0, int), np.empty(0, int)
    swapped = target_ranks(lambda block: scores[block], targets, lambda block: nothing)
    return measure(items, requests, targets, swapped_ranks=swapped)


def test_own_lead_is_the_paired_t_statistic_of_log_ranks():
    ranks, swapped = np.array([1, 2, 9, 4]), np.array([3, 2, 5, 40])
    wanted = ttest_rel(np.log(swapped), np.log(ranks)).statistic
    assert own_lead(ranks, swapped) == pytest.approx(wanted)
    assert own_lead(ranks, ranks) == 0
    assert np.isnan(own_lead(ranks[:1], swapped[:1]))


def test_order_turned_round_is_worse_than_random():
    items, requests, targets = make_model(0, num_requests=600)
    assert "worse_than_random" in kinds(measure(items, -requests, targets))


@pytest.mark.parametrize("seed", range(5))
def test_shuffled_labels_of_popular_items_are_worse_than_popularity(seed: int):
    items, requests, _ = make_model(seed)
    draw = np.random.default_rng(seed)
    targets = 1 + draw.geometric(0.1, 300).clip(1, NUM_ITEMS - 1)
    report = measure(items, requests[draw.permutation(300)], targets)
    assert "worse_than_popularity" in kinds(report)


def test_embeddings_that_are_no_numbers_are_found_first():
    items, requests, targets = make_model(0)
    items[7] = np.nan
    report = measure(items, requests, targets)
    assert "diverged" in kinds(report)
    assert "collapse" not in kinds(report)
    everything = measure(np.full_like(items, np.nan), requests, targets)
    assert "diverged" in kinds(everything)


def test_several_targets_of_a_request_are_drawn_together():
    items, requests, targets = make_model(0)
    report = measure(
        items, requests, targets, request=np.arange(300) // 10, top=np.zeros((30, K), int)
    )
    assert report.num_requests == 30
    assert report.findings == []


def test_findings_say_what_was_seen_what_it_means_and_what_to_do():
    items, requests, targets = make_model(0)
    for finding in measure(items, np.tile(requests[:1], (300, 1)), targets).findings:
        assert finding.message.count(". ") >= 2
    assert "popularity" in measure(items, requests, targets).line()
