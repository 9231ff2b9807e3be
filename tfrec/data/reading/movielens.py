"""MovieLens-100K as three raw tables, from the published folder or from TensorFlow Datasets.

Source: F. M. Harper and J. A. Konstan, The MovieLens Datasets: History and Context (2015). The data
may be used for research and not be redistributed; this package ships none of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import polars as pl

from tfrec.config import TableFile
from tfrec.data.reading.batch import RawBatch
from tfrec.data.reading.files import read_batches
from tfrec.data.reading.tfds import read_tfds

GENRES = (
    "unknown", "action", "adventure", "animation", "children", "comedy", "crime", "documentary",
    "drama", "fantasy", "film-noir", "horror", "musical", "mystery", "romance", "sci-fi",
    "thriller", "war", "western",
)  # fmt: skip

FILES = {
    "events": TableFile(
        path="u.data",
        delimiter="\t",
        quote="",
        columns=["user_id", "item_id", "rating", "time"],
    ),
    "items": TableFile(
        path="u.item",
        delimiter="|",
        quote="",
        encoding="latin-1",
        columns=["item_id", "title", "date", "video_date", "url", *GENRES],
    ),
    "users": TableFile(
        path="u.user",
        delimiter="|",
        quote="",
        columns=["user_id", "age", "gender", "occupation", "zip"],
    ),
}
"""The published files, by table."""

Table = Literal["events", "items", "users"]


def read_folder(folder: str | Path, table: Table) -> Iterator[RawBatch]:
    """Reads ``u.data`` (events), ``u.item`` (items) or ``u.user`` (users).

    Yields:
        ``events``: user_id, item_id, rating, time. ``items``: item_id, title, year, genres.
        ``users``: user_id, age, gender, occupation.

    Raises:
        DataError: The file is missing or has another form.
    """
    genres = pl.concat_list(
        [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES]
    ).list.drop_nulls()
    columns: dict[Table, list[pl.Expr | str]] = {
        "events": ["user_id", "item_id", "rating", "time"],
        "items": ["item_id", "title", _year("title"), genres.alias("genres")],
        "users": ["user_id", "age", "gender", "occupation"],
    }
    for batch in read_batches([FILES[table]], folder):
        yield replace(batch, frame=batch.frame.select(columns[table]))


def read_datasets(name: str, table: Table) -> Iterator[RawBatch]:
    """Reads ``<name>-ratings`` (events and users) or ``<name>-movies`` (items).

    Args:
        name: ``movielens/100k``.
        table: Which.

    Yields:
        The same columns as `read_folder`.

    Raises:
        DataError: The data set is neither on disk nor can be downloaded.
    """
    part = "movies" if table == "items" else "ratings"
    gender = pl.when("user_gender").then(pl.lit("M")).otherwise(pl.lit("F"))
    columns: dict[Table, list[pl.Expr]] = {
        "events": [
            pl.col("user_id"),
            pl.col("movie_id").alias("item_id"),
            pl.col("user_rating").cast(pl.Float64).alias("rating"),
            pl.col("timestamp").alias("time"),
        ],
        "items": [
            pl.col("movie_id").alias("item_id"),
            pl.col("movie_title").alias("title"),
            _year("movie_title"),
            pl.col("movie_genres").list.eval(pl.element().str.to_lowercase()).alias("genres"),
        ],
        "users": [
            pl.col("user_id"),
            pl.col("raw_user_age").cast(pl.Float64).alias("age"),
            gender.alias("gender"),
            pl.col("user_occupation_text").alias("occupation"),
        ],
    }
    hint = "Without a network, give the published folder: --set data.path=path/to/ml-100k."
    known = pl.Series([], dtype=pl.String)
    for batch in read_tfds(f"{name}-{part}", "train", hint):
        frame, rows = batch.frame.select(columns[table]), batch.rows
        if table == "users":  # each rating repeats its user
            is_new = frame["user_id"].is_first_distinct() & ~frame["user_id"].is_in(known.implode())
            frame, rows = frame.filter(is_new), rows[is_new.to_numpy()]
            known = known.append(frame["user_id"])
        if frame.height:
            yield RawBatch(frame, batch.origin, rows)


def _year(title: str) -> pl.Expr:
    """The year in the brackets that end a title: ``Toy Story (1995)``."""
    return pl.col(title).str.extract(r"\((\d{4})\)\s*$").cast(pl.Float64).alias("year")
