"""Each warning appears where its reason is, and nowhere else."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tfrec.config import Config, parse_config
from tfrec.data.validation.advice import find_warnings

Report = dict[str, Any]


def text(rows: int, distinct: int, *most_frequent: list, unknown: int = 0) -> dict:
    return {
        "kind": "text", "rows": rows, "unknown": unknown,
        "chars": {"min": 1, "mean": 20.0, "max": 60},
        "distinct": distinct, "is_distinct_exact": True, "most_frequent": list(most_frequent),
    }  # fmt: skip


def number(rows: int, unknown: int = 0, low: float = 0.0, high: float = 9.0) -> dict:
    facts = {"kind": "number", "rows": rows, "unknown": unknown, "min": low, "max": high}
    return facts | {"mean": (low + high) / 2, "std": 1.0}


def tie(**known: float) -> dict:
    loose = {"correlation": 0.1, "known_correlation": 0.0, "explained": None}
    return {"label_tie": loose | known}


HEALTHY: Report = {
    "rows": {"events": {"read": 10_000, "kept": 9_900}, "items": 500, "users": 800},
    "columns": {
        "events": {
            "user_id": text(10_000, 800, ["u1", 90]),
            "item_id": text(10_000, 500, ["i1", 700]),
            "time": {
                "kind": "time", "rows": 10_000, "unknown": 0, "at_midnight": 3,
                "first": "2025-01-01 08:00:00", "last": "2025-06-30 21:00:00",
            },
            "temperature": number(10_000) | tie(),
            "device": text(10_000, 3, ["phone", 5000]) | tie(),
        },
        "items": {"text": text(500, 490), "price": number(500), "brand": text(500, 40)},
        "users": {"text": text(800, 700), "age": number(800)},
    },
    "cleaning": {"duplicate_events_dropped": 100},
    "split": {
        "kind": "time",
        "ranked": {"train": 8000, "validation": 900, "test": 1000},
        "positive_rate": {"train": 0.1, "validation": 0.1, "test": 0.1},
    },
    "histories": {"users": 800, "users_with_short_history": 100, "users_without_positive": 10},
    "coverage": {
        "items": 500, "items_trained": 480,
        "test_targets": 300, "test_targets_of_untrained_items": 10,
        "test_users": 200, "test_users_trained": 150,
    },
}  # fmt: skip


def config(**sections: Any) -> Config:
    data = {
        "source": "shop",
        "events": {"context": {"temperature": "number", "device": "category"}},
        "items": {"text": ["title"], "features": {"price": "number", "brand": "category"}},
        "users": {"text": ["about"], "features": {"age": "number"}},
    }
    return parse_config({"name": "x", "data": data, **sections})


def warnings(change: Callable[[Report], object], **sections: Any) -> list[str]:
    report = copy.deepcopy(HEALTHY)
    change(report)
    return find_warnings(report, config(**sections))


def test_healthy_report_gives_no_warning():
    assert warnings(lambda report: None) == []


def column(table: str, name: str, **facts: Any) -> Callable[[Report], object]:
    return lambda report: report["columns"][table][name].update(facts)


def part(name: str, **facts: Any) -> Callable[[Report], object]:
    return lambda report: report[name].update(facts)


CASES: dict[str, tuple[Callable[[Report], object], str]] = {
    "copies": (
        part("cleaning", duplicate_events_dropped=5000),
        "50% of the events are exact copies",
    ),
    "unknown items": (
        part("cleaning", events_of_unknown_items_dropped=9950),
        "99.5% of the events name items that the catalogue lacks",
    ),
    "crawler": (
        column("events", "user_id", most_frequent=[["anonymous", 3000], ["u1", 90]]),
        "user 'anonymous' has 30% of all events",
    ),
    "one item everywhere": (
        column("events", "item_id", most_frequent=[["home", 4000]]),
        "item 'home' has 40% of all events",
    ),
    "seconds read as milliseconds": (
        column("events", "time", first="1970-01-20 01:00:00", last="1970-01-21 02:00:00"),
        "all times lie from 1970-01-20 01:00:00 to 1970-01-21 02:00:00: is data.events.time_unit",
    ),
    "dates": (column("events", "time", at_midnight=10_000), "times are dates only"),
    "one time": (
        column("events", "time", first="2025-06-30 21:00:00"),
        "all events have the time 2025-06-30 21:00:00",
    ),
    "only positives": (
        part("split", positive_rate={"train": 1, "validation": 1, "test": 1}),
        "every ranked event is positive: the ranking model learns from drawn negatives",
    ),
    "no positives": (
        part("split", positive_rate={"train": 0, "validation": 0.1, "test": 0.1}),
        "every ranked event of train has label 0",
    ),
    "rare positives": (
        part("split", positive_rate={"train": 0.0004, "validation": 0.1, "test": 0.1}),
        "0.040% of the ranked events of train are positive",
    ),
    "nothing to tell apart": (
        part("split", positive_rate={"train": 0.1, "validation": 0.1, "test": 1}),
        "every ranked event of test has label 1",
    ),
    "unknown feature": (column("items", "price", unknown=400), "feature 'price': 80% unknown"),
    "empty feature": (column("users", "age", unknown=800), "feature 'age': no value is known"),
    "constant number": (column("items", "price", min=9.0), "feature 'price': the same value"),
    "constant category": (column("items", "brand", distinct=1), "feature 'brand': the same"),
    "category like an id": (
        column("items", "brand", distinct=490),
        "feature 'brand': 490 values in 500 rows look like an id",
    ),
    "feature that is the label": (
        column("events", "temperature", **tie(correlation=-0.97)),
        "feature 'temperature': almost tells the label",
    ),
    "category that is the label": (
        column("events", "device", **tie(explained=0.99)),
        "feature 'device': almost tells the label",
    ),
    "feature that only positives have": (
        column("events", "temperature", **tie(known_correlation=0.99)),
        "feature 'temperature': is known for one label and unknown for the other",
    ),
    "items without text": (column("items", "text", unknown=300), "items: 60% have no text"),
    "long texts": (
        column("items", "text", chars={"min": 1, "mean": 400.0, "max": 9000}),
        "items: texts have 400 characters on average, about 100 tokens, and are cut to "
        "text.max_item_tokens: 40",
    ),
    "new items": (
        part("coverage", test_targets_of_untrained_items=90),
        "30% of the test targets are items that train never shows",
    ),
    "large catalogue": (part("coverage", items_trained=100), "80% of the catalogue never appears"),
    "new users": (part("coverage", test_users_trained=0), "no test user is in train"),
    "short histories": (
        part("histories", users_with_short_history=600),
        "75% of the users have fewer than 5 positive events",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_reason_for_a_warning_gives_one_line(case: str):
    change, wanted = CASES[case]
    found = warnings(change)
    assert len(found) == 1
    assert wanted in found[0]
    assert "\n" not in found[0]


def test_new_users_matter_only_to_user_ids():
    change, _ = CASES["new users"]
    assert warnings(change, retrieval={"user": {"use_id": False}}) == []


def test_small_log_has_no_crawler():
    def shrink(report: Report) -> None:
        report["columns"]["events"]["user_id"] = text(20, 4, ["u1", 12])

    assert warnings(shrink) == []


def test_few_rows_tell_nothing_about_leaks():
    assert warnings(column("events", "temperature", rows=20, **tie(correlation=1.0))) == []


@pytest.mark.parametrize("missing", list(HEALTHY))
def test_report_that_stopped_early_gives_no_wrong_warning(missing: str):
    assert warnings(lambda report: report.pop(missing)) == []


def test_empty_report_gives_no_warning():
    assert find_warnings({}, config()) == []
