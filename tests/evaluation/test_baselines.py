import numpy as np
import pytest
from scipy import sparse

from tfrec.candidates.neighbours import recent_counts
from tfrec.evaluation.baselines import Choices, build_baselines, ials_factors, read_choices
from tfrec.evaluation.requests import read_requests

# What baselines learn from


@pytest.mark.parametrize("kind", ["time", "random"])  # drawn: training may come after a request
def test_choices_are_training_targets_and_the_histories_of_requests(prepare_log, kind: str):
    data, config = prepare_log(split={"kind": kind, "validation": 0.2, "test": 0.2})
    contexts = read_requests(data, config).contexts
    choices = read_choices(data, contexts, seed=1)

    users = data.contexts["user_index"].to_list()
    train: dict[int, set[int]] = {}
    for row in data.target_rows("train"):
        context, item = data.examples[int(row)].select("context", "item_index").row(0)
        train.setdefault(users[context], set()).add(item)
    histories: list[set[int]] = [set() for _ in contexts]
    for row, item in zip(*data.seen_pairs(contexts), strict=True):
        histories[row].add(int(item))
    trained = [train.get(users[context], set()) for context in contexts]
    pairs = list(zip(histories, trained, strict=True))
    if kind == "time":
        assert any(history - known for history, known in pairs)
    else:
        assert any(known - history for history, known in pairs)

    for user in range(data.num_users + 1):
        assert set(choices.train[user].indices.tolist()) == train.get(user, set())
    for row, (history, known) in enumerate(pairs):
        wanted = history | known
        assert set(choices.requests[row].indices.tolist()) == wanted
    assert set(choices.train.data.tolist()) == set(choices.requests.data.tolist()) == {1.0}


def test_items_a_request_wants_are_not_among_its_choices(prepare_log):
    data, config = prepare_log()
    tests = read_requests(data, config)
    choices = read_choices(data, tests.contexts, seed=1)
    assert not choices.requests[tests.request, tests.target].any()


def test_popularity_orders_equal_scores_and_no_others():
    empty = sparse.csr_matrix((1, 4), dtype=np.float32)
    choices = Choices(empty, empty, np.array([0.2, 90.4, 90.1, 3.2], np.float32))
    scores = choices.with_popularity(np.array([[0, 0, 0, 0], [0, 0.5, 0.5001, 0.1]]))
    assert np.argsort(-scores, axis=1).tolist() == [[1, 2, 3, 0], [2, 1, 3, 0]]


# Formulas


def test_ials_solves_users_as_hu_koren_and_volinsky_do(prepare_log):
    data, config = prepare_log(
        evaluation={"ials": {"factors": 4, "alpha": 5.0, "regularization": 0.7}}
    )
    contexts = read_requests(data, config).contexts
    choices = read_choices(data, contexts, seed=1)
    users, items = ials_factors(choices, config)
    y = items.astype(np.float64)
    for row in range(len(contexts)):
        chosen = choices.requests[row].toarray().ravel()
        confidence = np.where(chosen > 0, 5.0, 1.0)
        expected = np.linalg.solve(
            (y.T * confidence) @ y + 0.7 * np.eye(4), y.T @ (confidence * chosen)
        )
        np.testing.assert_allclose(users[row], expected, atol=1e-4)
    again = ials_factors(choices, config)
    np.testing.assert_array_equal(users, again[0])


def test_recent_popularity_counts_the_last_tenth_of_training(prepare_log):
    data, _ = prepare_log()
    examples = data.examples[data.target_rows("train")]
    times = data.contexts["time"].gather(examples["context"]).to_list()
    latest = sorted(times)[int(0.9 * (len(times) - 1))]
    expected = np.zeros(data.num_items + 1)
    for time, item in zip(times, examples["item_index"], strict=True):
        expected[item] += time >= latest
    np.testing.assert_array_equal(recent_counts(data), expected)
    assert 0.05 * len(times) < expected.sum() < 0.2 * len(times)


# All together

ALL = ["recent_popularity", "item_knn", "ease", "ials", "content"]


def test_baselines_score_requests_in_blocks_and_a_stranger_by_popularity(prepare_log):
    data, config = prepare_log(evaluation={"baselines": ALL})
    contexts = read_requests(data, config).contexts
    choices = read_choices(data, contexts, seed=1)
    choices.requests[0].data[:] = 0
    nothing = choices.requests.toarray()
    nothing[0] = 0
    stranger = Choices(choices.train, sparse.csr_matrix(nothing), choices.popularity)
    found = dict(build_baselines(data, stranger, contexts, config))
    assert list(found) == ALL
    for name, score in found.items():
        assert not isinstance(score, str)
        whole = score(slice(0, len(contexts)))
        assert whole.shape == (len(contexts), data.num_items + 1)
        np.testing.assert_allclose(whole[3:5], score(slice(3, 5)), rtol=1e-5, atol=1e-7)
        if name in ("item_knn", "ease", "ials"):
            order = np.argsort(-whole[0], kind="stable")
            np.testing.assert_array_equal(order, np.argsort(-choices.popularity, kind="stable"))


def test_content_finds_items_by_the_words_of_the_query(prepare_log):
    data, config = prepare_log(evaluation={"baselines": ["content"]})
    contexts = np.flatnonzero(data.contexts["query"].to_numpy() == "green")[:1]
    choices = read_choices(data, contexts, seed=1)
    nothing = sparse.csr_matrix(choices.requests.shape, dtype=np.float32)
    choices = Choices(choices.train, nothing, choices.popularity)
    ((_, score),) = build_baselines(data, choices, contexts, config)
    best = np.argsort(-score(slice(0, 1))[0])[:3] - 1
    assert all("green" in data.items["title"][int(item)] for item in best)


def test_ease_of_a_large_catalogue_is_left_out_with_a_line(prepare_log):
    data, config = prepare_log(evaluation={"baselines": ["ease"], "ease": {"max_items": 5}})
    contexts = read_requests(data, config).contexts
    ((name, line),) = build_baselines(data, read_choices(data, contexts, 1), contexts, config)
    assert name == "ease"
    assert isinstance(line, str)
    assert "`evaluation.ease.max_items` = 5" in line


def test_recent_popularity_of_a_log_without_time_is_popularity(prepare_log):
    data, config = prepare_log(
        evaluation={"baselines": ["recent_popularity"]},
        events={"time": None},
        split={"kind": "leave_one_out"},
    )
    contexts = read_requests(data, config).contexts
    choices = read_choices(data, contexts, seed=1)
    ((_, score),) = build_baselines(data, choices, contexts, config)
    np.testing.assert_array_equal(score(slice(0, 1))[0], choices.popularity)
