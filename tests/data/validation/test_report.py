import pytest

from tfrec.data.validation.report import finding_lines, report_tables

TEXT = {
    "kind": "text", "rows": 1000, "unknown": 1, "chars": {"min": 1, "mean": 2.5, "max": 9},
    "distinct": 60_123, "is_distinct_exact": False,
    "most_frequent": [["phone", 600], ["lamp", 100], ["rare", 1]],
}  # fmt: skip
REPORT = {
    "rows": {"events": {"read": 12_345, "kept": 12_000}, "items": 20, "users": 7},
    "columns": {
        "events": {
            "user_id": TEXT,
            "label": {
                "kind": "number", "rows": 4, "unknown": 0, "min": 0.0, "mean": 0.25, "max": 1.0,
                "std": 0.433,
            },
            "time": {
                "kind": "time", "rows": 4, "unknown": 0, "at_midnight": 0,
                "first": "2025-01-01 00:00:00", "last": "2025-02-01 00:00:00",
            },
            "is_ranked": {"kind": "boolean", "rows": 4, "unknown": 0, "rate": 0.5},
        },
        "items": {
            "tags": {
                "kind": "list", "rows": 20, "unknown": 10,
                "size": {"min": 1, "mean": 1.5, "max": 3},
                "distinct": 4, "is_distinct_exact": True, "most_frequent": [["a", 9]],
            },
            "image": {
                "kind": "vector", "rows": 20, "unknown": 0,
                "size": {"min": 64, "mean": 64.0, "max": 64},
                "norm": {"min": 0.0, "mean": 0.9, "max": 1.0}, "zero": 2,
            },
            "price": {
                "kind": "number", "rows": 20, "unknown": 20,
                "min": None, "mean": None, "max": None, "std": None,
            },
        },
    },
    "cleaning": {"duplicate_events_dropped": 300, "texts_cut": 0},
    "split": {
        "kind": "leave_one_out",
        "requests": {"train": 10, "validation": 2, "test": 4},
        "targets": {"train": 9, "validation": 2, "test": 3},
        "ranked": {"train": 30, "validation": 0, "test": 8},
        "positive_rate": {"train": 0.3, "validation": 0.0, "test": 0.375},
        "first_time": {"train": "2025-01-01T00:00:00", "test": "2025-01-20T00:00:00"},
        "last_time": {"train": "2025-01-10T12:34:56", "test": "2025-01-30T00:00:00"},
    },
    "leaks": {"labels_in_history": 0, "train_first_time": 1_735_689_600_000_000},
    "histories": {
        "users": 7, "users_with_short_history": 7, "users_without_positive": 0,
        "median_positives": 2.5,
        "requests_without_history": {"train": 5, "validation": 0, "test": 1},
    },
}  # fmt: skip


def tables() -> dict:
    return {table.title: table for table in report_tables(REPORT)}


def test_tables_of_a_whole_report_are_all_there_and_even():
    found = tables()
    assert list(found) == [
        "Tables", "Columns of events", "Columns of items", "Cleaning", "Split: leave one out",
        "Leaks", "Histories",
    ]  # fmt: skip
    for table in found.values():
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_rows_are_counted_before_and_after():
    assert tables()["Tables"].rows == [
        ["events", "12,345", "12,000"],
        ["items", "", "20"],
        ["users", "", "7"],
    ]


def test_columns_are_described_by_their_kind():
    rows = {row[0]: row[1:] for row in tables()["Columns of events"].rows}
    assert rows["user_id"] == [
        "text",
        "0.1%",
        "about 60,123 distinct, 1 to 9 characters (mean 2.5); 'phone' 60.1%, 'lamp' 10.0%",
    ]
    assert rows["label"] == ["number", "0%", "0 to 1, mean 0.25, deviation 0.433"]
    assert rows["time"] == ["time", "0%", "2025-01-01 00:00:00 to 2025-02-01 00:00:00"]
    assert rows["is_ranked"] == ["boolean", "0%", "50.0% true"]
    rows = {row[0]: row[1:] for row in tables()["Columns of items"].rows}
    assert rows["tags"] == ["list", "50.0%", "1 to 3 values (mean 1.5), 4 distinct"]
    assert rows["image"] == ["vector", "0%", "64 numbers, length 0 to 1, 2 all zero"]
    assert rows["price"] == ["number", "100%", "nothing"]


def test_cleaning_shows_only_what_happened():
    assert tables()["Cleaning"].rows == [["duplicate events dropped", "300"]]


def test_split_without_ranked_events_has_no_rate():
    table = tables()["Split: leave one out"]
    assert table.columns[-2:] == ["first time", "last time"]
    assert table.rows == [
        ["train", "10", "9", "30", "30.00%", "50.0%", "2025-01-01 00:00", "2025-01-10 12:34"],
        ["validation", "2", "2", "0", "", "0%", "", ""],
        ["test", "4", "3", "8", "37.50%", "25.0%", "2025-01-20 00:00", "2025-01-30 00:00"],
    ]


def test_leaks_are_counts_without_bounds_in_time():
    assert tables()["Leaks"].rows == [["labels in history", "0"]]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(2026.0, "2026"), (1e6, "1,000,000"), (0.25, "0.25"), (12345.678, "12,346"), (-3.0, "-3")],
)
def test_numbers_are_short_and_years_have_no_comma(value: float, shown: str):
    constant = {"kind": "number", "rows": 9, "unknown": 0, "min": value, "max": value}
    columns = {"events": {"x": constant | {"mean": value, "std": 0.0}}}
    (table,) = report_tables({"columns": columns})
    assert table.rows == [["x", "number", "0%", shown]]


def test_empty_report_has_no_tables():
    assert report_tables({}) == []
    assert report_tables({"findings": [], "errors": ["e"], "warnings": [], "ok": False}) == []


def test_report_that_stopped_after_reading_shows_what_was_read():
    stopped = {name: REPORT[name] for name in ("columns", "cleaning")}
    titles = [table.title for table in report_tables(stopped)]
    assert titles == ["Columns of events", "Columns of items", "Cleaning"]


def test_findings_name_file_row_and_cell():
    findings = [
        {
            "table": "events", "column": "when", "wanted": "a time", "count": 3,
            "repair": "row dropped", "is_refused": False, "hint": "",
            "places": [
                {"file": "log.csv", "row": 4, "got": "'yesterday'"},
                {"file": "log.csv", "row": 1200, "got": "nothing"},
            ],
        },
        {
            "table": "items", "column": "id", "wanted": "each id once", "count": 1,
            "repair": "none", "is_refused": True, "hint": "Set data.items.duplicates.",
            "places": [{"file": "items.csv", "row": 9, "got": "'a'"}],
        },
    ]  # fmt: skip
    assert list(finding_lines(findings)) == [
        "1. events, column 'when': wanted a time; 3 rows are not so. Repair: row dropped.",
        "     log.csv: row 4: got 'yesterday'",
        "     log.csv: row 1200: got nothing",
        "     ... and 1 more",
        "2. items, column 'id': wanted each id once; 1 row is not so. Set data.items.duplicates.",
        "     items.csv: row 9: got 'a'",
    ]
