import json

import numpy as np
import pytest
import tensorflow as tf

from tfrec.errors import ArtefactError
from tfrec.index import ExactIndex, ItemIndex, build, build_index, scann
from tfrec.index.build import load_index, save_index
from tfrec.index.delta import DeltaIndex
from tfrec.index.portable import PortableIndex
from tfrec.index.scann import ScannIndex

NUM_ITEMS, DIM = 50, 8
KINDS = ("exact", "scann", "portable", "delta")


def unit(count: int, dim: int = DIM, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


EMBEDDINGS, QUERIES = unit(NUM_ITEMS), unit(6, seed=1)


def make_index(kind: str, embeddings: np.ndarray = EMBEDDINGS) -> ItemIndex:
    if kind == "delta":  # two fifths of the rows came later
        count = max(1, 3 * len(embeddings) // 5)
        return DeltaIndex(ExactIndex(embeddings[:count]), embeddings[count:])
    return build_index(kind, embeddings, QUERIES, k=10, min_recall=0.5)[0]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=("exact", "scann", "portable"))
def built(request: pytest.FixtureRequest) -> str:
    """A kind that is built and stored by itself."""
    return request.param


@pytest.fixture(scope="module")
def index(kind: str) -> ItemIndex:
    return make_index(kind)


def search(index: ItemIndex, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    rows, scores = index.search(tf.constant(queries), k)
    assert rows.dtype == tf.int32
    assert scores.dtype == tf.float32
    return rows.numpy(), scores.numpy()


# The contract of every index


@pytest.mark.parametrize("k", [1, 7, NUM_ITEMS - 1, NUM_ITEMS])
def test_search_finds_what_a_sort_of_all_products_finds(index, k):
    rows, _ = search(index, QUERIES, k)
    wanted = np.argsort(-(QUERIES @ EMBEDDINGS.T), axis=1)[:, :k]
    np.testing.assert_array_equal(rows, wanted)


def test_scores_are_dot_products_best_first(index):
    rows, scores = search(index, QUERIES, 20)
    np.testing.assert_allclose(
        scores, np.einsum("bd,bkd->bk", QUERIES, EMBEDDINGS[rows]), atol=1e-5
    )
    assert (np.diff(scores, axis=1) <= 0).all()


def test_scores_of_longer_queries_are_not_normalised(index):
    rows, scores = search(index, 3 * QUERIES, 5)
    wanted_rows, wanted = search(index, QUERIES, 5)
    np.testing.assert_array_equal(rows, wanted_rows)
    np.testing.assert_allclose(scores, 3 * wanted, atol=1e-5)


@pytest.mark.parametrize("k", [NUM_ITEMS + 1, 10 * NUM_ITEMS])
def test_k_above_the_number_of_items_answers_every_item_once(index, k):
    rows, _ = search(index, QUERIES, k)
    assert rows.shape == (len(QUERIES), NUM_ITEMS)
    np.testing.assert_array_equal(np.sort(rows, axis=1), [np.arange(NUM_ITEMS)] * len(QUERIES))


@pytest.mark.parametrize("batch", [0, 1, 300])
def test_batches_of_any_size_are_answered_row_by_row(index, batch):
    queries = unit(batch, seed=2)
    rows, scores = search(index, queries, 4)
    assert rows.shape == scores.shape == (batch, 4)
    if batch:
        alone, _ = search(index, queries[-1:], 4)
        np.testing.assert_array_equal(rows[-1:], alone)


def test_equal_vectors_give_distinct_rows(kind):
    tied = make_index(kind, np.repeat(unit(1), 30, axis=0))
    rows, scores = search(tied, QUERIES, 12)
    for row in rows:
        assert len(np.unique(row)) == 12
    np.testing.assert_allclose(scores, np.repeat(scores[:, :1], 12, axis=1), atol=1e-6)


def test_vector_of_zeros_is_a_row_with_score_zero(kind):
    embeddings = EMBEDDINGS.copy()
    embeddings[3] = 0
    rows, scores = search(make_index(kind, embeddings), QUERIES, NUM_ITEMS)
    assert (np.abs(scores[rows == 3]) < 1e-6).all()
    assert (rows == 3).sum() == len(QUERIES)


def test_query_of_zeros_answers_distinct_rows_with_score_zero(index):
    rows, scores = search(index, np.zeros((1, DIM), np.float32), 5)
    assert len(np.unique(rows)) == 5
    assert not scores.any()


def test_single_item_is_found(kind):
    rows, scores = search(make_index(kind, EMBEDDINGS[:1]), QUERIES, 3)
    assert rows.tolist() == [[0]] * len(QUERIES)
    np.testing.assert_allclose(scores[:, 0], QUERIES @ EMBEDDINGS[0], atol=1e-5)


def test_search_inside_a_function_takes_any_batch_and_k(index):
    function = tf.function(
        lambda queries, k: index.search(queries, k),
        input_signature=[tf.TensorSpec([None, DIM]), tf.TensorSpec([], tf.int32)],
        autograph=False,
    )
    for queries, k in ((QUERIES, 3), (QUERIES[:1], 11), (QUERIES[:0], 2), (QUERIES, 900)):
        rows, scores = function(tf.constant(queries), tf.constant(k))
        wanted_rows, wanted = search(index, queries, k)
        np.testing.assert_array_equal(rows, wanted_rows)
        np.testing.assert_allclose(scores, wanted, atol=1e-6)


def test_index_in_a_saved_model_answers_alike(index, tmp_path):
    module = tf.Module()
    module.index = index
    module.search = tf.function(
        lambda queries: index.search(queries, 5),
        input_signature=[tf.TensorSpec([None, DIM])],
        autograph=False,
    )
    options = tf.saved_model.SaveOptions(namespace_whitelist=["Scann"])
    tf.saved_model.save(module, str(tmp_path / "model"), options=options)
    loaded = tf.saved_model.load(str(tmp_path / "model"))
    rows, scores = loaded.search(tf.constant(QUERIES))
    wanted_rows, wanted = search(index, QUERIES, 5)
    np.testing.assert_array_equal(rows, wanted_rows)
    np.testing.assert_allclose(scores, wanted, atol=1e-6)


def test_saved_index_loads_with_the_same_answers(built, tmp_path):
    index, report = build_index(built, EMBEDDINGS, QUERIES, k=10, min_recall=0.5)
    save_index(tmp_path, index, report)
    loaded = load_index(tmp_path)
    assert loaded.num_items == NUM_ITEMS
    assert loaded.parameters == index.parameters
    for one, other in zip(search(index, QUERIES, 7), search(loaded, QUERIES, 7), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(index.tensors(), loaded.tensors(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_report_says_what_was_measured(built, tmp_path):
    index, report = build_index(built, EMBEDDINGS, QUERIES, k=10, min_recall=0.5)
    assert (report.kind, report.num_items, report.k) == (built, NUM_ITEMS, 10)
    assert report.recall_at_k == 1.0
    assert report.latency_ms > 0
    assert report.parameters == index.parameters
    save_index(tmp_path, index, report)
    written = json.loads((tmp_path / "index.json").read_text(encoding="utf-8"))
    assert written["recall_at_k"] == 1.0


def test_build_for_more_rows_than_items_measures_all_items(built):
    _, report = build_index(built, EMBEDDINGS, QUERIES, k=500, min_recall=0.5)
    assert report.k == NUM_ITEMS
    assert report.recall_at_k == 1.0


def test_build_without_sample_queries_has_nothing_to_miss(built):
    _, report = build_index(built, EMBEDDINGS, QUERIES[:0], k=10, min_recall=0.9)
    assert report.recall_at_k == 1.0
    assert report.latency_ms == 0.0


def test_load_from_a_folder_without_an_index_names_it(tmp_path):
    with pytest.raises(ArtefactError, match=r"holds no index; run `tfrec train`"):
        load_index(tmp_path)


def test_exact_index_prefers_the_lower_of_tied_rows():
    rows, _ = search(ExactIndex(np.repeat(unit(1), 9, axis=0)), QUERIES, 4)
    assert rows.tolist() == [[0, 1, 2, 3]] * len(QUERIES)


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 1e-3), ("int8", 2e-2)])
@pytest.mark.parametrize("kind", ["exact", "portable"])
def test_index_in_fewer_bits_is_smaller_by_a_little_only(kind, precision, tolerance, tmp_path):
    index, report = build_index(
        kind, EMBEDDINGS, QUERIES, k=10, min_recall=0.8, precision=precision
    )
    rows, scores = search(index, QUERIES, 10)
    wanted = np.einsum("bd,bkd->bk", QUERIES, EMBEDDINGS[rows])
    np.testing.assert_allclose(scores, wanted, atol=tolerance)
    assert report.parameters["precision"] == precision
    assert np.abs(scores - wanted).max() > 1e-6
    save_index(tmp_path, index, report)
    for one, other in zip(search(load_index(tmp_path), QUERIES, 10), (rows, scores), strict=True):
        np.testing.assert_array_equal(one, other)


# Where an index approximates


@pytest.fixture(scope="module")
def clustered() -> tuple[np.ndarray, np.ndarray]:
    """30,000 items around 300 centres, as towers place them, and queries near the centres."""
    rng = np.random.default_rng(5)
    centres = unit(300, 16, seed=6)
    items = centres[rng.integers(0, 300, 30_000)] + 0.5 * unit(30_000, 16, seed=7)
    queries = centres[:100] + 0.5 * unit(100, 16, seed=8)
    return (
        items / np.linalg.norm(items, axis=1, keepdims=True),
        queries / np.linalg.norm(queries, axis=1, keepdims=True),
    )


APPROXIMATE = ("scann", "portable")


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_approximate_index_reaches_the_floor(clustered, kind):
    items, queries = clustered
    index, report = build_index(kind, items, queries, k=50, min_recall=0.95)
    # It does approximate: rows are quantised, or cells left out.
    assert report.parameters.get("reorder", 0) >= 200 or (
        report.parameters["num_cells_to_search"] < report.parameters["num_cells"]
    )
    assert 0.95 <= report.recall_at_k <= 1.0
    rows, scores = search(index, queries[:5], 50)
    exact, _ = search(ExactIndex(items), queries[:5], 50)
    shared = [len(np.intersect1d(one, other)) for one, other in zip(rows, exact, strict=True)]
    assert np.mean(shared) >= 45
    # Re-scored rows carry the true products, not those of the quantised vectors.
    np.testing.assert_allclose(scores, np.einsum("bd,bkd->bk", queries[:5], items[rows]), atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 1000])
@pytest.mark.parametrize("kind", APPROXIMATE)
def test_approximate_index_answers_any_number_of_queries(clustered, kind, count):
    items, queries = clustered
    index, _ = build_index(kind, items, queries[:20], k=20, min_recall=0.5)
    spec = tf.TensorSpec([None, items.shape[1]])
    traced = tf.function(lambda asked: index.search(asked, 20), [spec], autograph=False)
    rows, scores = traced(tf.constant(items[:count]))
    assert rows.shape == scores.shape == (count, 20)


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_approximate_index_loads_with_the_same_answers(clustered, tmp_path, kind):
    items, queries = clustered
    index, report = build_index(kind, items, queries[:20], k=20, min_recall=0.5)
    save_index(tmp_path, index, report)
    loaded = load_index(tmp_path)
    for one, other in zip(search(index, queries, 20), search(loaded, queries, 20), strict=True):
        np.testing.assert_array_equal(one, other)


def test_scann_below_the_floor_names_recall_floor_and_remedy(monkeypatch):
    def answer_backwards(self, queries, k):
        k = tf.minimum(k, NUM_ITEMS)
        worst = tf.math.top_k(-tf.linalg.matmul(queries, EMBEDDINGS, transpose_b=True), k)
        return worst.indices, -worst.values

    monkeypatch.setattr(ScannIndex, "search", answer_backwards)
    with pytest.raises(ArtefactError, match=r"recall@10 is 0\.000.*0\.9.*index\.kind: exact"):
        build_index("scann", EMBEDDINGS, QUERIES, k=10, min_recall=0.9)


@pytest.mark.parametrize("kind", APPROXIMATE)
def test_index_grows_stronger_until_the_floor_is_reached(clustered, monkeypatch, kind):
    items, queries = clustered
    recalls = iter([0.5, 0.8, 0.97])
    measure = build._measure

    def weak_at_first(*arguments):
        return build.IndexReport(**{**vars(measure(*arguments)), "recall_at_k": next(recalls)})

    monkeypatch.setattr(build, "_measure", weak_at_first)
    index, report = build_index(kind, items, queries[:5], k=10, min_recall=0.95)
    assert report.parameters["strength"] == 3
    assert report.recall_at_k == 0.97
    effort = {"scann": "reorder", "portable": "num_cells_to_search"}[kind]
    weak = type(index).build(items, k=10).parameters[effort]
    assert index.parameters[effort] == pytest.approx(2 * weak, abs=2)


def test_scann_of_random_vectors_with_a_weak_setting_fails_the_floor(monkeypatch):
    # Random vectors have no neighbours worth the name: quantising loses some of the order.
    items, queries = unit(20_500, 32, seed=9), unit(30, 32, seed=10)
    monkeypatch.setattr(build, "_MAX_STRENGTH", 1)
    with pytest.raises(ArtefactError, match=r"wanted at least index\.min_recall = 0\.9999"):
        build_index("scann", items, queries, k=10, min_recall=0.9999)


LARGE = unit(4000, 16, seed=11)
LARGE_QUERIES = unit(20, 16, seed=12)


@pytest.fixture(params=["quantised", "tree"])
def large_scann(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ScannIndex:
    """An index of 4,000 items, built as if they were 20,000 or 100,000."""
    monkeypatch.setattr(scann, "_EXACT_BELOW", 1000)
    monkeypatch.setattr(scann, "_FLAT_BELOW", 10_000 if request.param == "quantised" else 2000)
    index = ScannIndex.build(LARGE, k=10)
    assert ("num_leaves" in index.parameters) == (request.param == "tree")
    assert "reorder" in index.parameters
    return index


def test_large_scann_answers_with_true_products_best_first(large_scann):
    rows, scores = search(large_scann, LARGE_QUERIES, 10)
    assert rows.shape == (20, 10)
    np.testing.assert_allclose(
        scores, np.einsum("bd,bkd->bk", LARGE_QUERIES, LARGE[rows]), atol=1e-5
    )
    assert (np.diff(scores, axis=1) <= 0).all()
    exact, _ = search(ExactIndex(LARGE), LARGE_QUERIES, 10)
    shared = [len(np.intersect1d(one, other)) for one, other in zip(rows, exact, strict=True)]
    assert np.mean(shared) >= 2  # 3 of 63 leaves over random vectors; chance finds 0.025


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_large_scann_answers_any_number_of_queries(large_scann, count):
    rows, scores = search(large_scann, LARGE[:count], 10)
    assert rows.shape == scores.shape == (count, 10)


def test_large_scann_answers_a_query_alone_as_among_others(large_scann):
    rows, scores = search(large_scann, LARGE_QUERIES, 10)
    for number, query in enumerate(LARGE_QUERIES):
        alone, own = search(large_scann, query[None], 10)
        np.testing.assert_array_equal(alone[0], rows[number])
        np.testing.assert_allclose(own[0], scores[number], atol=1e-6)


def test_large_scann_reloads_with_the_same_answers(large_scann):
    again = ScannIndex(large_scann.tensors(), large_scann.num_items, large_scann.parameters)
    for one, other in zip(
        search(large_scann, LARGE_QUERIES, 10), search(again, LARGE_QUERIES, 10), strict=True
    ):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("k", [100, 1000])
def test_large_scann_answers_more_rows_than_it_was_built_for(large_scann, k):
    # A request with a long history asks for candidates plus the history's length.
    rows, scores = search(large_scann, LARGE_QUERIES, k)
    assert rows.shape == (20, k)
    assert np.isfinite(scores).all()
    for row in rows:
        found = row[row >= 0]
        assert len(np.unique(found)) == len(found)
        assert len(found) >= min(k, 150)


def test_portable_index_of_unequal_cells_finds_each_row_once():
    # One dense cell, many of a few rows: a search for more than a cell holds goes on to others.
    rng = np.random.default_rng(0)
    items = np.concatenate([unit(1, 8) + 0.01 * unit(15_000, 8, 1), unit(10_000, 8, 2)])
    items = (items / np.linalg.norm(items, axis=1, keepdims=True))[rng.permutation(len(items))]
    index = PortableIndex.build(items.astype(np.float32), k=10)
    assert index.parameters["num_cells"] > 1
    for k in (10, 3000, len(items)):
        rows, scores = search(index, unit(3, 8, seed=3), k)
        for row, score in zip(rows, scores, strict=True):
            found = row[row >= 0]
            assert len(np.unique(found)) == len(found)
            assert (score[row < 0] == 0).all()
            assert len(found) >= min(k, 10)
    assert (np.sort(rows, axis=1) == np.arange(len(items))).all()


def test_portable_index_uses_operations_of_tensorflow_alone():
    index = PortableIndex.build(unit(20_000, 4), k=10)
    function = tf.function(lambda queries: index.search(queries, 10), autograph=False)
    graph = function.get_concrete_function(tf.TensorSpec([None, 4])).graph.as_graph_def()
    nodes = [*graph.node, *(n for f in graph.library.function for n in f.node_def)]
    assert not [node.op for node in nodes if ">" in node.op]
