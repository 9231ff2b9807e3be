import numpy as np
import pytest
from scipy import sparse

from tfrec.candidates.neighbours import ease_weights, item_similarity


def random_matrix(seed: int, users: int = 40, items: int = 12) -> sparse.csr_matrix:
    """Draws who chose what; the first and the last item nobody did."""
    dense = np.random.default_rng(seed).random((users, items)) < 0.25
    dense[:, [0, -1]] = False
    return sparse.csr_matrix(dense.astype(np.float32))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("neighbours", "shrinkage"), [(100, 0.0), (3, 10.0), (1, 2.5)])
def test_item_similarity_agrees_with_a_loop(seed: int, neighbours: int, shrinkage: float):
    train = random_matrix(seed)
    chosen = [set(np.flatnonzero(column).tolist()) for column in train.toarray().T]
    expected = np.zeros((12, 12))
    for i, users in enumerate(chosen):
        found = []
        for j, others in enumerate(chosen):
            if i != j and users & others:
                divisor = (len(users) * len(others)) ** 0.5 + shrinkage
                found.append((-len(users & others) / divisor, j))
        for value, j in sorted(found)[:neighbours]:
            expected[i, j] = -value
    np.testing.assert_allclose(
        item_similarity(train, neighbours, shrinkage).toarray(), expected, rtol=1e-6
    )


@pytest.mark.parametrize("seed", range(3))
def test_ease_predicts_each_item_by_ridge_regression_on_the_others(seed: int):
    # That is what its closed form solves: min |X - XB|^2 + penalty |B|^2 with a zero diagonal.
    train, penalty = random_matrix(seed), 3.0
    dense = train.toarray().astype(np.float64)
    expected = np.zeros((12, 12))
    for item in range(1, 11):
        others = [other for other in range(1, 11) if other != item]
        x = dense[:, others]
        solved = np.linalg.solve(x.T @ x + penalty * np.eye(9), x.T @ dense[:, item])
        expected[others, item] = solved
    np.testing.assert_allclose(ease_weights(train, penalty), expected, atol=1e-6)


def test_ease_of_an_empty_log_is_zero():
    assert not ease_weights(sparse.csr_matrix((3, 4), dtype=np.float32), 1.0).any()
