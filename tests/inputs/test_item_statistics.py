"""Statistics of items against plain loops, and that they know nothing of the present or future."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from tfrec.data.dataset import PreparedData
from tfrec.inputs.item_statistics import NUM_PARTS, ItemStatistics
from tfrec.schema import SPLITS

HOUR = 3_600_000_000
LogMaker = Callable[[int], pl.DataFrame]
LogPreparer = Callable[..., PreparedData]


def ranked(data: PreparedData) -> list[dict]:
    """The ranked rows with time and split of their requests."""
    contexts = data.contexts.select(
        pl.col("time").to_physical().alias("at"), "split"
    ).with_row_index("context")
    rows = data.examples.with_columns(pl.col("context").cast(pl.UInt32))
    return rows.join(contexts, on="context").filter(pl.col("is_ranked")).to_dicts()


def overall_rate(rows: list[dict]) -> float:
    labels = [row["label"] for row in rows if row["split"] == 0]
    return sum(labels) / len(labels)


def encode(rows: list[dict], overall: float) -> list[float]:
    shown, chosen = len(rows), sum(row["label"] for row in rows)
    rate = (chosen + 20 * overall) / (shown + 20)
    odds = math.log(rate / (1 - rate)) - math.log(overall / (1 - overall))
    return [odds, math.log(1 + shown), math.log(1 + chosen)]


def expected_at(data: PreparedData, rows: list[dict], item: int, time: int, windows: list[int]):
    """Looks at every row that lies strictly before `time`."""
    past = [row for row in rows if row["item_index"] == item and row["at"] < time]
    overall = overall_rate(rows)
    found = encode(past, overall)
    for window in windows:
        found += encode([row for row in past if row["at"] >= time - window * HOUR], overall)
    seen = [row["at"] for row in rows if row["item_index"] == item]
    seen += [t for i, t in zip(data.history_items, data.history_times, strict=True) if i == item]
    first = min(seen, default=time)
    return [*found, math.log(1 + (time - first) / HOUR) if first < time else 0.0]


@pytest.mark.parametrize(("seed", "windows"), [(0, []), (1, [1]), (2, [0.5, 30])])
def test_live_statistics_are_those_of_a_plain_count(
    make_log: LogMaker, prepare_log: LogPreparer, seed: int, windows: list[int]
):
    data = prepare_log(make_log(seed))
    rows = ranked(data)
    context = data.examples["context"].to_numpy()
    rng = np.random.default_rng(seed)
    items = np.where(
        rng.random(len(context)) < 0.5,
        data.examples["item_index"].to_numpy(),
        rng.integers(0, data.num_items + 1, len(context)),
    )
    statistics = ItemStatistics(data, windows)
    found = statistics.live(context, items)
    times = data.contexts["time"].to_physical().to_numpy()
    expected = [
        expected_at(data, rows, item, times[row], windows)
        for row, item in zip(context, items, strict=True)
    ]
    assert found.dtype == np.float32
    assert found.shape[1] == len(statistics.names) == 3 * (1 + len(windows)) + 1
    assert np.ptp(found, axis=0).min() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)

    def table(time: int) -> list[list[float]]:
        return [expected_at(data, rows, i, time, windows) for i in range(data.num_items + 1)]

    end = max(row["at"] for row in rows)
    end = max(end, int(data.history_times.max())) + 1
    np.testing.assert_allclose(statistics.table(), table(end), rtol=1e-5, atol=1e-6)
    middle = int(np.median(times))
    np.testing.assert_allclose(statistics.table(middle), table(middle), rtol=1e-5, atol=1e-6)


def test_live_statistics_are_blind_to_the_present_and_the_future(
    make_log: LogMaker, prepare_log: LogPreparer
):
    data = prepare_log(make_log(3))
    context = data.examples["context"].to_numpy()
    items = data.examples["item_index"].to_numpy()
    before = ItemStatistics(data).live(context, items)
    times = data.request_times(context)
    moment = int(np.median(times))
    early, is_later = times <= moment, times >= moment
    assert early.sum() > 10
    # The overall rate is that of the training rows: those stay as they are.
    is_later &= ~data.split_mask("train")

    turned = np.where(is_later, 1 - data.examples["label"].to_numpy(), data.examples["label"])
    changed = replace(data, examples=data.examples.with_columns(label=pl.Series(turned)))
    after = ItemStatistics(changed).live(context, items)
    np.testing.assert_array_equal(before[early], after[early])
    assert (before[~early] != after[~early]).any()

    stored = data.history_times < moment
    shorter = replace(
        data,
        examples=data.examples.filter(pl.Series(~is_later)),
        history_items=data.history_items[stored],
        history_times=data.history_times[stored],
    )
    after = ItemStatistics(shorter).live(context, items)
    np.testing.assert_array_equal(before[early], after[early])
    assert (before[~early] != after[~early]).any()


def test_rows_of_one_microsecond_do_not_see_each_other():
    log = pl.DataFrame({"at": [5, 5, 6, 6, 7], "label": [1, 0, 1, 1, 0]})
    data = tiny(log["at"].to_list(), log["label"].to_list())
    found = ItemStatistics(data, [1]).live(np.arange(5), np.ones(5, np.int32))
    np.testing.assert_allclose(np.expm1(found[:, 1]), [0, 0, 2, 2, 4], rtol=1e-6)
    np.testing.assert_allclose(np.expm1(found[:, 2]), [0, 0, 1, 1, 3], rtol=1e-6)


def tiny(times: list[int], labels: list[int], has_times: bool = True) -> PreparedData:
    """One item, one request for each answer, all of train."""
    count = len(times)
    contexts = pl.DataFrame(
        {
            "user_index": np.ones(count, np.int32),
            "time": pl.Series(times).cast(pl.Datetime("us")),
            "split": np.zeros(count, np.int8),
        }
    )
    examples = pl.DataFrame(
        {
            "context": np.arange(count, dtype=np.int32),
            "item_index": np.ones(count, np.int32),
            "label": np.array(labels, np.int8),
            "is_ranked": np.ones(count, bool),
        }
    )
    return PreparedData(
        items=pl.DataFrame({"item_id": ["a"]}),
        users=pl.DataFrame({"user_id": ["u"]}),
        texts=[""],
        contexts=contexts,
        examples=examples,
        history_items=np.zeros(0, np.int32),
        history_kinds=None,
        history_times=np.zeros(0, np.int64) if has_times else None,
        event_kinds=[],
        item_features=[],
        user_features=[],
        context_features=[],
        max_history=1,
        report={},
    )


def test_a_log_of_choices_only_has_counts_and_no_odds():
    found = ItemStatistics(tiny([1, 2, 3], [1, 1, 1]), []).live(np.arange(3), np.ones(3, np.int32))
    np.testing.assert_array_equal(found[:, 0], 0)
    np.testing.assert_allclose(np.expm1(found[:, 1]), [0, 1, 2], rtol=1e-6)


def test_a_log_without_times_counts_the_other_parts_of_training(
    make_log: LogMaker, prepare_log: LogPreparer
):
    data = prepare_log(make_log(4), time=False)
    statistics = ItemStatistics(data)
    assert statistics.names == ["log_odds_all", "log_shown_all", "log_chosen_all"]
    rows = [row for row in ranked(data) if row["split"] == SPLITS.index("train")]
    overall = overall_rate(rows)
    context = data.examples["context"].to_numpy()
    items = data.examples["item_index"].to_numpy()
    split = data.contexts["split"].to_numpy()
    expected = []
    for request, item in zip(context, items, strict=True):
        is_train = split[request] == SPLITS.index("train")
        others = [
            row
            for row in rows
            if row["item_index"] == item
            and not (is_train and row["context"] % NUM_PARTS == request % NUM_PARTS)
        ]
        expected.append(encode(others, overall))
    found = statistics.live(context, items)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    whole = [
        encode([row for row in rows if row["item_index"] == i], overall)
        for i in range(data.num_items + 1)
    ]
    np.testing.assert_allclose(statistics.table(), whole, rtol=1e-5, atol=1e-6)


def test_own_answers_cannot_be_read_off_the_counts_of_a_log_without_times():
    # One item, random answers: what is left of the answer in the statistics is chance.
    labels = np.random.default_rng(0).integers(0, 2, 4000)
    data = tiny([0] * 4000, labels.tolist(), has_times=False)
    odds = ItemStatistics(data).live(np.arange(4000), np.ones(4000, np.int32))[:, 0]
    assert abs(np.corrcoef(odds, labels)[0, 1]) < 0.1
    left_out = (labels.sum() - labels) / 3999
    assert np.corrcoef(left_out, labels)[0, 1] < -0.99
