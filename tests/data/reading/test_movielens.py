from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from tfrec.config import Config, load_config
from tfrec.data.dataset import PreparedData
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading import movielens
from tfrec.data.reading.sources import RawTables, read_source, source_files
from tfrec.errors import DataError

CONFIG = Path(__file__).parents[3] / "configs" / "movielens.yaml"

RATINGS = [  # user, item, rating, unix time
    (1, 10, 5, 881250949), (2, 10, 3, 881250950), (1, 20, 4, 881250951), (2, 20, 5, 881250952),
    (3, 10, 4, 881250953), (3, 20, 5, 881250954),
]  # fmt: skip


TABLES: tuple[movielens.Table, ...] = ("events", "items", "users")


def read_folder(folder: Path) -> dict[str, pl.DataFrame]:
    return {table: join(movielens.read_folder(folder, table)) for table in TABLES}


def read_datasets(name: str) -> dict[str, pl.DataFrame]:
    return {table: join(movielens.read_datasets(name, table)) for table in TABLES}


def join(batches) -> pl.DataFrame:
    return pl.concat([batch.frame for batch in batches])


def prepare_in(folder: Path, raw: RawTables, config: Config) -> tuple[PreparedData, dict]:
    folder.mkdir()
    report = prepare(raw, config, folder)
    return PreparedData.load(folder), report


def flags(*genres: str) -> str:
    return "|".join("1" if genre in genres else "0" for genre in movielens.GENRES)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Returns a folder in the published form, with two films and three users."""
    (tmp_path / "u.data").write_text(
        "".join("\t".join(map(str, row)) + "\n" for row in RATINGS), encoding="latin-1"
    )
    films = (
        f"10|Léon (1994)|01-Jan-1994||http://x/?a=1&b=2|{flags('crime', 'drama')}\n"
        f'20|"Quoted", Film|||http://y|{flags("western", "unknown")}\n'
    )
    (tmp_path / "u.item").write_bytes(films.encode("latin-1"))
    (tmp_path / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|T8H1N\n3|7|M|none|0\n")
    return tmp_path


def test_folder_in_published_form_gives_three_tables(folder: Path):
    tables = read_folder(folder)
    assert tables["events"].rows() == [tuple(map(str, row)) for row in RATINGS]
    assert tables["events"].columns == ["user_id", "item_id", "rating", "time"]
    assert tables["items"].to_dicts() == [
        {"item_id": "10", "title": "Léon (1994)", "year": 1994.0, "genres": ["crime", "drama"]},
        {
            "item_id": "20",
            "title": '"Quoted", Film',
            "year": None,
            "genres": ["unknown", "western"],
        },
    ]
    assert tables["users"].rows() == [
        ("1", "24", "M", "technician"), ("2", "53", "F", "other"), ("3", "7", "M", "none"),
    ]  # fmt: skip


def configure(path: Path) -> Config:
    return load_config(CONFIG, [f"data.path={path}", "data.split={validation: 0.2, test: 0.2}"])


def test_folder_with_shipped_configuration_can_be_prepared(folder: Path):
    config = configure(folder)
    prepared, _ = prepare_in(folder / "prepared", read_source(config.data, seed=0), config)
    # Sorted by time: rows 0 to 2 train, 3 validates, 4 and 5 test (6 * 0.6 = 3.6, 6 * 0.8 = 4.8).
    assert len(prepared.examples) == 6
    assert prepared.examples["label"].sum() == 5
    assert sorted(prepared.contexts["split"].to_list()) == [0, 0, 0, 1, 2, 2]
    assert source_files(config.data) == [folder / name for name in ("u.data", "u.item", "u.user")]


@pytest.mark.parametrize("name", ["u.data", "u.item", "u.user"])
def test_folder_with_missing_or_broken_file_names_it(folder: Path, name: str):
    path = folder / name
    path.write_text("a,b\n")
    with pytest.raises(DataError, match="Check the delimiter") as caught:
        read_folder(folder)
    assert str(caught.value).startswith(f"{path}: ")
    path.unlink()
    with pytest.raises(DataError, match="no such file") as caught:
        read_folder(folder)
    assert str(caught.value).startswith(f"{path}: ")


def test_path_that_is_no_folder_is_refused(folder: Path):
    config = configure(folder / "nowhere")
    with pytest.raises(DataError) as caught:
        read_source(config.data, seed=0)
    assert str(caught.value) == f"data.path: {folder / 'nowhere'}: no such folder."


@pytest.fixture
def tfds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Returns TensorFlow Datasets with an empty data folder and no way to the network."""
    tfds = pytest.importorskip("tensorflow_datasets")
    from tensorflow_datasets.core import constants

    monkeypatch.setattr(constants, "DATA_DIR", str(tmp_path / "tfds"))

    def refuse(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr("requests.Session.request", refuse)  # asking would be tried for minutes
    return tfds


def test_tfds_gives_the_columns_of_the_folder(folder: Path, tfds):
    with tfds.testing.mock_data(num_examples=5):
        found = read_datasets("movielens/100k")
    expected = read_folder(folder)
    assert {name: frame.columns for name, frame in found.items()} == {
        name: frame.columns for name, frame in expected.items()
    }
    assert (found["events"].height, found["items"].height) == (5, 5)
    assert found["users"]["user_id"].is_unique().all()
    assert set(found["users"]["user_id"]) == set(found["events"]["user_id"])
    assert found["items"]["genres"].dtype == pl.List(pl.String)
    genres = set(found["items"]["genres"].explode().drop_nulls())
    assert genres & set(movielens.GENRES)  # names of the same spelling; the mock draws others too
    assert all(genre == genre.lower() for genre in genres)
    assert set(found["users"]["gender"]) <= {"M", "F"}
    assert found["items"]["year"].dtype == pl.Float64


def test_tfds_gives_types_that_can_be_prepared(tfds, tmp_path: Path):
    with tfds.testing.mock_data(num_examples=30):
        raw = read_source(load_config(CONFIG, ["data.split={validation: 0.2, test: 0.2}"]).data, 0)
        (ratings,) = raw.read_events()
    assert raw.items
    # The mock invents ids, ratings and times, so its events are given films that are there.
    films = replace(raw.items[0], frame=raw.items[0].frame.unique("item_id", maintain_order=True))
    films = replace(films, rows=films.rows[: films.frame.height])
    ids = films.frame["item_id"].to_list()
    events = ratings.frame.with_columns(
        item_id=pl.Series([ids[row % len(ids)] for row in range(30)]),
        rating=pl.lit(5.0),
        time=pl.Series(range(30)),
    )
    raw = RawTables(lambda: iter([replace(ratings, frame=events)]), [films], raw.users)
    prepared, _ = prepare_in(tmp_path / "prepared", raw, configure(Path(".")))
    assert prepared.num_items == len(ids)
    assert len(prepared.examples) == 30


def test_tfds_without_disk_and_network_points_to_the_folder(tfds, tmp_path: Path):
    with pytest.raises(DataError) as caught:
        read_datasets("movielens/100k")
    text = str(caught.value)
    assert text.startswith(
        "TensorFlow Datasets movielens/100k-ratings is not on disk and could not be downloaded ("
    )
    assert text.endswith("--set data.path=path/to/ml-100k.")
    assert "\n" not in text


def test_published_data_has_its_published_counts(data_folder: Path, tmp_path: Path):
    if not (data_folder / "ml-100k").is_dir():
        pytest.skip(f"TFREC_DATA={data_folder} holds no ml-100k")
    config = load_config(CONFIG, [f"data.path={data_folder / 'ml-100k'}"])
    raw = read_source(config.data, seed=0)
    assert raw.items
    assert raw.users
    # README: 100,000 ratings by 943 users on 1,682 movies.
    items = join(raw.items)
    assert (join(raw.read_events()).height, join(raw.users).height) == (100_000, 943)
    assert items.height == 1682
    assert "é" in items["title"].str.join("")[0]  # read as latin-1
    assert items["year"].null_count() <= 2
    prepared, report = prepare_in(tmp_path / "prepared", raw, config)
    assert (prepared.num_users, prepared.num_items) == (943, 1682)
    assert report["rows"]["events"] == {"read": 100_000, "kept": 100_000}
    # u.info and the distribution of u.data: 34,174 four-star and 21,201 five-star ratings.
    assert prepared.examples["label"].sum() == 34_174 + 21_201
