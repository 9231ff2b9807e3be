import numpy as np
import pytest

from tfrec.towers import ConcatFusion, Fusion, GateFusion, SumFusion

DIM = 6


def make_parts(seed: int = 0, count: int = 3, rows: int = 5) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(rows, DIM)).astype(np.float32) for _ in range(count)]


def test_sum_adds_the_parts():
    parts = make_parts()
    np.testing.assert_allclose(SumFusion()(parts), sum(parts), atol=1e-6)


def test_gate_begins_as_the_sum_and_then_weighs_each_part():
    parts = make_parts()
    fusion = GateFusion()
    np.testing.assert_allclose(fusion(parts), sum(parts), atol=1e-6)
    # sigmoid(log 3) = 0.75, so the gates are 1.5; sigmoid(-log 3) = 0.25, so 0.5.
    fusion.gates.bias.assign([np.log(3.0), 0.0, -np.log(3.0)])
    wanted = 1.5 * parts[0] + parts[1] + 0.5 * parts[2]
    np.testing.assert_allclose(fusion(parts), wanted, atol=1e-5)


def test_concat_knows_what_pairs_of_parts_mean():
    # A sum cannot tell (a, b) from (b, a); an MLP over both side by side can.
    fusion = ConcatFusion()
    first, second = make_parts(count=2)
    assert np.abs(fusion([first, second]) - fusion([second, first])).max() > 1e-3


@pytest.mark.parametrize("fusion", [SumFusion(), ConcatFusion(), GateFusion()])
def test_fusion_works_row_by_row(fusion: Fusion):
    parts = make_parts()
    alone = np.concatenate([fusion([p[row : row + 1] for p in parts]) for row in range(5)])
    np.testing.assert_allclose(fusion(parts), alone, atol=1e-6)
