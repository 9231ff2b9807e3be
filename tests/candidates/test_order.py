import numpy as np
import pytest

from tfrec.candidates.order import CLICK_LOG_ODDS, SCORE, given_order, learned_order

NAMES = [CLICK_LOG_ODDS, SCORE, "item_knn"]


def draw_choices(weights: list[float], number: int = 4000, width: int = 12, seed: int = 0):
    """Draws what requests choose, by a softmax over weighted values of very unlike sizes."""
    draw = np.random.default_rng(seed)
    values = draw.normal(size=(number, width, 3)) * [1.0, 0.05, 0.5] + [-3.0, 0.2, 0.4]
    is_item = np.arange(width) < draw.integers(2, width + 1, number)[:, None]
    logits = np.where(is_item, values @ np.array(weights), -np.inf)
    chosen = (logits + draw.gumbel(size=logits.shape)).argmax(axis=1)
    return values.astype(np.float32), is_item, chosen


def test_weights_of_a_known_choice_are_found_again():
    weights = [0.8, 15.0, 1.5]
    order = learned_order(NAMES, *draw_choices(weights))
    assert order is not None
    assert order.names == NAMES
    assert order.num_choices == 4000
    np.testing.assert_allclose(order.weights, weights, rtol=0.1)


def test_padding_says_nothing():
    values, is_item, chosen = draw_choices([1.0, 10.0, 1.0], 500)
    first = learned_order(NAMES, values, is_item, chosen)
    values[~is_item] = np.nan
    again = learned_order(NAMES, values, is_item, chosen)
    assert first == again


def test_a_likelier_click_never_moves_an_item_down():
    order = learned_order(NAMES, *draw_choices([-1.0, 10.0, 1.0]))
    assert order is not None
    assert order.weights[0] == 0.0
    assert order.weights[1] > 0


def test_a_value_that_is_the_same_for_all_gets_no_say():
    values, is_item, chosen = draw_choices([1.0, 10.0, 0.0], 500)
    values[..., 2] = 0.25
    order = learned_order(NAMES, values, is_item, chosen)
    assert order is not None
    assert order.weights[2] == pytest.approx(0.0, abs=1e-9)


def test_few_choices_teach_nothing():
    assert learned_order(NAMES, *draw_choices([1.0, 1.0, 1.0], 49)) is None


def test_given_order_weighs_clicks_and_scores_alone():
    order = given_order(NAMES, 2.5)
    assert order.weights == [1.0, 2.5, 0.0]
    values = np.array([[[1.0, 2.0, 99.0], [5.0, 0.0, -99.0]]], np.float32)
    assert order.order(values).tolist() == [[6.0, 5.0]]
