"""What the ranking model predicts beside the click: targets and losses of its further heads."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrec.data.dataset import PreparedData
from tfrec.errors import ConfigError
from tfrec.inputs.ranked_rows import NOT_LOGGED, RankedRows
from tfrec.models.ranking import RankingModel
from tfrec.models.ranking_head import ProbabilityHead
from tfrec.schema import CLICK, Columns

_SMALLEST_DEVIATION = 1e-6


def head_targets(model: RankingModel, data: PreparedData, rows: RankedRows) -> np.ndarray | None:
    """Returns float32 [n, num_heads - 1], NaN where unknown; None without further heads.

    * ``event``: 1 where such an event followed the shown item, else 0; 0 for a drawn item.
    * ``value``: what the head makes of the number; unknown for a drawn item.

    Raises:
        ConfigError: The log has no such kind of event or no such number.
    """
    columns = []
    is_drawn = rows.example == NOT_LOGGED
    example = np.where(is_drawn, 0, rows.example)
    for name, head in model.heads.items():
        key = f"ranking.heads.{name}"
        if head.event is not None:
            if head.event not in data.event_kinds:
                raise ConfigError(
                    f"{key}.event: wanted one of data.events.kinds "
                    f"({', '.join(data.event_kinds) or 'none is declared'}), got {head.event!r}."
                )
            bits = data.examples[Columns.OUTCOMES].to_numpy()[example]
            followed = (bits >> data.event_kinds.index(head.event)) & 1
            columns.append(np.where(is_drawn, 0, followed).astype(np.float32))
            continue
        if head.value not in data.examples.columns:
            raise ConfigError(f"{key}.value: the log has no {head.value}; declare its column.")
        values = data.examples[head.value].to_numpy()[example].astype(np.float32)
        columns.append(np.where(is_drawn, np.float32(np.nan), head.labels(values)))
    return np.column_stack(columns) if columns else None


def scale_values(model: RankingModel, targets: np.ndarray) -> None:
    """Lets standardised heads predict deviations from the mean of the known training targets.

    Args:
        model: Gets its `value_scale`.
        targets: float32 [n, num_heads - 1], from `head_targets`.
    """
    scale = model.value_scale.numpy().copy()
    for number, name in enumerate(model.head_names[1:]):
        known = targets[~np.isnan(targets[:, number]), number]
        if not model.heads[name].is_standardised or not len(known):
            continue
        scale[number + 1] = known.mean(), max(float(known.std()), _SMALLEST_DEVIATION)
    model.value_scale.assign(scale)


def start_at_rates(model: RankingModel, rows: RankedRows, targets: np.ndarray | None) -> None:
    """Lets sigmoid heads start at the share of training rows that they are to predict.

    Otherwise a rare event takes most of a short training to become rare.

    Args:
        model: Gets its last bias.
        rows: Those that train.
        targets: float32 [n, num_heads - 1], from `head_targets`; None without further heads.

    Source: Lin et al., Focal Loss for Dense Object Detection (2017), section 4.1.
    """
    labels = rows.label[:, None] if targets is None else np.column_stack([rows.label, targets])
    bias = model.logit.bias.numpy().copy()
    for number, name in enumerate(model.head_names):
        known = ~np.isnan(labels[:, number])
        has_sigmoid = name == CLICK or isinstance(model.heads[name], ProbabilityHead)
        if has_sigmoid and known.any():
            weights = rows.weights[known]
            # Half a row of each answer more, as there may be rows of one answer only.
            chosen = weights @ labels[known, number] + 0.5
            bias[model.columns[name].start] = np.log(chosen / (weights.sum() + 1 - chosen))
    model.logit.bias.assign(bias)


def head_losses(model: RankingModel, outputs: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Returns the weighted sum of the further heads' mean losses over the known targets.

    Args:
        model: Heads and scales.
        outputs: float32 [n, num_outputs], from `RankingModel.score`.
        targets: float32 [n, num_heads - 1], NaN where unknown.
    """
    total = tf.constant(0.0)
    for number, name in enumerate(model.head_names[1:]):
        target = targets[:, number]
        is_known = tf.cast(~tf.math.is_nan(target), tf.float32)
        target = tf.where(is_known > 0, target, 0.0)
        mean, deviation = model.value_scale[number + 1, 0], model.value_scale[number + 1, 1]
        label = (target - mean) / deviation  # of heads that are not standardised: the target
        losses = model.heads[name].loss(outputs[:, model.columns[name]], label)
        mean_loss = tf.math.divide_no_nan(tf.reduce_sum(losses * is_known), tf.reduce_sum(is_known))
        total += model.heads[name].weight * mean_loss
    return total
