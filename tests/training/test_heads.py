"""What is predicted beside the click: targets, scales and losses of the further heads."""

import dataclasses

import numpy as np
import polars as pl
import pytest
import tensorflow as tf
from scipy.special import expit, logit

from tfrec.config import Config, Ranking
from tfrec.data.dataset import PreparedData
from tfrec.environment import start_tensorflow
from tfrec.errors import ConfigError
from tfrec.inference.pair_scorer import PairScorer
from tfrec.inputs.ranked_rows import NOT_LOGGED, RankedRows, training_rows
from tfrec.models.build import ranking_model
from tfrec.models.ranking import RankingModel
from tfrec.models.ranking_head import RankingHead
from tfrec.training.heads import head_losses, head_targets, scale_values, start_at_rates
from tfrec.training.ranking import train_ranking

HEADS = {
    "cart": {"event": "cart", "weight": 0.5},
    "minutes": {"value": "watch_time", "weight": 2.0},
}


@pytest.fixture(scope="module")
def config(make_config) -> Config:
    return make_config(
        ranking={
            "heads": HEADS,
            "towers": "none",
            "epochs": 6,
            "batch_size": 256,
            "learning_rate": 0.01,
        }
    )


@pytest.fixture(scope="module")
def watched(data: PreparedData) -> PreparedData:
    """The small data set with watch times for half of the rows, longer where it was clicked."""
    label = data.examples["label"].to_numpy()
    seconds = np.where(np.arange(len(label)) % 2, 10.0 + 90.0 * label, np.nan)
    examples = data.examples.with_columns(pl.Series("watch_time", seconds, dtype=pl.Float32))
    return dataclasses.replace(data, examples=examples)


def make_model(data: PreparedData, heads: dict = HEADS) -> RankingModel:
    settings = Ranking.model_validate({"heads": heads, "towers": "none"})
    return ranking_model(
        data.item_features,
        [*data.user_features, *data.context_features],
        settings,
        num_items=data.num_items,
        num_statistics=1,
    )


def test_targets_are_outcomes_and_logarithms_and_drawn_items_led_to_nothing(watched, config):
    rows = training_rows(watched, config)
    cart, minutes = head_targets(make_model(watched), watched, rows).T
    drawn = rows.example == NOT_LOGGED
    bit = watched.event_kinds.index("cart")
    outcomes = watched.examples["outcomes"].to_numpy()[rows.example[~drawn]]
    np.testing.assert_array_equal(cart[~drawn], (outcomes >> bit) & 1)
    assert 0 < cart[rows.label == 1].mean() < 1
    assert not cart[drawn].any()
    assert np.isnan(minutes[drawn]).all()
    seconds = watched.examples["watch_time"].to_numpy()[rows.example[~drawn]]
    np.testing.assert_allclose(minutes[~drawn], np.log1p(seconds), rtol=1e-5)


def test_scales_are_mean_and_deviation_of_the_known_values(watched, config):
    model, rows = make_model(watched), training_rows(watched, config)
    targets = head_targets(model, watched, rows)
    scale_values(model, targets)
    mean, deviation = np.nanmean(targets[:, 1]), np.nanstd(targets[:, 1])
    wanted = [[0, 1], [0, 1], [mean, deviation]]
    np.testing.assert_allclose(model.value_scale, wanted, rtol=1e-4)
    constant = targets * 0 + 3
    scale_values(model, constant)
    assert np.isfinite(model.value_scale).all()


def test_untrained_model_predicts_the_shares_of_its_training_rows(watched, config):
    model, rows = make_model(watched), training_rows(watched, config)
    targets = head_targets(model, watched, rows)
    start_at_rates(model, rows, targets)
    click, cart, minutes = model.logit.bias.numpy()
    assert expit(click) == pytest.approx(rows.label.mean(), rel=0.01)
    assert expit(cart) == pytest.approx(np.nanmean(targets[:, 0]), rel=0.02)
    assert minutes == 0


def test_start_counts_what_a_drawn_row_stands_for(watched):
    model = make_model(watched, {})
    # One click, and two drawn rows that stand for 1 / 0.05 = 20 others each: 1.5 / 42 with the
    # half row of each answer.
    rows = RankedRows(
        *(np.ones(3, np.int32) for _ in range(2)),
        label=np.array([1, 0, 0], np.float32),
        position=np.zeros(3, np.int32),
        example=np.array([5, NOT_LOGGED, NOT_LOGGED]),
        log_rate=np.log([0.05, 0.05, 0.05]).astype(np.float32),
    )
    start_at_rates(model, rows, None)
    assert expit(model.logit.bias.numpy()) == pytest.approx([1.5 / 42], rel=1e-4)
    for few in (rows.take(np.array([0])), rows.take(np.array([1])), rows.take(np.arange(0))):
        start_at_rates(model, few, None)
        assert np.isfinite(model.logit.bias).all()


def test_losses_leave_unknown_targets_out(watched):
    model = make_model(watched)
    model.value_scale.assign([[0, 1], [0, 1], [2, 0.5]])
    outputs = np.array([[9, 0.5, 1.0], [9, -1.0, 2.0], [9, 3.0, 0.0]], np.float32)
    targets = np.array([[1, 3.0], [0, np.nan], [np.nan, 2.5]], np.float32)
    carts = np.log1p(np.exp(-0.5)) + np.log1p(np.exp(-1.0))
    # Standardised: (3 - 2) / .5 = 2 against 1, and (2.5 - 2) / .5 = 1 against 0.
    minutes = 0.5 * ((2 - 1) ** 2 + (1 - 0) ** 2)
    wanted = 0.5 * carts / 2 + 2.0 * minutes / 2
    assert float(head_losses(model, outputs, targets)) == pytest.approx(wanted, rel=1e-5)
    unknown = np.full_like(targets, np.nan)
    with tf.GradientTape() as tape:
        tape.watch(tensor := tf.constant(outputs))
        loss = head_losses(model, tensor, unknown)
    assert float(loss) == 0
    assert not tape.gradient(loss, tensor).numpy().any()


def test_trained_heads_are_calibrated_and_tell_clicked_from_passed_over(
    watched, tables, config, tmp_path
):
    start_tensorflow(config.seed)
    model = make_model(watched)
    history = train_ranking(model, watched, tables, None, config, tmp_path)
    assert history.rounds[-1]["loss"] < history.rounds[0]["loss"]
    rows = training_rows(watched, config)
    answers = model.predict(tf.constant(PairScorer(model, tables, None).raw(rows)))
    minutes = answers["minutes"].numpy()
    assert minutes.min() > -1
    assert minutes.mean() == pytest.approx(20, abs=12)
    assert answers["cart"].numpy().mean() < answers["click"].numpy().mean()


class Complement(RankingHead):
    """1 - exp(-exp(logit))."""

    is_probability = True

    def predict(self, logit):
        return -tf.math.expm1(-tf.exp(logit[:, 0]))

    def loss(self, logit, label):
        rate = tf.exp(logit[:, 0])
        return rate * (1 - label) - tf.math.log(-tf.math.expm1(-rate)) * label


def test_own_head_is_trained_calibrated_and_answered(watched, tables, make_config, tmp_path):
    heads = {"cart": {"kind": f"{__name__}:Complement", "event": "cart"}}
    settings = {"heads": heads, "towers": "none", "epochs": 1, "batch_size": 256}
    config = make_config(ranking=settings)
    start_tensorflow(config.seed)
    model = make_model(watched, heads)
    before = model.logit.kernel.numpy()[:, 1]
    train_ranking(model, watched, tables, None, config, tmp_path)
    assert (model.logit.kernel.numpy()[:, 1] != before).any()
    rows = training_rows(watched, config)
    outputs = tf.constant(PairScorer(model, tables, None).raw(rows))
    wanted = model.heads["cart"].predict(outputs[:, 1:2]).numpy()
    slope, offset = model.calibrators["cart"].slopes.numpy(), model.calibrators["cart"].offset
    answers = model.predict(outputs)["cart"].numpy()
    np.testing.assert_allclose(answers, slope[0] * logit(wanted) + float(offset), atol=1e-3)


@pytest.mark.parametrize(
    ("heads", "words"),
    [
        ({"wish": {"event": "wish"}}, r"ranking.heads.wish.event: wanted one of .*cart.*'wish'"),
        ({"stars": {"value": "rating"}}, "ranking.heads.stars.value: the log has no rating"),
    ],
)
def test_head_of_what_the_log_lacks_is_refused(data, config, heads, words):
    with pytest.raises(ConfigError, match=words):
        head_targets(make_model(data, heads), data, training_rows(data, config))
