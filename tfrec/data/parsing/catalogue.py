"""Types the tables that are read whole: items, users, and relations between items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import polars as pl

from tfrec.config import Data, Items, Relations, Users
from tfrec.data.parsing.checks import Finding, Findings, RowChecks
from tfrec.data.parsing.convert import to_ids
from tfrec.data.parsing.features import clean_text, type_features
from tfrec.data.reading.batch import RawBatch
from tfrec.data.reading.files import require_columns
from tfrec.errors import DataError, did_you_mean
from tfrec.features.cells import to_text
from tfrec.features.frame import declare
from tfrec.schema import Columns

# Where a typed row was read.
_FILE, _ROW = "__file", "__row"

_MAX_PLACES = 5


def type_items(
    batches: Sequence[RawBatch], data: Data, findings: Findings, counts: Counter[str]
) -> pl.DataFrame:
    """Types the catalogue.

    Args:
        batches: All rows of the table.
        data: The declaration.
        findings: Where problems are counted.
        counts: Changed texts and dropped duplicates are counted here.

    Returns:
        One row an item: item_id, title, text (String), then the declared features.

    Raises:
        DataError: A column is missing, a cell does not fit and is not to be repaired, an id stands
            in two rows, or no row can be used.
    """
    declared = data.items
    parts: list[pl.DataFrame] = []
    features = declare(declared.features, "data.items.features")
    for batch in batches:
        needed = [declared.item_id, declared.title, *declared.text, *declared.features]
        checks = _checks(batch, "items", needed, findings)
        ids = to_ids(checks, declared.item_id)
        texts = _clean_texts(checks, declared.text, data, counts)
        title = ids
        if declared.title:
            shown = texts.get(declared.title)
            if shown is None:  # what is changed counts only where a model reads it
                shown = _clean_texts(checks, [declared.title], data, Counter())[declared.title]
            title = pl.select(pl.when(shown != "").then(shown).otherwise(ids)).to_series()
        columns = [
            ids.alias(Columns.ITEM_ID),
            title.alias(Columns.TITLE),
            join_text(list(texts.values()), batch.frame.height).alias(Columns.TEXT),
            *type_features(checks, features),
        ]
        parts.append(_kept(checks, columns))
        features = [feature.seen(parts[-1][feature.name]) for feature in features]
    items = _concat(parts, "items", batches)
    return _one_row_an_id(items, Columns.ITEM_ID, "items", declared, findings, counts)


def items_of_ids(ids: pl.Series, data: Data) -> pl.DataFrame:
    """Returns the catalogue of a log without one: items are what events name.

    Args:
        ids: String [n], distinct.
        data: The declaration.

    Returns:
        item_id, title (the id), text ("").

    Raises:
        DataError: Attributes are declared, but there is no table to read them from.
    """
    declared = data.items
    # The title as text is the default, which a log without catalogue need not unsay.
    if declared.features or (declared.text and declared.changed(["text"])):
        raise DataError(
            "data.items: attributes are declared, but there is no item table. Give "
            "data.tables.items or declare none."
        )
    ids = ids.cast(pl.String)
    return pl.DataFrame(
        [
            ids.alias(Columns.ITEM_ID),
            ids.alias(Columns.TITLE),
            join_text([], len(ids)).alias(Columns.TEXT),
        ]
    )


def type_users(
    batches: Sequence[RawBatch] | None,
    data: Data,
    findings: Findings,
    counts: Counter[str],
    pseudonymise: Callable[[pl.Series], pl.Series] | None = None,
) -> pl.DataFrame:
    """Types the user table.

    Args:
        batches: All rows of the table, or None if there is no table.
        data: The declaration.
        findings: Where problems are counted.
        counts: Changed texts and dropped duplicates are counted here.
        pseudonymise: Replaces ids.

    Returns:
        One row a user: user_id, text (String), then the declared features; no rows without a table.

    Raises:
        DataError: As `type_items`, or attributes are declared without a table.
    """
    declared = data.users
    if batches is None:
        if declared.features or declared.text:
            raise DataError(
                "data.users: attributes are declared, but there is no user table. Give "
                "data.tables.users or declare none."
            )
        return pl.DataFrame(schema={Columns.USER_ID: pl.String, Columns.TEXT: pl.String})
    parts: list[pl.DataFrame] = []
    features = declare(declared.features, "data.users.features")
    for batch in batches:
        needed = [declared.user_id, *declared.text, *declared.features]
        checks = _checks(batch, "users", needed, findings)
        ids = to_ids(checks, declared.user_id)
        texts = _clean_texts(checks, declared.text, data, counts)
        columns = [
            (pseudonymise(ids) if pseudonymise else ids).alias(Columns.USER_ID),
            join_text(list(texts.values()), batch.frame.height).alias(Columns.TEXT),
            *type_features(checks, features),
        ]
        parts.append(_kept(checks, columns))
        features = [feature.seen(parts[-1][feature.name]) for feature in features]
    users = _concat(parts, "users", batches)
    return _one_row_an_id(users, Columns.USER_ID, "users", declared, findings, counts)


def add_strangers(users: pl.DataFrame, ids: pl.Series) -> pl.DataFrame:
    """Appends users of whom nothing but the id (String [n]) is known."""
    strangers = pl.DataFrame({Columns.USER_ID: ids.cast(pl.String)}).with_columns(
        pl.lit("").alias(Columns.TEXT)
    )
    lists = [name for name, dtype in users.schema.items() if dtype == pl.List(pl.String)]
    everyone = pl.concat([users, strangers], how="diagonal")
    return everyone.with_columns(pl.col(name).fill_null([]) for name in lists)


def add_relations(
    items: pl.DataFrame,
    batches: Sequence[RawBatch] | None,
    declared: Relations,
    findings: Findings,
    counts: Counter[str],
) -> pl.DataFrame:
    """Adds a column for each declared relation: the tails of the item, in order, each once.

    Args:
        items: The typed catalogue.
        batches: All triples, or None if there is no table.
        declared: Which relations become features.
        findings: Where problems are counted.
        counts: Triples about what is no item are counted here.

    Returns:
        The catalogue with a List(String) column for each relation; [] for none.

    Raises:
        DataError: Relations are declared without a table, or one of them never occurs, a column is
            missing, or a cell does not fit and is not to be repaired.
    """
    if not declared.features:
        return items
    if not batches:
        raise DataError(
            "data.relations: features are declared, but there is no table of relations. Give "
            "data.tables.relations or declare none."
        )
    triples = pl.concat([_type_triples(batch, declared, findings) for batch in batches])
    known = triples["relation"].unique(maintain_order=True).to_list()
    for name in declared.features:
        if name not in known:
            raise DataError(
                f"{batches[0].origin}: column {declared.relation!r}: wanted triples of the "
                f"relation {name!r}, there is none.{did_you_mean(name, known)}"
            )
    triples = triples.drop_nulls()
    is_known = triples["head"].is_in(items[Columns.ITEM_ID].implode())
    counts["relations_of_unknown_items_dropped"] += int((~is_known).sum())
    triples = triples.filter(is_known).unique(maintain_order=True)
    for name in declared.features:
        tails = (
            triples.filter(pl.col("relation") == name)
            .group_by("head", maintain_order=True)
            .agg(pl.col("tail").alias(name))
        )
        items = items.join(
            tails, left_on=Columns.ITEM_ID, right_on="head", how="left", maintain_order="left"
        ).with_columns(pl.col(name).fill_null([]))
    return items


def join_text(columns: list[pl.Series], height: int = 0) -> pl.Series:
    """Joins texts row by row with a space; without columns there are `height` empty texts."""
    if not columns:
        return pl.Series([""], dtype=pl.String).new_from_index(0, height)
    named = [column.alias(str(number)) for number, column in enumerate(columns)]
    joined = pl.DataFrame(named).select(pl.concat_str(pl.all(), separator=" ")).to_series()
    return joined.str.replace_all(r" +", " ").str.strip_chars()


def _checks(
    batch: RawBatch, table: str, needed: Sequence[str | None], findings: Findings
) -> RowChecks:
    columns = list(dict.fromkeys(column for column in needed if column))
    require_columns(batch.frame, columns, batch.origin)
    return RowChecks(batch, table, findings)


def _clean_texts(
    checks: RowChecks, columns: Sequence[str], data: Data, counts: Counter[str]
) -> dict[str, pl.Series]:
    cleaning = data.cleaning
    return {
        name: clean_text(to_text(checks, name), cleaning.html, cleaning.max_text_chars, counts)
        for name in columns
    }


def _kept(checks: RowChecks, columns: list[pl.Series]) -> pl.DataFrame:
    """Returns the rows that stay, with the place of each."""
    places = [
        pl.Series(_FILE, [checks.origin], dtype=pl.String).new_from_index(0, len(columns[0])),
        pl.Series(_ROW, checks.batch.rows, dtype=pl.Int64),
    ]
    return pl.DataFrame([*columns, *places]).filter(pl.Series(~checks.dropped))


def _concat(parts: list[pl.DataFrame], table: str, batches: Sequence[RawBatch]) -> pl.DataFrame:
    num_read = sum(batch.frame.height for batch in batches)
    if not sum(part.height for part in parts):
        origin = batches[0].origin if batches else f"data.tables.{table}"
        got = f"none of {num_read} rows can be used" if num_read else "the table is empty"
        raise DataError(f"{origin}: wanted at least one row of {table}, {got}.")
    return pl.concat(parts)


def _one_row_an_id(
    typed: pl.DataFrame,
    id_column: str,
    table: str,
    declared: Items | Users,
    findings: Findings,
    counts: Counter[str],
) -> pl.DataFrame:
    """Keeps the declared row of each id and drops the columns that tell the place."""
    ids = typed[id_column]
    keep_last = declared.duplicates == "last"
    keep = ids.is_last_distinct() if keep_last else ids.is_first_distinct()
    repeats = typed.filter(~keep).head(_MAX_PLACES).rows(named=True)
    if repeats and declared.duplicates == "error":
        column = declared.item_id if isinstance(declared, Items) else declared.user_id
        first = typed.row(ids.index_of(repeats[0][id_column]) or 0, named=True)
        problem = Finding(
            table,
            column,
            "each id once",
            count=int((~keep).sum()),
            repair="none",
            is_refused=True,
            hint=f"Row {first[_ROW]} of {first[_FILE]} has it too. To keep one of them set "
            f"data.{table}.duplicates: first or last.",
        )
        findings.add(problem, [(row[_FILE], row[_ROW], row[id_column]) for row in repeats])
    elif repeats:
        counts[f"duplicate_{table}_dropped"] += int((~keep).sum())
    return typed.filter(keep).drop(_FILE, _ROW)


def _type_triples(batch: RawBatch, declared: Relations, findings: Findings) -> pl.DataFrame:
    """Returns head, relation and tail of the declared relations; others keep their name only."""
    columns = [declared.head, declared.relation, declared.tail]
    checks = _checks(batch, "relations", columns, findings)
    relation = to_ids(checks, declared.relation)
    wanted = relation.is_in(list(declared.features)).fill_null(False)
    part = RawBatch(batch.frame.filter(wanted), batch.origin, batch.rows[wanted.to_numpy()])
    checks = RowChecks(part, "relations", findings)
    typed = {
        "head": to_ids(checks, declared.head),
        "relation": relation.filter(wanted),
        "tail": to_ids(checks, declared.tail),
    }
    others = pl.DataFrame({"relation": relation.filter(~wanted).drop_nulls().unique()})
    return pl.concat([pl.DataFrame(typed), others], how="diagonal")
