"""MovieLens-100K as three raw tables, from the published folder or from TensorFlow Datasets.

Source: F. M. Harper and J. A. Konstan, The MovieLens Datasets: History and Context (2015). The data
may be used for research and not be redistributed; this package ships none of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tfrec.config import TableFile
from tfrec.data.read import read_table
from tfrec.errors import DataError

GENRES = (
    "unknown", "action", "adventure", "animation", "children", "comedy", "crime", "documentary",
    "drama", "fantasy", "film-noir", "horror", "musical", "mystery", "romance", "sci-fi",
    "thriller", "war", "western",
)  # fmt: skip


def read_folder(folder: str | Path) -> dict[str, pl.DataFrame]:
    """Reads ``u.data``, ``u.item`` and ``u.user``.

    Returns:
        Raw tables ``events`` (user_id, item_id, rating, time), ``items`` (item_id, title, year,
        genres) and ``users`` (user_id, age, gender, occupation).

    Raises:
        DataError: A file is missing or has another form.
    """
    events = read_table(
        TableFile(path="u.data", delimiter="\t", columns=["user_id", "item_id", "rating", "time"]),
        folder,
    )
    items = read_table(
        TableFile(
            path="u.item",
            delimiter="|",
            encoding="latin-1",
            columns=["item_id", "title", "date", "video_date", "url", *GENRES],
        ),
        folder,
    )
    users = read_table(
        TableFile(
            path="u.user",
            delimiter="|",
            columns=["user_id", "age", "gender", "occupation", "zip"],
        ),
        folder,
    )
    genres = pl.concat_list(
        [pl.when(pl.col(genre) == "1").then(pl.lit(genre)) for genre in GENRES]
    ).list.drop_nulls()
    return {
        "events": events,
        "items": items.select("item_id", "title", _year(), genres.alias("genres")),
        "users": users.select("user_id", "age", "gender", "occupation"),
    }


def read_tfds(name: str) -> dict[str, pl.DataFrame]:
    """Reads ``<name>-ratings`` and ``<name>-movies`` with TensorFlow Datasets.

    Returns:
        The same tables as `read_folder`.

    Raises:
        DataError: The data set is neither on disk nor can be downloaded.
    """
    import tensorflow_datasets as tfds

    parts: dict[str, list[dict[str, Any]]] = {}
    for part in ("ratings", "movies"):
        try:
            dataset, info = tfds.load(f"{name}-{part}", split="train", with_info=True)
        except Exception as error:  # tfds passes on whatever its downloader raises
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise DataError(
                f"TensorFlow Datasets {name}-{part} is not on disk and could not be downloaded "
                f"({reason}). Without a network, give the published folder: "
                "--set data.path=path/to/ml-100k."
            ) from None
        parts[part] = list(tfds.as_numpy(dataset.ragged_batch(4096)))
    genre_names = [genre.lower() for genre in info.features["movie_genres"].feature.names]
    ratings = _concatenate(
        parts["ratings"],
        ["user_id", "movie_id", "user_rating", "timestamp", "raw_user_age", "user_gender",
         "user_occupation_text"],
    )  # fmt: skip
    movies = _concatenate(parts["movies"], ["movie_id", "movie_title"])
    genres = [
        list(row)
        for batch in parts["movies"]
        for row in np.split(
            np.asarray(genre_names, dtype=object)[np.asarray(batch["movie_genres"].values)],
            np.asarray(batch["movie_genres"].row_splits)[1:-1],
        )
    ]
    users = pl.DataFrame(
        {
            "user_id": _decode(ratings["user_id"]),
            "age": ratings["raw_user_age"].astype(float),
            "gender": np.where(ratings["user_gender"], "M", "F"),
            "occupation": _decode(ratings["user_occupation_text"]),
        }
    )
    return {
        "events": pl.DataFrame(
            {
                "user_id": users["user_id"],
                "item_id": _decode(ratings["movie_id"]),
                "rating": ratings["user_rating"].astype(float),
                "time": ratings["timestamp"],
            }
        ),
        "items": pl.DataFrame(
            {
                "item_id": _decode(movies["movie_id"]),
                "title": _decode(movies["movie_title"]),
                "genres": genres,
            }
        ).select("item_id", "title", _year(), "genres"),
        "users": users.unique("user_id", keep="first", maintain_order=True),
    }


def _concatenate(batches: Sequence[Mapping[str, Any]], columns: list[str]) -> dict[str, np.ndarray]:
    return {column: np.concatenate([batch[column] for batch in batches]) for column in columns}


def _decode(values: np.ndarray) -> pl.Series:
    return pl.Series(values.tolist(), dtype=pl.Binary).cast(pl.String)


def _year() -> pl.Expr:
    """The year in the brackets that end a title: ``Toy Story (1995)``."""
    return pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Float64).alias("year")
