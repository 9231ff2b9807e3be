import numpy as np
import pytest

from tfrec.evaluation.requests import read_requests
from tfrec.evaluation.slices import GROUPS, popularity_groups, target_slices


def test_popularity_groups_by_hand():
    # Of 20 targets the most popular item takes 10: the first half. The next two reach 16, 80%.
    counts = np.array([0, 1, 3, 10, 3, 0, 1, 1, 1])
    names = [GROUPS[number] for number in popularity_groups(counts)]
    assert names[1:] == ["tail", "torso", "head", "torso", "cold", "tail", "tail", "tail"]


@pytest.mark.parametrize("seed", range(5))
def test_popularity_groups_agree_with_a_loop(seed: int):
    counts = np.random.default_rng(seed).geometric(0.1, 40) - 1
    counts[0] = 0
    for item, number in enumerate(popularity_groups(counts)):
        above = sum(other for other in counts if other > counts[item]) / counts.sum()
        expected = "head" if above < 0.5 else "torso" if above < 0.8 else "tail"
        assert GROUPS[number] == (expected if counts[item] else "cold")


def test_equal_popularity_is_one_group():
    assert set(popularity_groups(np.array([0, 2, 2, 2]))[1:]) == {GROUPS.index("head")}
    assert popularity_groups(np.zeros(4, int)).tolist() == [0, 0, 0, 0]


def test_slices_agree_with_a_loop_over_targets(prepare_log):
    data, config = prepare_log()
    tests = read_requests(data, config)
    contexts = tests.contexts[tests.request]
    slices = target_slices(data, contexts, tests.target)
    train = data.examples[data.target_rows("train")]
    known_users = {data.contexts["user_index"][context] for context in train["context"]}
    for row, context in enumerate(contexts.tolist()):
        request = data.contexts[context].row(0, named=True)
        length = request["history_end"] - request["history_start"]
        expected = {
            "warm users" if request["user_index"] in known_users else "cold users",
            "with query" if request["query"] else "without query",
            "no history"
            if length == 0
            else "history of 1 to 4"
            if length < 5
            else "history of 5 to 19"
            if length < 20
            else "history of 20 or more",
        }
        named = {name for name, inside in slices.items() if inside[row]}
        assert {name for name in named if not name.endswith(" items")} == expected
        (group,) = (name for name in named if name.endswith(" items"))
        assert (group == "cold items") == (tests.target[row] not in train["item_index"])
    assert all(inside.any() for inside in slices.values())


def test_log_without_queries_has_no_slices_of_queries(prepare_log):
    data, config = prepare_log(events={})
    tests = read_requests(data, config)
    slices = target_slices(data, tests.contexts[tests.request], tests.target)
    assert not any("query" in name for name in slices)
