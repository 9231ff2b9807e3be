import math
from pathlib import Path

import numpy as np
import pytest
from scipy import sparse

from tfrec.candidates.build import load_arrays, save_arrays
from tfrec.candidates.tables import text_neighbours, token_weights, top_of_rows


def random_tokens(seed: int, texts: int = 30, tokens: int = 20) -> np.ndarray:
    """Draws texts of tokens 5 and above between special ones below; the first is empty."""
    draw = np.random.default_rng(seed)
    found = draw.integers(5, tokens, (texts, 8)).astype(np.int32)
    found[draw.random(found.shape) < 0.3] = 0
    found[:, 0] = 2
    found[0] = 0
    return found


@pytest.mark.parametrize("seed", range(3))
def test_token_weights_are_bm25(seed: int):
    tokens = random_tokens(seed)
    texts = [[int(t) for t in row if t >= 5] for row in tokens]
    number = sum(1 for text in texts if text)
    mean = sum(map(len, texts)) / number
    found = token_weights(tokens, 20, 5).toarray()
    for row, text in enumerate(texts):
        for token in range(20):
            count = text.count(token)
            containing = sum(token in other for other in texts)
            idf = math.log(1 + (number - containing + 0.5) / (containing + 0.5))
            norm = 1.2 * (1 - 0.75 + 0.75 * len(text) / mean)
            assert found[row, token] == pytest.approx(idf * count * 2.2 / (count + norm), rel=1e-5)


@pytest.mark.parametrize("depth", [1, 4, 100])
def test_text_neighbours_agree_with_dense_cosines(depth: int):
    weights = token_weights(random_tokens(1), 20, 5)
    table = text_neighbours(weights, depth)
    dense = weights.toarray().astype(np.float64)
    norms = np.maximum(np.linalg.norm(dense, axis=1), 1e-30)
    cosine = dense @ dense.T / norms[:, None] / norms
    np.fill_diagonal(cosine, 0)
    for row, similar in enumerate(cosine):
        expected = np.sort(similar[1:][similar[1:] > 0])[::-1][:depth]
        found = table.weights[row][table.items[row] > 0]
        np.testing.assert_allclose(found, expected, rtol=1e-4)
        np.testing.assert_allclose(found, similar[table.items[row][: len(found)]], rtol=1e-4)


def test_of_each_row_the_largest_positive_entries_stay_and_ties_go_to_the_lower_item():
    dense = np.array(
        [[9, 1, 2, 2, 0], [0, 0, 0, 0, 0], [0, -1, 0, 3, 0], [0, 5, 5, 5, 5]], np.float32
    )
    table = top_of_rows(sparse.csr_matrix(dense), 2)
    assert table.items.tolist() == [[2, 3], [0, 0], [3, 0], [1, 2]]
    assert table.weights.tolist() == [[2, 2], [0, 0], [3, 0], [5, 5]]


def test_arrays_of_sources_come_back_as_they_were_saved(tmp_path: Path):
    arrays = {"one": {"items": np.eye(4, dtype=np.int32), "weights": np.ones(3, np.float32)}}
    save_arrays(tmp_path / "tables.npz", arrays)
    found = load_arrays(tmp_path / "tables.npz")
    assert list(found) == ["one"]
    for name, values in arrays["one"].items():
        np.testing.assert_array_equal(found["one"][name], values)
    save_arrays(tmp_path / "tables.npz", {"nothing is kept": {}})
    assert load_arrays(tmp_path / "tables.npz") == {}
