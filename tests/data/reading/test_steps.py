from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tfrec.config import Step, TableFile
from tfrec.data.reading.batch import RawBatch
from tfrec.data.reading.files import read_batches
from tfrec.data.reading.steps import apply_steps
from tfrec.errors import DataError

LOG = RawBatch(
    pl.DataFrame(
        {
            "name": ["a", "b", "c", "d"],
            "shown": ["N1-1 N2-0", "", "N3-0", None],
            "items": [[1, 2], [], [3], None],
            "times": [[10, 20], [], [30], None],
            "n": [1, 2, 3, None],
        }
    ),
    "log.csv",
    np.array([1, 2, 5, 6]),
)


def no_join(_):
    raise AssertionError("no step joins")


def apply(batch: RawBatch, *steps: dict, batch_rows: int = 100, dropped=None) -> RawBatch:
    declared = [Step.model_validate(step) for step in steps]
    parts = list(apply_steps(batch, declared, no_join, batch_rows, dropped))
    rows = np.concatenate([part.rows for part in parts])
    return RawBatch(pl.concat([part.frame for part in parts]), parts[0].origin, rows)


def fail(batch: RawBatch, *steps: dict) -> str:
    with pytest.raises(DataError) as caught:
        apply(batch, *steps)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("batch_rows", [1, 2, 100])
def test_explode_gives_a_row_for_each_element_of_its_row(batch_rows: int):
    found = apply(LOG, {"explode": ["items", "times"]}, batch_rows=batch_rows)
    assert found.frame.select("name", "items", "times").rows() == [
        ("a", 1, 10), ("a", 2, 20), ("c", 3, 30),
    ]  # fmt: skip
    assert found.rows.tolist() == [1, 1, 5]
    assert found.origin == "log.csv"


@pytest.mark.parametrize("seed", range(3))
def test_explode_in_pieces_equals_a_loop(seed: int):
    rng = np.random.default_rng(seed)
    lists = [rng.integers(0, 9, length).tolist() for length in rng.integers(0, 6, 200)]
    stays = [[0] * length for length in rng.integers(0, 200, 200)]
    batch = RawBatch(pl.DataFrame({"x": lists, "stays": stays}), "t", np.arange(1, 201))
    parts = list(apply_steps(batch, [Step(explode=["x"])], no_join, 20))
    expected = [(x, row) for row, values in enumerate(lists, 1) for x in values]
    found = [pair for part in parts for pair in zip(part.frame["x"], part.rows, strict=True)]
    assert found == expected
    # Pieces hold no more rows than wanted, fewer where long lists are repeated, but one list whole.
    assert max(part.frame.height for part in parts) <= 20
    assert len(parts) > len(expected) / 20 * 2


def test_explode_takes_arrays_and_keeps_nothing_of_unknown_lists():
    frame = pl.DataFrame(
        {"a": [[1, 2], [3, 4]], "none": [None, None]}, schema_overrides={"a": pl.Array(pl.Int64, 2)}
    )
    batch = RawBatch(frame, "t", np.array([1, 2]))
    assert apply(batch, {"explode": ["a"]}).frame["a"].to_list() == [1, 2, 3, 4]
    assert list(apply_steps(batch, [Step(explode=["none"])], no_join, 9)) == []


def test_compute_sees_what_was_computed_before():
    found = apply(
        LOG,
        {"compute": {"shown": "string_to_array(shown, ' ')"}},
        {"explode": ["shown"]},
        {"compute": {"item": "split_part(shown, '-', 1)", "flag": "split_part(shown, '-', 2)"}},
        {"where": "item <> ''"},
        {"compute": {"label": "CAST(flag AS INT)", "kind": "'shown'", "n": "label + 1"}},
    )
    assert found.frame.select("item", "label", "kind", "n").rows() == [
        ("N1", 1, "shown", 2), ("N2", 0, "shown", 1), ("N3", 0, "shown", 1),
    ]  # fmt: skip
    assert found.rows.tolist() == [1, 1, 5]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("name", ["a", "b", "c", "d"]),
        ("'x'", ["x"] * 4),
        ("CAST(NULL AS INT)", [None] * 4),
        ("string_to_array(shown, ' ')", [["N1-1", "N2-0"], [""], ["N3-0"], None]),
        ("split_part(shown, ' ', 1)", ["N1-1", "", "N3-0", None]),
        ("array_contains(items, n)", [True, False, True, None]),
        ("strpos(shown, '-')", [3, 0, 3, 0]),
        ("substr(shown, strpos(shown, '-') + 1)", ["1 N2-0", "", "0", None]),
        ("CASE WHEN n > 1 THEN 'many' ELSE 'one' END", ["one", "many", "many", "one"]),
        ("n IN (1, 3)", [True, False, True, None]),
        ("COALESCE(n, 0) * 2", [2, 4, 6, 0]),
        ("name || '-' || shown", ["a-N1-1 N2-0", "b-", "c-N3-0", None]),
        ("array_length(items)", [2, 0, 1, None]),
        ("'a.sum() of len()'", ["a.sum() of len()"] * 4),
        ("TRY_CAST(name AS INT)", [None] * 4),
    ],
)
def test_compute_understands_sql(expression: str, expected: list):
    assert apply(LOG, {"compute": {"new": expression}}).frame["new"].to_list() == expected


def test_where_keeps_rows_with_a_true_condition_and_counts_the_others():
    dropped: Counter[str] = Counter()
    steps = {"where": "n > 1"}, {"where": "name <> 'z'"}
    found = apply(LOG, *steps, dropped=dropped)
    assert found.frame["name"].to_list() == ["b", "c"]
    assert found.rows.tolist() == [2, 5]
    assert dropped == {"n > 1": 2, "name <> 'z'": 0}


def test_a_column_named_where_stays():
    batch = RawBatch(pl.DataFrame({"where": [1, 2]}), "t", np.array([1, 2]))
    assert apply(batch, {"where": '"where" = 2'}).frame.to_dicts() == [{"where": 2}]


UNEQUAL = RawBatch(pl.DataFrame({"a": [[1], [1, 2]], "b": [[1], [2]]}), "t.csv", np.array([1, 4]))
RESERVED = RawBatch(pl.DataFrame({"user": ["a"]}), "t.csv", np.array([1]))
BAD_CELLS = RawBatch(pl.DataFrame({"x": ["1", "2", "3", "four", "5"]}), "t.csv", np.arange(5) + 11)


@pytest.mark.parametrize(
    ("batch", "step", "expected"),
    [
        (LOG, {"explode": ["itens"]},
         "log.csv: explode: column 'itens' is missing. Did you mean 'items'? Columns there: "),
        (LOG, {"explode": ["shown"]},
         "log.csv: explode: column 'shown': wanted lists, got String. Make them with compute: "),
        (UNEQUAL, {"explode": ["a", "b"]},
         "t.csv: row 4, column 'b': wanted 2 elements as in 'a', got 1."),
        (LOG, {"compute": {"x": "nam || 'x'"}},
         "log.csv: compute x: \"nam || 'x'\": there is no column 'nam'. Did you mean 'name'? "
         "Columns there: name, shown, items, times, n."),
        (LOG, {"compute": {"x": "SELECT 1"}}, "log.csv: compute x: 'SELECT 1': no SQL expression"),
        (LOG, {"compute": {"x": "nosuch(name)"}}, "log.csv: compute x: 'nosuch(name)': no SQL ex"),
        (BAD_CELLS, {"compute": {"y": "CAST(x AS INT)"}},
         "t.csv: row 14: compute y: 'CAST(x AS INT)': conversion from `str` to `i32` failed"),
        (LOG, {"compute": {"x": "name + items"}}, "log.csv: compute x: 'name + items': "),
        (RESERVED, {"compute": {"x": "user"}},
         "t.csv: compute x: 'user': no SQL expression: unsupported function 'user'. The word has a "
         'meaning in SQL: write the column as "user", in double quotes.'),
        (LOG, {"compute": {"x": "SUM(n)"}},
         "log.csv: compute x: 'SUM(n)': wanted an expression over each row by itself, rows are "),
        (LOG, {"compute": {"x": "COUNT(*)"}}, "log.csv: compute x: 'COUNT(*)': wanted an express"),
        (LOG, {"compute": {"x": "n - MAX(n)"}}, "log.csv: compute x: 'n - MAX(n)': wanted an exp"),
        (LOG, {"compute": {"x": "LAG(n) OVER (ORDER BY n)"}}, "log.csv: compute x: 'LAG(n) OVER "),
        (LOG, {"where": "n + 1"}, "log.csv: where: 'n + 1': wanted a condition, got Int64."),
        (LOG, {"where": "m > 1"}, "log.csv: where: 'm > 1': there is no column 'm'. Columns there"),
    ],
)  # fmt: skip
def test_step_that_cannot_be_applied_is_refused_in_one_line(
    batch: RawBatch, step: dict, expected: str
):
    assert fail(batch, step).startswith(expected)


class TestJoin:
    """Joins read their tables through `read_batches`."""

    def join(self, folder: Path, left: pl.DataFrame, right: pl.DataFrame, on: list[str], **more):
        left.write_parquet(folder / "left.parquet")
        right.write_parquet(folder / "right.parquet")
        step = {"join": {"table": {"path": "right.parquet", **more}, "on": on}}
        table = TableFile.model_validate({"path": "left.parquet", "steps": [step]})
        batches = list(read_batches([table], folder, batch_rows=2))
        return pl.concat([batch.frame for batch in batches]).rows()

    def test_rows_get_the_columns_of_their_partner(self, tmp_path: Path):
        left = pl.DataFrame({"id": ["a", "x", None, "b", "a"], "n": range(5)})
        right = pl.DataFrame({"id": ["b", "a", None, None], "t": ["B", "A", "-", "-"]})
        assert self.join(tmp_path, left, right, ["id"]) == [
            ("a", 0, "A"), ("x", 1, None), (None, 2, None), ("b", 3, "B"), ("a", 4, "A"),
        ]  # fmt: skip

    @pytest.mark.parametrize("other", [["1", "2"], [1.0, 2.0]])
    def test_keys_of_other_types_are_compared_by_value(self, tmp_path: Path, other: list):
        left = pl.DataFrame({"id": [2, 1, 3]})
        right = pl.DataFrame({"id": other, "t": ["A", "B"]})
        assert [t for _, t in self.join(tmp_path, left, right, ["id"])] == ["B", "A", None]

    def test_several_keys_and_steps_of_the_joined_table(self, tmp_path: Path):
        left = pl.DataFrame({"a": [1, 1], "b": ["x", "y"]})
        right = pl.DataFrame({"a": [1, 1], "B": ["Y", "X"], "t": [1, 2]})
        steps = [{"compute": {"b": "LOWER(B)"}}]
        found = self.join(tmp_path, left, right, ["a", "b"], steps=steps)
        assert found == [(1, "x", "X", 2), (1, "y", "Y", 1)]

    @pytest.mark.parametrize(
        ("right", "expected"),
        [
            ({"id": ["a", "b", "a"], "t": [1, 2, 3]},
             "right.parquet: wanted each key of the join in one row, id 'a' stands in several."),
            ({"di": ["a"], "t": [1]}, "right.parquet: column 'id' is missing."),
            ({"id": ["a"], "n": [1]},
             "left.parquet: join with right.parquet: both have a column 'n'; name one diff"),
        ],
    )  # fmt: skip
    def test_table_that_cannot_be_joined_is_refused(
        self, tmp_path: Path, right: dict, expected: str
    ):
        left = pl.DataFrame({"id": ["a"], "n": [1]})
        with pytest.raises(DataError) as caught:
            self.join(tmp_path, left, pl.DataFrame(right), ["id"])
        assert expected in str(caught.value)

    def test_missing_key_of_the_table_itself_is_named(self, tmp_path: Path):
        with pytest.raises(DataError, match=r"join with right.parquet: column 'id' is missing"):
            self.join(tmp_path, pl.DataFrame({"x": [1]}), pl.DataFrame({"id": [1]}), ["id"])


class TestPublishedData:
    """Counts as the data sets' own descriptions give them."""

    def test_impressions_in_text_become_events(self, data_folder: Path):
        folder = needs(data_folder / "mind-small")
        table = TableFile.model_validate(
            {
                "path": "behaviors.tsv.gz",
                "quote": "",
                "columns": ["impression", "user_id", "time", "history", "shown"],
                "steps": [
                    {"compute": {"shown": "string_to_array(shown, ' ')"}},
                    {"explode": ["shown"]},
                    {"compute": {"label": "CAST(split_part(shown, '-', 2) AS INT)"}},
                ],
            }
        )
        batches = list(read_batches([table], folder))
        events = pl.concat([batch.frame for batch in batches])
        assert (events.height, events["label"].sum()) == (189_359, 7_542)
        assert events["impression"].n_unique() == 5_000
        rows = np.concatenate([batch.rows for batch in batches])
        assert len(np.unique(rows)) == rows.max() == 5_000

    def test_impressions_in_lists_become_events(self, data_folder: Path):
        folder = needs(data_folder / "ebnerd-demo")
        clicked = "array_contains(article_ids_clicked, article_ids_inview)"
        table = TableFile.model_validate(
            {
                "path": "*_behaviors.parquet",
                "steps": [
                    {"explode": ["article_ids_inview"]},
                    {"compute": {"label": f"CASE WHEN {clicked} THEN 1 ELSE 0 END"}},
                ],
            }
        )
        batches = list(read_batches([table], folder, ["postcode"]))
        events = pl.concat([batch.frame for batch in batches])
        assert "postcode" not in events.columns
        assert (events.height, events["impression_id"].n_unique()) == (583_054, 50_080)
        # Of the 50,393 published clicks, 120 repeat a click of the same impression.
        assert events["label"].sum() == 50_393 - 120


def needs(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"TFREC_DATA holds no {folder.name}")
    return folder


def test_explode_with_number_counts_places_in_each_list():
    batch = RawBatch(
        pl.DataFrame({"u": ["a", "b", "c"], "l": [[7, 8, 9], [], [5, 6]]}),
        "x.parquet",
        np.array([3, 4, 9]),
    )
    step = Step(explode=["l"], number="place")
    (found,) = apply_steps(batch, [step], lambda join: pl.DataFrame(), 100)
    assert found.frame.rows() == [("a", 7, 0), ("a", 8, 1), ("a", 9, 2), ("c", 5, 0), ("c", 6, 1)]
    assert found.rows.tolist() == [3, 3, 3, 9, 9]


def test_row_of_the_file_stands_in_expressions_and_nowhere_else():
    batch = RawBatch(pl.DataFrame({"u": ["a", "b"]}), "x.parquet", np.array([3, 4]))
    steps = [Step(compute={"place": "_row * 10"}), Step(where="_row > 3")]
    (found,) = apply_steps(batch, steps, lambda join: pl.DataFrame(), 100)
    assert found.frame.to_dict(as_series=False) == {"u": ["b"], "place": [40]}
