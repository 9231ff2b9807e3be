"""A report on data as tables and lines for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tfrec.schema import SPLITS

Report = Mapping[str, Any]


@dataclass(frozen=True)
class ReportTable:
    """One table.

    Attributes:
        title: What it shows.
        columns: Their names; the first names the row.
        rows: Cells as text.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]


def report_tables(report: Report) -> list[ReportTable]:
    """Lays out what was counted; parts that a report lacks are left out."""
    tables = [_rows(report)]
    tables += [_columns(table, facts) for table, facts in report.get("columns", {}).items()]
    tables += [_cleaning(report), _split(report), _leaks(report), _histories(report)]
    return [table for table in tables if table.rows]


def finding_lines(findings: list[dict[str, Any]]) -> Iterator[str]:
    """Yields lines about what is wrong with cells: each kind of problem, then its first places."""
    for number, finding in enumerate(findings, start=1):
        count = finding["count"]
        yield (
            f"{number}. {finding['table']}, column {finding['column']!r}: wanted "
            f"{finding['wanted']}; {count:,} row{'s are' if count > 1 else ' is'} not so. "
            f"{_outcome(finding)}"
        )
        for place in finding["places"]:
            yield f"     {place['file']}: row {place['row']}: got {place['got']}"
        if count > len(finding["places"]):
            yield f"     ... and {count - len(finding['places']):,} more"


def _outcome(finding: Mapping[str, Any]) -> str:
    if finding["is_refused"]:
        return finding["hint"] or "No repair lets it pass."
    return f"Repair: {finding['repair']}."


def _rows(report: Report) -> ReportTable:
    rows = []
    for table, count in report.get("rows", {}).items():
        if isinstance(count, Mapping):
            rows.append([table, f"{count['read']:,}", f"{count['kept']:,}"])
        else:
            rows.append([table, "", f"{count:,}"])
    return ReportTable("Tables", ["table", "rows read", "rows kept"], rows)


def _columns(table: str, columns: Mapping[str, Mapping[str, Any]]) -> ReportTable:
    rows = [
        [name, facts["kind"], _percent(facts["unknown"], facts["rows"]), _describe(facts)]
        for name, facts in columns.items()
    ]
    return ReportTable(f"Columns of {table}", ["column", "kind", "unknown", "values"], rows)


def _describe(facts: Mapping[str, Any]) -> str:
    if facts["unknown"] == facts["rows"]:
        return "nothing"
    return _DESCRIPTIONS[facts["kind"]](facts)


def _describe_number(facts: Mapping[str, Any]) -> str:
    low, mean, high, std = (_number(facts[name]) for name in ("min", "mean", "max", "std"))
    return low if low == high else f"{low} to {high}, mean {mean}, deviation {std}"


def _describe_boolean(facts: Mapping[str, Any]) -> str:
    return f"{facts['rate']:.1%} true"


def _describe_time(facts: Mapping[str, Any]) -> str:
    return f"{facts['first']} to {facts['last']}"


def _describe_text(facts: Mapping[str, Any]) -> str:
    return f"{_distinct(facts)}, {_bounds(facts['chars'], 'characters')}{_frequent(facts)}"


def _describe_list(facts: Mapping[str, Any]) -> str:
    return f"{_bounds(facts['size'], 'values')}, {_distinct(facts)}{_frequent(facts)}"


def _describe_vector(facts: Mapping[str, Any]) -> str:
    size, norm = facts["size"], facts["norm"]
    text = _bounds(size, "numbers")
    if norm["min"] is not None:
        text += f", length {_number(norm['min'])} to {_number(norm['max'])}"
    return text + (f", {facts['zero']:,} all zero" if facts["zero"] else "")


_DESCRIPTIONS = {
    "number": _describe_number,
    "boolean": _describe_boolean,
    "time": _describe_time,
    "text": _describe_text,
    "list": _describe_list,
    "vector": _describe_vector,
}


def _distinct(facts: Mapping[str, Any]) -> str:
    about = "" if facts["is_distinct_exact"] else "about "
    return f"{about}{facts['distinct']:,} distinct"


def _bounds(bounds: Mapping[str, Any], unit: str) -> str:
    low, high = bounds["min"], bounds["max"]
    if low == high:
        return f"{low:,} {unit}"
    return f"{low:,} to {high:,} {unit} (mean {_number(bounds['mean'])})"


def _frequent(facts: Mapping[str, Any]) -> str:
    """Shows the frequent values where they say something: some are not as rare as any other."""
    known = facts["rows"] - facts["unknown"]
    shown = [
        f"{value!r} {_percent(count, known)}"
        for value, count in facts["most_frequent"]
        if count / known >= 0.01 and count > 1
    ]
    return f"; {', '.join(shown)}" if shown and facts["kind"] == "text" else ""


def _cleaning(report: Report) -> ReportTable:
    rows = [
        [step.replace("_", " "), f"{count:,}"]
        for step, count in report.get("cleaning", {}).items()
        if count
    ]
    return ReportTable("Cleaning", ["step", "count"], rows)


def _split(report: Report) -> ReportTable:
    split = report.get("split", {})
    columns = ["split", "requests", "targets", "ranked", "positive rate", "without history"]
    if not split:
        return ReportTable("", columns, [])
    without = report.get("histories", {}).get("requests_without_history", {})
    rows = []
    for part in SPLITS:
        requests, ranked = split["requests"].get(part, 0), split["ranked"].get(part, 0)
        row = [part, f"{requests:,}", f"{split['targets'].get(part, 0):,}", f"{ranked:,}"]
        row.append(f"{split['positive_rate'][part]:.2%}" if ranked else "")
        row.append(_percent(without.get(part, 0), requests))
        row += [_minutes(split[end].get(part, "")) for end in _ENDS if end in split]
        rows.append(row)
    columns += [end.replace("_", " ") for end in _ENDS if end in split]
    return ReportTable(f"Split: {split['kind'].replace('_', ' ')}", columns, rows)


_ENDS = ("first_time", "last_time")


def _leaks(report: Report) -> ReportTable:
    rows = [
        [name.replace("_", " "), f"{count:,}"]
        for name, count in report.get("leaks", {}).items()
        if not name.endswith("_time")  # bounds of the splits, which have a table of their own
    ]
    return ReportTable("Leaks", ["what", "count"], rows)


def _histories(report: Report) -> ReportTable:
    histories = report.get("histories")
    if not histories:
        return ReportTable("", [], [])
    users = histories["users"]
    rows = [
        ["users", f"{users:,}"],
        ["positive events of a user, median", _number(histories["median_positives"])],
        [
            "users with fewer than 5 positive events",
            _percent(histories["users_with_short_history"], users),
        ],
        ["users without any", _percent(histories["users_without_positive"], users)],
    ]
    return ReportTable("Histories", ["what", "found"], rows)


def _minutes(time: str) -> str:
    return time.replace("T", " ")[: len("2026-01-31 12:00")]


def _percent(part: int, whole: int) -> str:
    """Returns the share; only none is 0%, only all is 100%."""
    if not whole or not part:
        return "0%"
    if part == whole:
        return "100%"
    return f"{min(max(part / whole, 0.001), 0.999):.1%}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}" if abs(value) >= 1e4 else str(int(value))  # 2026 may be a year
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
