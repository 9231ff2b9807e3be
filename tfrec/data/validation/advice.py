"""What a report on data should make its reader think of: one line each, with what to do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tfrec.config import Config, Features
from tfrec.schema import Columns

_MANY_UNKNOWN = 0.5
_MANY_SHORT_HISTORIES = 0.5
_RARE_LABEL, _COMMON_LABEL = 0.001, 0.99
_CLOSE_TIE = 0.95
_LIKE_AN_ID = 0.9
_MIN_ROWS_OF_ID = 50
_MIN_ROWS_OF_TIE = 50
_HEAVY_USER = 0.05
_HEAVY_ITEM = 0.2
_MANY_REMOVED = 0.2
_MANY_UNSEEN = 0.2
_CHARS_PER_TOKEN = 4
_TOO_OLD = "1980"

Report = Mapping[str, Any]


def find_warnings(report: Report, config: Config) -> list[str]:
    """Reads a report on data, complete or not, and says what may make results poor or too good."""
    return [
        *_about_rows(report),
        *_about_times(report),
        *_about_labels(report, config),
        *_about_features(report, config),
        *_about_label_ties(report),
        *_about_texts(report, config),
        *_about_split(report, config),
        *_about_histories(report),
    ]


def _about_rows(report: Report) -> Iterator[str]:
    read = report.get("rows", {}).get("events", {}).get("read", 0)
    for step, count in report.get("cleaning", {}).items():
        if read and step in _REMOVAL and count / read > _MANY_REMOVED:
            yield f"{_share(count, read)} of the events {_REMOVAL[step]}"
    for column, what, limit in (
        (Columns.USER_ID, "user", _HEAVY_USER),
        (Columns.ITEM_ID, "item", _HEAVY_ITEM),
    ):
        facts = _facts(report, "events", column)
        known = facts.get("rows", 0) - facts.get("unknown", 0)
        # In a small log anyone is a large part.
        if facts.get("distinct", 0) < 2 / limit:
            continue
        for value, count in facts["most_frequent"]:
            if count / known > limit:
                yield (
                    f"{what} {value!r} has {_share(count, known)} of all events: a crawler, or an "
                    "id that stands for many? Leave it out with a step `where`"
                )


_REMOVAL = {
    "duplicate_events_dropped": "are exact copies of others and are dropped: was a file exported "
    "twice? If they are meant, set data.cleaning.duplicates: keep",
    "events_of_unknown_items_dropped": "name items that the catalogue lacks and are dropped: do "
    "the ids of both tables have the same form?",
    "events_outside_core_dropped": "are dropped by data.cleaning.k_core: results hold for busy "
    "users and items only",
    "events_of_odd_sessions_dropped": "are dropped by data.cleaning.sessions: are its bounds right "
    "for this log?",
    "events_that_do_not_fit_dropped": "do not fit and are dropped; see whether a column is wrong",
}


def _about_times(report: Report) -> Iterator[str]:
    facts = _facts(report, "events", Columns.TIME)
    known = facts.get("rows", 0) - facts.get("unknown", 0)
    if not known or facts.get("kind") != "time":
        return
    first, last = facts["first"], facts["last"]
    if last < _TOO_OLD:
        yield f"all times lie from {first} to {last}: is data.events.time_unit right?"
    elif first == last:
        yield f"all events have the time {first}: set data.events.time to null or give real times"
    elif facts["at_midnight"] == known:
        yield (
            "times are dates only: a user's events of one day have no order and make one request; "
            "give times of day or data.events.sequence"
        )


def _about_labels(report: Report, config: Config) -> Iterator[str]:
    split = report.get("split", {})
    ranked, rates = split.get("ranked", {}), split.get("positive_rate", {})
    if not ranked.get("train"):
        return
    rate = rates["train"]
    if rate == 1:
        yield (
            "every ranked event is positive: the ranking model learns from drawn negatives, and "
            "its probability is that of an item among the whole catalogue; declare events that "
            "were seen and not wanted"
        )
    elif rate == 0:
        yield (
            "every ranked event of train has label 0: the ranking model learns nothing; check the "
            "labels in data.events"
        )
    elif rate < _RARE_LABEL or rate > _COMMON_LABEL:
        yield (
            f"{rate:.3%} of the ranked events of train are positive: check the labels in "
            "data.events (kinds, label, positive_rating)"
        )
    for part in ("validation", "test"):
        if ranked.get(part) and 0 < rate < 1 and rates[part] in (0, 1):
            yield (
                f"every ranked event of {part} has label {rates[part]:.0f}: ranking cannot be "
                "measured there; choose other split sizes"
            )


def _about_features(report: Report, config: Config) -> Iterator[str]:
    declared: dict[str, Features] = {
        "items": config.data.item_features,
        "users": config.data.users.features,
        "events": config.data.events.context,
    }
    for table, features in declared.items():
        for name in features:
            facts = _facts(report, table, name)
            rows, unknown = facts.get("rows", 0), facts.get("unknown", 0)
            known = rows - unknown
            where = f"{table}, feature {name!r}"
            if rows and not known:
                yield f"{where}: no value is known; take it out or check the column"
            elif rows and unknown / rows > _MANY_UNKNOWN:
                yield f"{where}: {_share(unknown, rows)} unknown; take it out or fill it"
            elif known > 1 and _is_constant(facts):
                yield f"{where}: the same value everywhere says nothing; take it out"
            elif (
                known >= _MIN_ROWS_OF_ID
                and facts["kind"] == "text"
                and facts["distinct"] > _LIKE_AN_ID * known
            ):
                yield (
                    f"{where}: {facts['distinct']:,} values in {known:,} rows look like an id and "
                    "teach nothing; take it out or use a coarser one"
                )
            if facts.get("zero"):
                yield f"{where}: {facts['zero']:,} vectors are all zero; leave unknown ones empty"


def _about_label_ties(report: Report) -> Iterator[str]:
    for name, facts in report.get("columns", {}).get("events", {}).items():
        if facts["rows"] < _MIN_ROWS_OF_TIE:
            continue
        tie = facts.get("label_tie", {})
        ties = [abs(tie[kind]) for kind in ("correlation", "explained") if tie.get(kind)]
        if max(ties, default=0.0) > _CLOSE_TIE:
            yield (
                f"events, feature {name!r}: almost tells the label, is it known before the event? "
                "If not, it leaks the answer: take it out"
            )
        elif abs(tie.get("known_correlation") or 0.0) > _CLOSE_TIE:
            yield (
                f"events, feature {name!r}: is known for one label and unknown for the other, so "
                "it leaks the answer: take it out"
            )


def _about_texts(report: Report, config: Config) -> Iterator[str]:
    for table, columns, limit, key in (
        ("items", config.data.items.text, config.text.max_item_tokens, "max_item_tokens"),
        ("users", config.data.users.text, config.text.max_query_tokens, "max_query_tokens"),
    ):
        facts = _facts(report, table, Columns.TEXT)
        if not columns or not facts.get("rows"):
            continue
        if facts["unknown"] / facts["rows"] > _MANY_UNKNOWN:
            share = _share(facts["unknown"], facts["rows"])
            yield f"{table}: {share} have no text (columns {', '.join(columns)})"
        mean = facts["chars"]["mean"] or 0.0
        if mean > _CHARS_PER_TOKEN * limit:
            yield (
                f"{table}: texts have {mean:.0f} characters on average, about "
                f"{mean / _CHARS_PER_TOKEN:.0f} tokens, and are cut to text.{key}: {limit}; put "
                "what matters first or raise it"
            )


def _about_split(report: Report, config: Config) -> Iterator[str]:
    coverage = report.get("coverage")
    if not coverage:
        return
    unseen, targets = coverage["test_targets_of_untrained_items"], coverage["test_targets"]
    if targets and unseen / targets > _MANY_UNSEEN:
        yield (
            f"{_share(unseen, targets)} of the test targets are items that train never shows: only "
            "texts and features can find them; give longer training or good item features"
        )
    untrained = coverage["items"] - coverage["items_trained"]
    if untrained / coverage["items"] > _MANY_UNKNOWN:
        yield (
            f"{_share(untrained, coverage['items'])} of the catalogue never appears in train: its "
            "items live by their texts and features alone"
        )
    if not coverage["test_users_trained"] and config.retrieval.user.use_id:
        yield (
            "no test user is in train, so user ids cannot help and are learned in vain: set "
            "retrieval.user.use_id: false"
        )


def _about_histories(report: Report) -> Iterator[str]:
    histories = report.get("histories", {})
    users, short = histories.get("users", 0), histories.get("users_with_short_history", 0)
    if users and short / users > _MANY_SHORT_HISTORIES:
        yield (
            f"{_share(short, users)} of the users have fewer than 5 positive events: histories say "
            "little of them; give a longer log, or see what data.cleaning.k_core leaves"
        )


def _facts(report: Report, table: str, column: str) -> Mapping[str, Any]:
    return report.get("columns", {}).get(table, {}).get(column, {})


def _is_constant(facts: Mapping[str, Any]) -> bool:
    if facts["kind"] == "number":
        return facts["min"] == facts["max"]
    return facts["kind"] == "text" and facts["distinct"] == 1


def _share(part: int, whole: int) -> str:
    share = part / whole
    return f"{share:.0%}" if 0.01 <= share <= 0.99 else f"{share:.1%}"
