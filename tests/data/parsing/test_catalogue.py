import itertools
import random
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.config import Data
from tfrec.data.parsing.catalogue import (
    add_relations,
    add_strangers,
    items_of_ids,
    join_text,
    type_items,
    type_users,
)
from tfrec.data.parsing.checks import Findings
from tfrec.data.parsing.privacy import Pseudonymiser, pseudonym
from tfrec.data.reading.batch import RawBatch
from tfrec.errors import DataError

KEY = b"a key of the tests, 32 characters"
ITEMS = {
    "title": "name",
    "text": ["name", "about"],
    "features": {
        "brand": "category",
        "price": "number",
        "tags": "category_list",
        "since": "date",
        "image": "vector",
    },
}
TABLE = pl.DataFrame(
    {
        "item_id": ["a", " b ", "c"],
        "name": ["Red  Lamp", "Tom &amp; Jerry", ""],
        "about": [None, "two\tmice", "no name"],
        "brand": ["x", None, "y"],
        "price": ["1.5", "", "nan"],
        "tags": ["p|q", None, " q "],
        "since": ["1970-01-11", None, ""],
        "image": ["[1, 2]", None, "[3, 4]"],
    }
)


def declare(**data: Any) -> Data:
    return Data.model_validate({"source": "tables", **data})


def batch(frame: pl.DataFrame, origin: str = "t.csv", first: int = 1, step: int = 1) -> RawBatch:
    return RawBatch(frame, origin, first + step * np.arange(frame.height))


def items_of(*batches: RawBatch, policy: Any = "raise", **items: Any) -> pl.DataFrame:
    return type_items(batches, declare(items=items), Findings(policy), Counter())


def users_of(*batches: RawBatch, policy: Any = "raise", **users: Any) -> pl.DataFrame:
    return type_users(batches, declare(users=users), Findings(policy), Counter())


def simple(*ids: Any, **columns: list) -> pl.DataFrame:
    """Returns a catalogue with titles."""
    return pl.DataFrame({"item_id": list(ids), "title": [f"Item {i}" for i in ids], **columns})


def refusal(run: Any, *args: Any, **kwargs: Any) -> str:
    with pytest.raises(DataError) as caught:
        run(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Items


def test_items_are_typed_in_order():
    items = items_of(batch(TABLE), **ITEMS)
    assert dict(items.schema) == {
        "item_id": pl.String, "title": pl.String, "text": pl.String, "brand": pl.String,
        "price": pl.Float64, "tags": pl.List(pl.String), "since": pl.Float64,
        "image": pl.List(pl.Float32),
    }  # fmt: skip
    assert items.rows() == [
        ("a", "Red Lamp", "Red Lamp", "x", 1.5, ["p", "q"], 10.0, [1.0, 2.0]),
        ("b", "Tom & Jerry", "Tom & Jerry two mice", "", None, [], None, None),
        ("c", "c", "no name", "y", None, ["q"], None, [3.0, 4.0]),  # people see the id
    ]


@pytest.mark.parametrize("cuts", [[1], [2], [1, 2], [0, 3]])
def test_items_in_batches_are_those_of_the_whole(cuts: list[int]):
    bounds = [0, *cuts, TABLE.height]
    parts = [
        batch(TABLE[start:end], f"part{start}.csv") for start, end in itertools.pairwise(bounds)
    ]
    assert items_of(*parts, **ITEMS).equals(items_of(batch(TABLE), **ITEMS))


def test_items_of_files_with_other_types_fit_together():
    text = pl.DataFrame({"item_id": ["1"], "title": ["a"], "price": ["2"], "brand": ["1"]})
    typed = pl.DataFrame({"item_id": [2.0], "title": [None], "price": [3], "brand": [True]})
    items = items_of(batch(text), batch(typed), features={"price": "number", "brand": "category"})
    assert items.rows() == [("1", "a", "a", 2.0, "1"), ("2", "2", "", 3.0, "true")]


def test_items_without_title_and_text_show_their_id():
    items = items_of(batch(pl.DataFrame({"item_id": [7, 8]})), title=None, text=[])
    assert items.rows() == [("7", "7", ""), ("8", "8", "")]


def test_items_count_changed_texts_once():
    counts: Counter[str] = Counter()
    data = declare(items={"text": ["title"]}, cleaning={"max_text_chars": 5})
    frame = pl.DataFrame({"item_id": ["a", "b"], "title": ["a &lt; b", "a long title"]})
    items = type_items([batch(frame)], data, Findings(), counts)
    assert items["title"].to_list() == items["text"].to_list() == ["a < b", "a lon"]
    assert counts == {"texts_with_html_entities": 1, "texts_cut": 1}


def test_titles_that_no_model_reads_are_cleaned_and_not_counted():
    counts: Counter[str] = Counter()
    data = declare(items={"text": []})
    frame = pl.DataFrame({"item_id": ["a"], "title": ["a &lt; b"]})
    assert type_items([batch(frame)], data, Findings(), counts)["title"].to_list() == ["a < b"]
    assert not counts.total()


@pytest.mark.parametrize(
    ("column", "cell", "wanted", "got"),
    [
        ("item_id", "", "an id", "nothing"),
        ("item_id", None, "an id", "nothing"),
        ("item_id", "a\nb", "an id without control characters", r"'a\nb'"),
        ("price", "cheap", "a number", "'cheap'"),
        ("price", "inf", "a finite number", "'inf'"),
        ("since", "soon", "a date (ISO 8601, as 2026-01-31, or seconds since 1970)", "'soon'"),
        ("image", "[1]", "a vector of 2 numbers", "'[1]'"),
        ("image", "[1, inf]", "a vector of finite numbers", "'[1, inf]'"),
        ("image", "[1, x]", "a vector of finite numbers", "'[1, x]'"),
    ],
)
def test_cells_that_do_not_fit_are_refused_or_repaired(
    column: str, cell: Any, wanted: str, got: str
):
    table = pl.concat([TABLE, TABLE.with_columns(pl.col("item_id") + "2")])
    cells = table[column].to_list()
    frame = table.with_columns(pl.Series(column, [*cells[:4], cell, cells[5]]))
    raw = batch(frame, "items.csv", first=11, step=3)
    assert refusal(items_of, raw, **ITEMS) == (
        f"items.csv: row 23, column {column!r}: wanted {wanted}, got {got}."
    )

    findings = Findings("repair")
    items = type_items([raw], declare(items=ITEMS), findings, Counter())
    (problem,) = findings
    assert (problem.table, problem.column, problem.wanted) == ("items", column, wanted)
    assert [(place.row, place.got) for place in problem.places] == [(23, got)]
    sound = items_of(batch(table), **ITEMS)
    if column == "item_id":
        assert problem.repair == "row dropped"
        assert items.equals(sound[[0, 1, 2, 3, 5]])
    else:
        assert problem.repair == "cell made unknown"
        assert items[4, column] is None
        assert items.drop(column).equals(sound.drop(column))


def test_vectors_of_all_batches_have_the_size_of_the_first():
    first = simple("a", image=[None])
    second = simple("b", "c", image=[[1.0, 2.0], [3.0, 4.0]])
    third = simple("d", "e", "f", image=["1 2 3", "4 5 6", "7 8"])
    batches = [batch(first), batch(second), batch(third, "third.csv")]
    assert refusal(items_of, *batches, features={"image": "vector"}) == (
        "third.csv: row 1, column 'image': wanted a vector of 2 numbers, got '1 2 3'. "
        "(1 more row like it)"
    )
    items = items_of(*batches, policy="repair", features={"image": "vector"})
    assert items["image"].to_list() == [None, [1, 2], [3, 4], None, None, [7, 8]]


def test_items_without_a_declared_column_are_refused_with_their_file():
    part = simple("b").rename({"title": "titel"})
    assert refusal(items_of, batch(simple("a")), batch(part, "part2.csv")) == (
        "part2.csv: column 'title' is missing. Did you mean 'titel'? Columns there: item_id, titel."
    )


@pytest.mark.parametrize("frames", [[simple("a").clear()], [simple("a").clear()] * 2, []])
def test_items_without_rows_are_refused(frames: list[pl.DataFrame]):
    origin = "t.csv" if frames else "data.tables.items"
    assert refusal(items_of, *map(batch, frames)) == (
        f"{origin}: wanted at least one row of items, the table is empty."
    )


def test_items_of_which_none_can_be_used_are_refused():
    message = refusal(items_of, batch(simple("", None)), policy="repair")
    assert message == "t.csv: wanted at least one row of items, none of 2 rows can be used."


# Duplicates

TWICE = (
    batch(simple("a", "b", "a"), "one.csv", first=5),
    batch(simple("c", "b").with_columns(title=pl.lit("late")), "two.csv", first=70),
)


def test_ids_in_several_rows_are_refused_with_both_places():
    assert refusal(items_of, *TWICE) == (
        "one.csv: row 7, column 'item_id': wanted each id once, got 'a'. (1 more row like it) "
        "Row 5 of one.csv has it too. To keep one of them set data.items.duplicates: first or "
        "last."
    )
    assert refusal(items_of, batch(simple("b"), "zero.csv", first=3), TWICE[1]) == (
        "two.csv: row 71, column 'item_id': wanted each id once, got 'b'. "
        "Row 3 of zero.csv has it too. To keep one of them set data.items.duplicates: first or "
        "last."
    )


def test_ids_in_several_rows_are_refused_where_cells_are_repaired():
    assert "wanted each id once" in refusal(items_of, *TWICE, policy="repair")


def test_ids_in_several_rows_are_counted_where_all_is_collected():
    findings = Findings("collect")
    items = type_items(TWICE, declare(), findings, Counter())
    (problem,) = findings
    assert (problem.count, problem.is_refused) == (2, True)
    assert [(p.file, p.row, p.got) for p in problem.places] == [
        ("one.csv", 7, "'a'"),
        ("two.csv", 71, "'b'"),
    ]
    assert items["item_id"].to_list() == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("first", [("a", "Item a"), ("b", "Item b"), ("c", "late")]),
        ("last", [("a", "Item a"), ("c", "late"), ("b", "late")]),
    ],
)
def test_ids_in_several_rows_keep_the_declared_one(keep: str, expected: list):
    counts: Counter[str] = Counter()
    items = type_items(TWICE, declare(items={"duplicates": keep}), Findings(), counts)
    assert items.select("item_id", "title").rows() == expected
    assert counts["duplicate_items_dropped"] == 2


def test_ids_that_differ_in_form_only_are_the_same():
    number, text = simple(7), simple(" 7")
    assert "wanted each id once, got '7'" in refusal(items_of, batch(number), batch(text))


# Items of logs without a catalogue


def test_items_of_ids_show_their_id():
    items = items_of_ids(pl.Series(["b", "a"]), declare())
    assert dict(items.schema) == dict.fromkeys(["item_id", "title", "text"], pl.String)
    assert items.rows() == [("b", "b", ""), ("a", "a", "")]


def test_items_of_no_ids_keep_their_columns():
    items = items_of_ids(pl.Series([], dtype=pl.String), declare(items={"text": []}))
    assert dict(items.schema) == dict.fromkeys(["item_id", "title", "text"], pl.String)


@pytest.mark.parametrize("declared", [{"features": {"brand": "category"}}, {"text": ["about"]}])
def test_attributes_without_an_item_table_are_refused(declared: dict):
    message = refusal(items_of_ids, pl.Series(["a"]), declare(items=declared))
    assert message == (
        "data.items: attributes are declared, but there is no item table. Give data.tables.items "
        "or declare none."
    )


# Users

PEOPLE = pl.DataFrame(
    {"user_id": ["u1", "u2"], "job": ["smith", None], "age": ["30", "x"], "likes": ["a|b", None]}
)
ATTRIBUTES = {
    "text": ["job"],
    "features": {"age": "number", "likes": "category_list"},
}


def test_users_are_typed_in_order():
    users = users_of(batch(PEOPLE), policy="repair", **ATTRIBUTES)
    assert dict(users.schema) == {
        "user_id": pl.String, "text": pl.String, "age": pl.Float64, "likes": pl.List(pl.String),
    }  # fmt: skip
    assert users.rows() == [("u1", "smith", 30.0, ["a", "b"]), ("u2", "", None, [])]


def test_users_without_a_table_are_none():
    users = type_users(None, declare(), Findings(), Counter())
    assert users.is_empty()
    assert dict(users.schema) == {"user_id": pl.String, "text": pl.String}


@pytest.mark.parametrize("declared", [{"features": {"age": "number"}}, {"text": ["job"]}])
def test_attributes_without_a_user_table_are_refused(declared: dict):
    message = refusal(type_users, None, declare(users=declared), Findings(), Counter())
    assert message.startswith("data.users: attributes are declared, but there is no user table.")


def test_users_get_pseudonyms_and_no_message_shows_an_id():
    twice = pl.DataFrame({"user_id": ["Ann", "Bob", "Ann"]})
    replace = Pseudonymiser(KEY)
    ann, bob = (pseudonym(name, KEY) for name in ("Ann", "Bob"))
    data = declare(users={"duplicates": "first"})
    users = type_users([batch(twice)], data, Findings(), Counter(), replace)
    assert users["user_id"].to_list() == [ann, bob]
    message = refusal(type_users, [batch(twice)], declare(), Findings(), Counter(), replace)
    assert "t.csv: row 3, column 'user_id': wanted each id once" in message
    assert "data.users.duplicates" in message
    assert ann in message
    assert "Ann" not in message


def test_strangers_have_an_id_and_nothing_else():
    features = ATTRIBUTES["features"] | {"city": "category", "face": "vector"}
    table = PEOPLE.with_columns(city=pl.lit("Rome"), face=pl.lit("1 2"))
    users = users_of(batch(table[:1]), text=["job"], features=features)
    everyone = add_strangers(users, pl.Series(["u8", "u9"]))
    assert everyone.schema == users.schema
    assert everyone.rows()[1:] == [
        ("u8", "", None, [], None, None),
        ("u9", "", None, [], None, None),
    ]
    assert everyone[:1].equals(users)


def test_strangers_without_a_user_table_are_all_there_is():
    none = type_users(None, declare(), Findings(), Counter())
    assert add_strangers(none, pl.Series(["u"])).rows() == [("u", "")]
    assert add_strangers(none, pl.Series([], dtype=pl.String)).equals(none)


# Relations


def triples(*rows: tuple) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=["head", "relation", "tail"], orient="row")


def relate(
    *batches: RawBatch, names: str = "by", policy: Any = "raise"
) -> tuple[pl.DataFrame, Counter, Findings]:
    """Adds relations to the items a, b and c."""
    declared = declare(relations={"features": dict.fromkeys(names.split(), "category_list")})
    counts: Counter[str] = Counter()
    findings = Findings(policy)
    items = items_of_ids(pl.Series(["a", "b", "c"]), declare())
    return add_relations(items, batches, declared.relations, findings, counts), counts, findings


def test_relations_become_lists_in_order_each_tail_once():
    first = triples(("b", "by", "Z"), ("a", "by", "Y"), ("a", "in", "P"), ("a", "by", "X"))
    second = triples(("a", "by", "Y"), ("a", "by", " X "), ("b", "by", "Y"), ("b", "on", "Q"))
    items, counts, _ = relate(batch(first), batch(second), names="in by")
    assert items.columns == ["item_id", "title", "text", "in", "by"]
    assert items.schema["by"] == pl.List(pl.String)
    assert items["item_id"].to_list() == ["a", "b", "c"]
    assert items["by"].to_list() == [["Y", "X"], ["Z", "Y"], []]
    assert items["in"].to_list() == [["P"], [], []]
    assert counts["relations_of_unknown_items_dropped"] == 0


def test_relations_of_what_is_no_item_are_counted():
    items, counts, _ = relate(batch(triples(("z", "by", "X"), ("a", "by", "X"), ("y", "in", "P"))))
    assert items["by"].to_list() == [["X"], [], []]
    assert counts["relations_of_unknown_items_dropped"] == 1  # of declared relations


def test_relations_that_never_occur_are_refused():
    table = batch(triples(("a", "directed_by", "X"), ("a", "in", "P")), "kg.tsv")
    assert refusal(relate, table, names="in direted_by") == (
        "kg.tsv: column 'relation': wanted triples of the relation 'direted_by', there is none. "
        "Did you mean 'directed_by'?"
    )


def test_relations_without_a_table_are_refused():
    declared = declare(relations={"features": {"by": "category_list"}}).relations
    items = items_of_ids(pl.Series(["a"]), declare())
    for batches in (None, []):
        message = refusal(add_relations, items, batches, declared, Findings(), Counter())
        assert message.startswith("data.relations: features are declared, but there is no table")


def test_relations_that_are_not_declared_change_nothing():
    items = items_of_ids(pl.Series(["a"]), declare())
    declared = declare().relations
    found = add_relations(items, [batch(triples(("", "", "")))], declared, Findings(), Counter())
    assert found.equals(items)


@pytest.mark.parametrize(
    ("row", "column", "got"),
    [
        ((None, "by", "X"), "head", "nothing"),
        (("a", "", "X"), "relation", "nothing"),
        (("a", "by", " "), "tail", "' '"),
    ],
)
def test_triples_that_do_not_fit_are_refused_or_dropped(row: tuple, column: str, got: str):
    # What undeclared relations hold is nobody's business.
    table = triples(("", "in", ""), ("a", "by", "X"), row, ("b", "by", "Y"))
    raw = batch(table, "kg.csv", first=100, step=10)
    assert refusal(relate, raw) == (f"kg.csv: row 120, column {column!r}: wanted an id, got {got}.")
    items, _, findings = relate(raw, policy="repair")
    assert items["by"].to_list() == [["X"], ["Y"], []]
    (problem,) = findings
    assert (problem.table, problem.count, problem.places[0].row) == ("relations", 1, 120)


@pytest.mark.parametrize("seed", range(5))
def test_relations_of_random_triples_follow_plain_python(seed: int):
    draw = random.Random(seed)
    rows = [
        (draw.choice("abcxy"), draw.choice(["by", "in", "on"]), draw.choice("PQRST"))
        for _ in range(60)
    ]
    expected: dict[str, dict[str, list[str]]] = {"by": {}, "in": {}}
    for head, relation, tail in rows:
        if relation in expected:
            tails = expected[relation].setdefault(head, [])
            if tail not in tails:
                tails.append(tail)
    cut = draw.randrange(1, 59)
    items, counts, _ = relate(
        batch(triples(*rows[:cut])), batch(triples(*rows[cut:])), names="by in"
    )
    for relation, of_heads in expected.items():
        assert items[relation].to_list() == [of_heads.get(item, []) for item in "abc"]
    strangers = [row for row in rows if row[0] in "xy" and row[1] in expected]
    assert counts["relations_of_unknown_items_dropped"] == len(strangers)


# Texts


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ([["a", ""], ["b", "c"]], ["a b", "c"]),
        ([["", "a"], ["", ""], ["", "b"]], ["", "a b"]),
        ([["a", "b"]], ["a", "b"]),
        ([], ["", ""]),
    ],
)
def test_texts_are_joined_without_gaps(columns: list, expected: list):
    joined = join_text([pl.Series(values) for values in columns], height=2)
    assert (joined.dtype, joined.to_list()) == (pl.String, expected)
