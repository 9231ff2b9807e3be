import math

import numpy as np
import pytest
from scipy.stats import ttest_rel, wilcoxon

from tfrec.metrics.intervals import percentile_interval, resample_means
from tfrec.metrics.significance import holm_adjusted, two_sided_p


@pytest.mark.parametrize("effect", [0.0, 0.05, 0.1, 0.2])
def test_p_value_agrees_with_the_paired_t_test(effect: float):
    draw = np.random.default_rng(3)
    first = draw.normal(size=400)
    second = first + draw.normal(effect, 1.0, 400)
    drawn = resample_means((second - first)[:, None], resamples=20_000)
    assert two_sided_p(drawn)[0] == pytest.approx(ttest_rel(second, first).pvalue, abs=0.02)


def test_p_value_is_small_where_scipy_finds_a_difference():
    draw = np.random.default_rng(0)
    first = draw.random(200)
    second = first + 0.05 + 0.1 * draw.random(200)
    drawn = resample_means((second - first)[:, None], resamples=2000)
    assert wilcoxon(second, first).pvalue < 1e-6
    assert two_sided_p(drawn)[0] == pytest.approx(2 / 2001)  # no draw on the other side


def test_p_value_and_interval_agree():
    draw = np.random.default_rng(1)
    drawn = resample_means(draw.normal(0.06, 1.0, (500, 40)), resamples=4000)
    low, high = percentile_interval(drawn).T
    is_outside = (low > 0) | (high < 0)
    p = two_sided_p(drawn)
    assert is_outside.any()
    assert not is_outside.all()
    clear = np.abs(p - 0.05) > 0.002
    assert ((p < 0.05) == is_outside)[clear].all()


def test_p_values_of_no_difference_are_rarely_small():
    draw = np.random.default_rng(0)
    drawn = resample_means(draw.normal(size=(200, 500)), resamples=1000)
    assert 0.02 < (two_sided_p(drawn) < 0.05).mean() < 0.08


def test_p_value_of_equal_models_is_one():
    assert two_sided_p(np.zeros((50, 1)))[0] == 1.0


def test_p_value_of_nothing_is_no_number():
    assert math.isnan(two_sided_p(np.full((5, 1), np.nan))[0])
    assert math.isnan(two_sided_p(np.zeros((0, 1)))[0])


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04: times 4 3 2 1 is .04 .06 .06 .04, and never falls.
    adjusted = holm_adjusted(np.array([0.03, 0.01, 0.04, 0.02]))
    assert adjusted == pytest.approx([0.06, 0.04, 0.06, 0.06])


@pytest.mark.parametrize("seed", range(5))
def test_holm_rejects_what_the_step_down_procedure_rejects(seed: int):
    p = np.random.default_rng(seed).random(12) ** 4
    adjusted = holm_adjusted(p)
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for step, at in enumerate(np.argsort(p)):  # until one is above its own level
            if p[at] > level / (len(p) - step):
                break
            rejected.add(int(at))
        assert set(np.flatnonzero(adjusted <= level)) == rejected


def test_holm_does_not_count_what_is_missing():
    adjusted = holm_adjusted(np.array([np.nan, 0.02, 0.6]))
    assert adjusted == pytest.approx([np.nan, 0.04, 0.6], nan_ok=True)
    assert holm_adjusted(np.zeros(0)).shape == (0,)
