"""A first configuration for any files: what is recognised, why, and that it works as it is."""

import csv
import gzip
import json
import random
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tfrec.autoconfig import guess_config
from tfrec.autoconfig.page import Entry, write_page
from tfrec.autoconfig.words import stage_of, words_of
from tfrec.config import Config, TableFile, load_config
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading.files import read_batches
from tfrec.data.reading.sources import read_source
from tfrec.errors import DataError

START = datetime(2025, 3, 1, 8, tzinfo=UTC)
NOUNS = ("lamp", "chair", "table", "shelf", "carpet", "mirror", "clock", "vase", "sofa", "desk")
Row = dict[str, Any]


def write_csv(
    path: Path,
    rows: Sequence[Row],
    delimiter: str = ",",
    header: bool = True,
    encoding: str = "utf-8",
) -> None:
    cells = [[str("" if cell is None else cell) for cell in row.values()] for row in rows]
    if header:
        cells.insert(0, list(rows[0]))
    lines = [delimiter.join(row) for row in cells]
    if delimiter == ",":
        with path.open("w", newline="", encoding=encoding) as file:
            csv.writer(file).writerows(cells)
        return
    data = ("\n".join(lines) + "\n").encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def log(rows: int = 400, seed: int = 0, **columns: Any) -> list[Row]:
    """Returns events of 40 users and 30 items in the order of time."""
    draw = random.Random(seed)
    made = []
    for number in range(rows):
        row: Row = {"user_id": f"u{draw.randrange(40)}", "item_id": f"i{draw.randrange(30)}"}
        row["time"] = (START + timedelta(minutes=7 * number)).isoformat()
        made.append(row | {name: make(draw, number) for name, make in columns.items()})
    return made


def catalogue(rows: int = 30, **columns: Any) -> list[Row]:
    draw = random.Random(1)
    made = []
    for number in range(rows):
        title = f"{draw.choice(NOUNS)} {draw.choice(NOUNS)} number {number}"
        row: Row = {"item_id": f"i{number}", "title": title}
        made.append(row | {name: make(draw, number) for name, make in columns.items()})
    return made


def people(rows: int = 40, **columns: Any) -> list[Row]:
    draw = random.Random(2)
    made = []
    for number in range(rows):
        row: Row = {"user_id": f"u{number}", "age": draw.randrange(18, 80)}
        row["gender"] = draw.choice("fm")
        made.append(row | {name: make(draw, number) for name, make in columns.items()})
    return made


def guess(folder: Path, *files: str) -> tuple[str, Config]:
    """Returns the text and what `load_config` makes of it; each of its lines must say why."""
    text = guess_config([folder / file for file in files] or [folder], name="x")
    path = folder.parent / f"{folder.name}-guessed.yaml"
    path.write_text(text, encoding="utf-8")
    assert_reasons(text)
    return text, load_config(path)


def assert_reasons(text: str) -> None:
    lines = text.splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        is_comment = line.lstrip().startswith("#")
        has_reason = "  # " in line or before.lstrip().startswith("#")
        assert is_comment or has_reason, f"a line without a reason: {line!r}"


def read_events(config: Config) -> pl.DataFrame:
    """Returns the rows of the event table, after the steps."""
    assert config.data.tables is not None
    batches = read_batches(config.data.tables.events, config.data.path)
    return pl.concat([batch.frame for batch in batches], how="diagonal_relaxed")


def comment_on(text: str, line: str) -> str:
    """Returns the reason of the line that begins so."""
    lines = text.splitlines()
    at = next(n for n, each in enumerate(lines) if each.strip().removeprefix("- ").startswith(line))
    found = [lines[at].partition("  # ")[2]]
    while not found[0] and lines[at - 1].lstrip().startswith("#"):
        at -= 1
        found.insert(1, lines[at].lstrip(" #"))
    return " ".join(found).strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "files"
    path.mkdir()
    return path


# Files and tables


def test_guess_events_items_users_finds_all_three(folder: Path) -> None:
    write_csv(folder / "log.csv", log())
    write_csv(folder / "products.csv", catalogue())
    write_csv(folder / "customers.csv", people())
    _, config = guess(folder)
    data = config.data
    assert data.tables is not None
    assert data.tables.events == [TableFile(path="log.csv")]
    assert data.tables.items == [TableFile(path="products.csv")]
    assert data.tables.users == [TableFile(path="customers.csv")]
    assert (data.events.user_id, data.events.item_id) == ("user_id", "item_id")
    assert data.events.time == "time"
    assert (data.items.title, data.items.text) == ("title", ["title"])
    assert {name: f.type for name, f in data.users.features.items()} == {
        "age": "number",
        "gender": "category",
    }
    assert data.split.kind == "time"


def test_guess_whole_configuration_prepares_as_it_is(folder: Path) -> None:
    draw_price = {"price": lambda draw, n: round(draw.lognormvariate(2, 2), 2)}
    write_csv(folder / "log.csv", log(kind=lambda draw, n: draw.choice(["view", "impression"])))
    write_csv(folder / "items.csv", catalogue(**draw_price))
    write_csv(folder / "users.csv", people())
    _, config = guess(folder)
    target = folder.parent / "prepared"
    target.mkdir()
    report = prepare(read_source(config.data, config.seed), config, target)
    assert report["rows"]["events"]["read"] == 400
    assert all(report["split"]["ranked"][split] for split in ("train", "validation", "test"))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", "::"])
@pytest.mark.parametrize("header", [True, False])
def test_guess_delimiter_any_reads_the_same_ids(folder: Path, delimiter: str, header: bool) -> None:
    rows = log(rating=lambda draw, n: draw.randrange(1, 6))
    write_csv(folder / "events.dat", rows, delimiter, header)
    write_csv(folder / "movies.dat", catalogue(), delimiter, header)
    _, config = guess(folder)
    assert config.data.tables is not None
    assert config.data.tables.events[0].delimiter == delimiter
    frame = read_events(config)
    assert frame[config.data.events.user_id].to_list() == [row["user_id"] for row in rows]
    assert frame[config.data.events.item_id].to_list() == [row["item_id"] for row in rows]
    assert config.data.events.rating == "rating"
    assert config.data.items.title == "title"


def test_guess_latin_1_and_gzip_are_declared(folder: Path) -> None:
    write_csv(folder / "events.csv.gz", log(), delimiter=";")
    rows = catalogue(brand=lambda draw, n: draw.choice(["Möbel Müller", "Çatal"]))
    write_csv(folder / "items.csv", rows, delimiter=";", encoding="latin-1")
    _, config = guess(folder)
    assert config.data.tables is not None
    assert config.data.tables.items is not None
    assert config.data.tables.items[0].encoding == "latin-1"
    assert config.data.tables.events[0].encoding == "utf8"
    assert config.data.items.features["brand"].type == "category"


def test_guess_parquet_and_json_lines_need_no_form(folder: Path) -> None:
    pl.DataFrame(log()).write_parquet(folder / "events.parquet")
    rows = catalogue(tags=lambda draw, n: draw.sample(["red", "old", "big"], 2))
    rows = [row | {"image": [float(n), 0.5, 0.25, 0.125, 1.0]} for n, row in enumerate(rows)]
    (folder / "items.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    _, config = guess(folder)
    assert config.data.tables is not None
    assert config.data.tables.items == [TableFile(path="items.jsonl")]
    assert config.data.items.features["tags"].type == "category_list"
    assert config.data.items.features["image"].type == "vector"


def test_guess_quoted_cells_hold_delimiters_and_line_breaks(folder: Path) -> None:
    write_csv(folder / "events.csv", log())
    rows = catalogue(description=lambda draw, n: f'a "fine" piece,\nnumber {n}, for all of us')
    write_csv(folder / "items.csv", rows)
    _, config = guess(folder)
    assert config.data.tables is not None
    assert config.data.tables.items == [TableFile(path="items.csv")]
    assert config.data.items.text == ["title", "description"]


def test_guess_quotes_inside_texts_become_plain_characters(folder: Path) -> None:
    write_csv(folder / "events.csv", log())
    rows = catalogue(plot=lambda draw, n: f'it "takes {n} to tango, they say')
    write_csv(folder / "items.tsv", rows, delimiter="\t")
    _, config = guess(folder)
    assert config.data.tables is not None
    assert config.data.tables.items is not None
    assert config.data.tables.items[0].quote == ""


def test_guess_ragged_lines_are_cut_by_steps(folder: Path) -> None:
    write_csv(folder / "events.csv", log())
    write_csv(folder / "items.tsv", catalogue(), delimiter="\t")
    with (folder / "items.tsv").open("a") as file:
        file.write("i30\ta title\tand a cell too many\n")
    _, config = guess(folder)
    assert config.data.tables is not None
    assert config.data.tables.items is not None
    (batch,) = read_batches(config.data.tables.items, config.data.path)
    assert batch.frame["item_id"].to_list() == [f"i{number}" for number in range(31)]
    assert batch.frame["title"].to_list()[-1] == "a title"


def test_guess_shards_become_one_pattern(folder: Path) -> None:
    rows = log()
    for number in range(4):
        part = rows[100 * number : 100 * (number + 1)]
        write_csv(folder / f"events-{number:05}.csv", part)
    write_csv(folder / "items.csv", catalogue())
    _, config = guess(folder)
    assert config.data.tables is not None
    assert config.data.tables.events[0].path == "events-*.csv"
    assert len(read_events(config)) == 400


def test_guess_pattern_that_names_others_becomes_a_list(folder: Path) -> None:
    write_csv(folder / "a1.csv", log(seed=1))
    write_csv(folder / "a3.csv", log(seed=2))
    write_csv(folder / "a2.csv", catalogue())
    _, config = guess(folder)
    assert config.data.tables is not None
    assert config.data.tables.events[0].path == ["a1.csv", "a3.csv"]


def test_guess_files_given_one_by_one_lie_below_their_folder(folder: Path) -> None:
    (folder / "logs").mkdir()
    write_csv(folder / "logs" / "log.csv", log())
    write_csv(folder / "items.csv", catalogue())
    write_csv(folder / "users.csv", people())
    _, config = guess(folder, "logs/log.csv", "items.csv")
    assert config.data.tables is not None
    assert config.data.path == folder.as_posix()
    assert config.data.tables.events[0].path == "logs/log.csv"
    assert config.data.tables.users is None


def test_guess_unreadable_files_are_listed_with_the_reason(folder: Path) -> None:
    write_csv(folder / "events.csv", log())
    (folder / "README.txt").write_text("read me")
    (folder / "model.bin").write_bytes(bytes(range(256)))
    (folder / "broken.parquet").write_bytes(b"PAR1 but not really")
    (folder / "empty.csv").write_text("")
    (folder / "double.csv").write_text("user_id,user_id\n1,2\n")
    text, _ = guess(folder)
    plain = " ".join(line.removeprefix("# ") for line in text.splitlines())
    for name, reason in (
        ("README.txt", "no table by its name"),
        ("model.bin", "is neither text nor Parquet"),
        ("broken.parquet", "cannot be read"),
        ("empty.csv", "holds no row"),
        ("double.csv", "column 'user_id' stands twice in its header"),
    ):
        assert f"Left out: {name}: {reason}" in plain


def test_guess_nothing_recognised_raises_one_line(folder: Path) -> None:
    write_csv(folder / "prices.csv", [{"day": f"2025-01-{d:02}", "price": d} for d in range(1, 29)])
    with pytest.raises(DataError, match=r"wanted a log.*prices\.csv \(day, price\)") as error:
        guess_config([folder])
    assert "\n" not in str(error.value)


def test_guess_missing_or_empty_folder_raises(folder: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        guess_config([folder / "nothing"])
    with pytest.raises(DataError, match="got no file"):
        guess_config([folder])


# Ids


def test_guess_item_id_is_the_column_with_the_events_ids(folder: Path) -> None:
    """As in goodbooks: the column with the same name holds the ids of something else."""
    draw = random.Random(3)
    ratings = [
        {"book_id": n // 8 + 1, "user_id": draw.randrange(50), "rating": draw.randrange(1, 6)}
        for n in range(400)
    ]
    books = [
        {"id": n, "book_id": 1000 + n if n > 10 else n, "title": f"The {n}th of all books"}
        for n in range(1, 61)
    ]
    write_csv(folder / "ratings.csv", ratings)
    write_csv(folder / "books.csv", books)
    text, config = guess(folder)
    assert config.data.items.item_id == "id"
    assert comment_on(text, "item_id: id") == "holds 100% of the first events' items (book_id 20%)"
    assert config.data.unknown_items == "error"


def test_guess_items_missing_from_catalogue_are_dropped_with_the_share(folder: Path) -> None:
    write_csv(folder / "events.csv", log())
    write_csv(folder / "items.csv", catalogue(24))
    text, config = guess(folder)
    assert config.data.unknown_items == "drop"
    assert "the catalogue has 80.0%" in comment_on(text, "unknown_items")


def test_guess_ids_that_stand_twice_set_duplicates(folder: Path) -> None:
    write_csv(folder / "events.csv", log())
    write_csv(folder / "items.csv", [*catalogue(), *catalogue(2)])
    write_csv(folder / "users.csv", [*people(), *people(2)])
    _, config = guess(folder)
    assert config.data.items.duplicates == "first"
    assert config.data.users.duplicates == "last"


def test_guess_unnamed_columns_swapped_by_overlap(folder: Path) -> None:
    rows = [{"item": n["item_id"], "user": n["user_id"], "rating": 3 + i % 3, "time": 1e9 + i}
            for i, n in enumerate(log())]  # fmt: skip
    rows = [row | {"time": int(row["time"])} for row in rows]
    write_csv(folder / "u.data", rows, "\t", header=False)
    write_csv(folder / "u.item", catalogue(), "\t", header=False)
    write_csv(folder / "u.user", people(), "\t", header=False)
    _, config = guess(folder)
    assert config.data.tables is not None
    assert config.data.tables.events[0].columns == ["item_id", "user_id", "rating", "time"]


def test_guess_unnamed_items_behind_other_ids_are_found_by_overlap(folder: Path) -> None:
    rows = [{"user": n["user_id"], "shop": f"s{i % 20}", "item": n["item_id"]}
            for i, n in enumerate(log())]  # fmt: skip
    write_csv(folder / "log.dat", rows, "\t", header=False)
    write_csv(folder / "items.dat", catalogue(), "\t", header=False)
    _, config = guess(folder)
    assert config.data.tables is not None
    assert config.data.tables.events[0].columns == ["user_id", "column_2", "item_id"]
    assert config.data.items.title == "title"


@pytest.mark.parametrize(
    ("user", "item"),
    [("userId", "movieId"), ("CustomerID", "StockCode"), ("visitorid", "itemid"),
     ("reviewerID", "asin"), ("member", "track_id"), ("session_id", "sku")],
)  # fmt: skip
def test_guess_id_names_of_any_trade_are_known(folder: Path, user: str, item: str) -> None:
    rows = [{"when": r["time"], item: r["item_id"], user: r["user_id"]} for r in log()]
    write_csv(folder / "events.csv", rows)
    _, config = guess(folder)
    assert (config.data.events.user_id, config.data.events.item_id) == (user, item)
    assert config.data.events.time == "when"


# Roles


@pytest.mark.parametrize(
    ("levels", "positive"),
    [([1, 2, 3, 4, 5], 4), ([0.5, 1, 2.5, 3, 4, 5], 4), (list(range(1, 11)), 8), ([-1, 1], 1),
     (list(range(11)), 7)],
)  # fmt: skip
def test_guess_rating_upper_part_is_positive(
    folder: Path, levels: list[float], positive: float
) -> None:
    write_csv(folder / "events.csv", log(rating=lambda draw, n: levels[n % len(levels)]))
    text, config = guess(folder)
    assert config.data.events.rating == "rating"
    assert config.data.events.positive_rating == positive
    share = sum(level >= positive for level in levels) / len(levels)
    stated = re.search(r"(\d+)% of the first rows", comment_on(text, "positive_rating"))
    assert stated
    assert abs(int(stated[1]) / 100 - share) < 0.02


def test_guess_kinds_known_words_get_labels_and_weights(folder: Path) -> None:
    kinds = ["impression", "click", "add_to_cart", "purchase", "remove_from_cart", "wibble"]
    write_csv(folder / "events.csv", log(event_type=lambda draw, n: kinds[n % 6]))
    text, config = guess(folder)
    assert config.data.events.kind == "event_type"
    found = {
        name: (kind.label, kind.weight, kind.ranked, kind.target)
        for name, kind in config.data.events.kinds.items()
    }
    assert found == {
        "impression": (0, 1.0, True, True),
        "click": (1, 1.0, True, True),
        "add_to_cart": (1, 2.0, False, False),
        "purchase": (1, 3.0, False, False),
        "remove_from_cart": (0, 1.0, False, True),
        "wibble": (1, 1.0, True, True),
    }
    assert "is it wanted (1) or not (0)?" in comment_on(text, "wibble")


def test_guess_kinds_of_purchases_alone_are_targets(folder: Path) -> None:
    write_csv(folder / "events.csv", log(event=lambda draw, n: "purchase"))
    _, config = guess(folder)
    assert config.data.events.kinds["purchase"].target
    assert config.data.events.kinds["purchase"].ranked


def test_guess_label_of_0_and_1_wins_over_rating(folder: Path) -> None:
    columns = {"clicked": lambda draw, n: n % 4 == 0, "rating": lambda draw, n: n % 5}
    rows = [row | {"clicked": int(row["clicked"])} for row in log(**columns)]
    write_csv(folder / "events.csv", rows)
    text, config = guess(folder)
    assert config.data.events.label == "clicked"
    assert config.data.events.rating is None
    assert "25.0% of the first rows are 1" in comment_on(text, "label")


@pytest.mark.parametrize(
    ("write", "unit", "form"),
    [(lambda t: t.isoformat(), "s", None),
     (lambda t: int(t.timestamp()), "s", None),
     (lambda t: int(t.timestamp() * 1000), "ms", None),
     (lambda t: f"{t:%Y-%m-%d %H:%M:%S} UTC", "s", None),
     (lambda t: f"{t:%m/%d/%Y %I:%M:%S %p}", "s", "%m/%d/%Y %I:%M:%S %p"),
     (lambda t: f"{t:%d.%m.%Y %H:%M}", "s", "%d.%m.%Y %H:%M")],
)  # fmt: skip
def test_guess_time_any_form_is_read_as_meant(
    folder: Path, write: Any, unit: str, form: str | None
) -> None:
    times = [START + timedelta(hours=n) for n in range(1200)]
    rows = log(1200)
    rows = [row | {"time": write(time)} for row, time in zip(rows, times, strict=True)]
    write_csv(folder / "events.csv", rows)
    text, config = guess(folder)
    assert config.data.events.time == "time"
    assert config.data.events.time_unit == unit
    assert config.data.events.time_format == form
    assert comment_on(text, "time: time") == "the first rows tell 2025-03-01 to 2025-04-20"
    target = folder.parent / "prepared"
    target.mkdir()
    report = prepare(read_source(config.data, config.seed), config, target)
    assert report["split"]["first_time"]["train"].startswith("2025-03-01T08:00")


def test_guess_further_roles_by_name_and_values(folder: Path) -> None:
    columns = {
        "search_query": lambda draw, n: draw.choice(["red lamp", "old chair", ""]),
        "position": lambda draw, n: draw.randrange(1, 20),
        "impression_id": lambda draw, n: n // 5,
        "device_type": lambda draw, n: draw.choice(["phone", "desktop"]),
        "watch_seconds": lambda draw, n: draw.randrange(300),
        "importance": lambda draw, n: draw.choice([0.5, 1.5]),
        "basket_total": lambda draw, n: draw.random() * 90,
    }
    write_csv(folder / "events.csv", log(**columns))
    text, config = guess(folder)
    events = config.data.events
    assert events.query == "search_query"
    assert events.position == "position"
    assert events.impression == "impression_id"
    assert events.watch_time == "watch_seconds"
    assert events.weight == "importance"
    assert {name: f.type for name, f in events.context.items()} == {"device_type": "category"}
    assert "# Left out: basket_total: no role known" in text


def test_guess_rows_without_user_are_to_be_dropped(folder: Path) -> None:
    rows = [row | {"user_id": "" if n % 50 == 0 else row["user_id"]} for n, row in enumerate(log())]
    write_csv(folder / "events.csv", rows)
    text, config = guess(folder)
    assert config.data.cleaning.bad_cells == "repair"
    assert "some rows lack user_id" in comment_on(text, "bad_cells")


# Order and split


def without_time(rows: list[Row]) -> list[Row]:
    return [{name: cell for name, cell in row.items() if name != "time"} for row in rows]


def test_guess_rows_grouped_by_item_are_shuffled(folder: Path) -> None:
    rows = sorted(without_time(log()), key=lambda row: row["item_id"])
    write_csv(folder / "events.csv", rows)
    _, config = guess(folder)
    assert config.data.events.time is None
    assert config.data.events.order == "shuffled"
    assert config.data.split.kind == "user_ratio"


def test_guess_rows_grouped_by_user_keep_their_order(folder: Path) -> None:
    rows = sorted(without_time(log()), key=lambda row: row["user_id"])
    write_csv(folder / "events.csv", rows)
    _, config = guess(folder)
    assert config.data.events.order == "rows"
    assert config.data.split.kind == "leave_one_out"


def test_guess_users_items_sorted_by_id_are_shuffled(folder: Path) -> None:
    pairs = sorted({(int(row["user_id"][1:]), int(row["item_id"][1:])) for row in log()})
    rows = [{"user_id": user, "item_id": item} for user, item in pairs]
    write_csv(folder / "events.csv", rows)
    _, config = guess(folder)
    assert config.data.events.order == "shuffled"


def test_guess_train_and_validation_files_give_fixed_moments(folder: Path) -> None:
    rows = log(1000)
    write_csv(folder / "train_log.csv", rows[:800])
    write_csv(folder / "validation_log.csv", rows[800:])
    _, config = guess(folder)
    split = config.data.split
    assert config.data.tables is not None
    assert config.data.tables.events[0].path == "*_log.csv"
    assert split.validation_from is not None
    assert split.test_from is not None
    # 800 rows of 7 minutes: the later file begins 5600 minutes after the start, 05:20.
    assert split.test_from == "2025-03-05T05:20:00"
    # The last tenth of train, 560 minutes, and down to the hour.
    assert split.validation_from == "2025-03-04T20:00:00"


def test_guess_three_files_give_both_moments(folder: Path) -> None:
    rows = log(1000)
    for name, part in (("train", rows[:600]), ("valid", rows[600:800]), ("test", rows[800:])):
        part = [row | {"time": datetime.fromisoformat(row["time"])} for row in part]
        pl.DataFrame(part).write_parquet(folder / f"{name}.parquet")
    _, config = guess(folder)
    assert config.data.split.validation_from == "2025-03-04T06:00:00"
    assert config.data.split.test_from == "2025-03-05T05:20:00"


def test_guess_split_files_of_one_time_are_given(folder: Path) -> None:
    rows = log(1000)
    write_csv(folder / "train.csv", rows[::2])
    write_csv(folder / "test.csv", rows[1::2])
    _, config = guess(folder)
    assert config.data.split.kind == "given"
    assert config.data.events.split == "split"
    counts = read_events(config)["split"].value_counts()
    assert dict(counts.iter_rows()) == {"train": 500, "test": 500}


def test_guess_split_column_is_used(folder: Path) -> None:
    write_csv(folder / "events.csv", log(fold=lambda draw, n: "test" if n > 350 else "train"))
    _, config = guess(folder)
    assert config.data.events.split == "fold"
    assert config.data.split.kind == "given"


# Lists in rows


def shown_rows(rows: int = 120) -> list[Row]:
    draw = random.Random(5)
    made = []
    for number in range(rows):
        shown = draw.sample(range(100, 140), draw.randrange(4, 9))
        made.append({
            "impression_id": number, "user_id": draw.randrange(25),
            "impression_time": START.replace(tzinfo=None) + timedelta(minutes=3 * number),
            "device": draw.choice([1, 2]), "article_ids_inview": shown,
            "article_ids_clicked": draw.sample(shown, draw.randrange(1, 3)),
        })  # fmt: skip
    return made


def expected_of_shown(rows: list[Row]) -> list[tuple[str, str, str]]:
    return [
        (str(row["user_id"]), str(item),
         "clicked" if item in row["article_ids_clicked"] else "shown")
        for row in rows
        for item in row["article_ids_inview"]
    ]  # fmt: skip


def found_events(config: Config) -> list[tuple[str, str, str]]:
    declared = config.data.events
    assert declared.kind is not None
    names = [declared.user_id, declared.item_id, declared.kind]
    frame = read_events(config).select(pl.col(name).cast(pl.String) for name in names)
    return frame.rows()


def test_guess_lists_of_shown_and_clicked_become_events(folder: Path) -> None:
    rows = shown_rows()
    pl.DataFrame(rows).write_parquet(folder / "behaviors.parquet")
    text, config = guess(folder)
    assert found_events(config) == expected_of_shown(rows)
    kinds = config.data.events.kinds
    assert (kinds["shown"].label, kinds["clicked"].label) == (0, 1)
    assert config.data.events.impression == "impression_id"
    assert config.data.events.time == "impression_time"
    assert "in 100.0% of the rows" in text


def test_guess_text_lists_of_shown_and_clicked_become_events(folder: Path) -> None:
    rows = shown_rows()
    texts = [
        row | {name: ",".join(map(str, row[name])) for name in row if name.startswith("article")}
        for row in rows
    ]
    write_csv(folder / "behaviors.tsv", texts, delimiter="\t")
    _, config = guess(folder)
    assert found_events(config) == expected_of_shown(rows)


def test_guess_python_lists_in_text_become_events(folder: Path) -> None:
    rows = shown_rows()
    write_csv(folder / "behaviors.csv", rows)
    _, config = guess(folder)
    assert found_events(config) == expected_of_shown(rows)


def test_guess_history_lists_become_another_part(folder: Path) -> None:
    rows = shown_rows()
    pl.DataFrame(rows).write_parquet(folder / "behaviors.parquet")
    early = START.replace(tzinfo=None) - timedelta(days=20)
    draw = random.Random(6)
    histories = []
    for user in range(25):
        items = draw.sample(range(100, 140), 5)
        histories.append({
            "user_id": user, "article_id_fixed": items,
            "impression_time_fixed": [early + timedelta(hours=n) for n in range(5)],
            "read_time_fixed": [float(n) for n in range(5)],
        })  # fmt: skip
    pl.DataFrame(histories).write_parquet(folder / "history.parquet")
    _, config = guess(folder)
    expected = [
        (str(row["user_id"]), str(item), "history")
        for row in histories
        for item in row["article_id_fixed"]
    ]
    assert found_events(config) == expected_of_shown(rows) + expected
    history = config.data.events.kinds["history"]
    assert (history.label, history.ranked) == (1, False)
    frame = read_events(config)
    assert config.data.events.time is not None
    assert frame[config.data.events.time].min() == early
    assert config.data.events.watch_time == "read_time_fixed"
    target = folder.parent / "prepared"
    target.mkdir()
    report = prepare(read_source(config.data, config.seed), config, target)
    assert report["rows"]["events"]["read"] == len(expected_of_shown(rows)) + len(expected)


def test_guess_marked_items_and_histories_without_header(folder: Path) -> None:
    """As in MIND: N12-1 was clicked, N12-0 was not; histories are older than the log."""
    draw = random.Random(7)
    rows = []
    for number in range(200):
        items = draw.sample(range(40), 6)
        shown = " ".join(f"N{item}-{int(n == 0)}" for n, item in enumerate(items))
        past = " ".join(f"N{item}" for item in draw.sample(range(40), 4)) if number % 9 else ""
        time = START + timedelta(minutes=number)
        rows.append({
            "impression": 5000 + number, "user": f"U{draw.randrange(30)}",
            "time": f"{time:%m/%d/%Y %I:%M:%S %p}", "past": past, "shown": shown,
        })  # fmt: skip
    write_csv(folder / "behaviors.tsv", rows, "\t", header=False)
    news = [{"news_id": f"N{n}", "title": f"{NOUNS[n % 10]} of the day {n}"} for n in range(40)]
    write_csv(folder / "news.tsv", news, "\t")
    _, config = guess(folder)
    expected = []
    for row in rows:
        for token in row["shown"].split():
            item, mark = token.split("-")
            expected.append((row["user"], item, "clicked" if mark == "1" else "shown"))
    for row in rows:
        expected += [(row["user"], item, "history") for item in row["past"].split()]
    assert found_events(config) == expected
    assert config.data.items.item_id == "news_id"
    declared = config.data.events
    frame = read_events(config)
    assert declared.time is not None
    assert declared.time_format is not None
    times = frame.select(pl.col(declared.time).str.to_datetime(declared.time_format))[declared.time]
    kinds = frame["kind"]
    assert times.filter(kinds == "history").max() < times.filter(kinds != "history").min()  # type: ignore[operator]
    assert declared.impression is not None
    assert frame.filter(kinds == "history")[declared.impression].null_count() == sum(
        kinds == "history"
    )


def test_guess_lines_of_ids_become_sequences(folder: Path) -> None:
    draw = random.Random(8)
    lines = [[user, *draw.sample(range(30), draw.randrange(3, 8))] for user in range(60)]
    text = "\n".join(" ".join(map(str, line)) for line in lines) + "\n"
    (folder / "sequences.txt").write_text(text)
    items = [{"item_id": n, "title": f"{NOUNS[n % 10]} and more {n}"} for n in range(30)]
    write_csv(folder / "items.csv", items)
    _, config = guess(folder)
    frame = read_events(config).select("user_id", "item_id")
    assert frame.rows() == [
        (str(user), str(item)) for user, *chosen in lines for item in chosen
    ]  # fmt: skip
    assert config.data.events.time is None
    assert config.data.events.order == "rows"
    assert config.data.split.kind == "leave_one_out"


def test_guess_clicks_and_purchases_in_files_of_their_own(folder: Path) -> None:
    clicks = [{"session_id": r["user_id"], "timestamp": r["time"], "item_id": r["item_id"]}
              for r in log(400)]  # fmt: skip
    purchases = [row | {"price": 5} for row in clicks[::7]]
    write_csv(folder / "clicks.csv", clicks)
    write_csv(folder / "purchases.csv", purchases)
    _, config = guess(folder)
    kinds = config.data.events.kinds
    assert {name: kind.weight for name, kind in kinds.items()} == {"click": 1.0, "purchase": 3.0}
    assert len(found_events(config)) == len(clicks) + len(purchases)


def test_guess_another_log_is_left_out_with_the_reason(folder: Path) -> None:
    write_csv(folder / "ratings.csv", log(600, rating=lambda draw, n: draw.randrange(1, 6)))
    write_csv(folder / "tags.csv", log(100, tag=lambda draw, n: draw.choice(NOUNS)))
    text, config = guess(folder)
    assert config.data.tables is not None
    assert config.data.tables.events[0].path == "ratings.csv"
    assert "# Left out: tags.csv: another log" in text


# Features


def test_guess_item_columns_become_what_they_look_like(folder: Path) -> None:
    columns = {
        "description": lambda draw, n: f"a {draw.choice(NOUNS)} made by hand in the year {n}",
        "category": lambda draw, n: draw.choice(["indoor", "outdoor", "garden"]),
        "price": lambda draw, n: round(draw.lognormvariate(3, 2), 2),
        "width": lambda draw, n: draw.randrange(50, 150) + 0.5,
        "genres": lambda draw, n: "|".join(draw.sample(["old", "new", "red", "blue"], 2)),
        "year": lambda draw, n: draw.randrange(1950, 2020),
        "released": lambda draw, n: f"2020-01-{draw.randrange(1, 28):02}",
        "added": lambda draw, n: f"{draw.randrange(1, 28):02}-Jan-2020",
        "image_url": lambda draw, n: f"https://example.com/{n}.jpg",
        "average_rating": lambda draw, n: draw.random() * 5,
        "isbn": lambda draw, n: 9780000000000 + draw.randrange(10**9),
        "empty": lambda draw, n: "",
        "same": lambda draw, n: "one",
    }
    write_csv(folder / "events.csv", log(1000))
    rows = catalogue(200, **columns)
    write_csv(folder / "items.csv", rows)
    text, config = guess(folder)
    items = config.data.items
    assert items.text == ["title", "description"]
    assert {name: feature.type for name, feature in items.features.items()} == {
        "category": "category", "price": "number", "width": "number", "genres": "category_list",
        "year": "number", "released": "date", "added": "date",
    }  # fmt: skip
    assert items.features["price"].scale == "log"
    assert items.features["width"].scale == "linear"
    assert "Left out: image_url: addresses of pages or pictures." in text
    assert "Left out: average_rating: counts what people did" in text
    assert "Left out: isbn: hardly a value stands twice, like ids." in text
    assert config.data.tables is not None
    assert config.data.tables.items is not None
    (batch,) = read_batches(config.data.tables.items, config.data.path)
    expected = [datetime.strptime(row["added"], "%d-%b-%Y") for row in rows]
    assert batch.frame["added"].to_list() == expected


def test_guess_personal_columns_are_never_written(folder: Path) -> None:
    columns = {
        "name": lambda draw, n: f"Ann{n} Smith{n}",
        "contact": lambda draw, n: f"ann{n}@example.com",
        "phone": lambda draw, n: f"+49 30 {1000000 + n}",
        "zip": lambda draw, n: f"{10000 + n}",
        "last_seen_from": lambda draw, n: f"10.0.0.{n}",
    }
    write_csv(folder / "events.csv", log())
    write_csv(folder / "items.csv", catalogue())
    write_csv(folder / "users.csv", people(**columns))
    _, config = guess(folder)
    assert set(config.data.privacy.never_write) == set(columns)
    assert set(config.data.users.features) == {"age", "gender"}


def test_guess_user_ids_that_are_e_mails_ask_for_pseudonyms(folder: Path) -> None:
    rows = [row | {"user_id": f"{row['user_id']}@example.com"} for row in log()]
    write_csv(folder / "events.csv", rows)
    text, config = guess(folder)
    assert config.data.privacy.never_write == []
    assert "set privacy.pseudonym_key" in text


def test_guess_user_attributes_in_the_log_become_users(folder: Path) -> None:
    rows = log()
    for row in rows:
        number = int(row["user_id"][1:])
        row |= {"gender": "fm"[number % 2], "country": ["de", "fr", "it"][number % 3]}
        row |= {"next_read": random.random()}
    write_csv(folder / "events.csv", rows)
    _, config = guess(folder)
    assert config.data.tables is not None
    assert config.data.tables.users == [TableFile(path="events.csv")]
    assert config.data.users.duplicates == "last"
    assert set(config.data.users.features) == {"gender", "country"}
    assert config.data.items.title is None
    assert config.data.items.text == []


def test_guess_item_attributes_in_the_log_become_items(folder: Path) -> None:
    rows = log()
    for row in rows:
        number = int(row["item_id"][1:])
        row |= {"title": f"{NOUNS[number % 10]} of kind {number}", "brand": f"b{number % 4}"}
    write_csv(folder / "events.csv", rows)
    _, config = guess(folder)
    assert config.data.items.title == "title"
    assert config.data.items.duplicates == "first"
    assert set(config.data.items.features) == {"brand"}


def test_guess_features_named_like_tfrecs_own_are_left_out(folder: Path) -> None:
    write_csv(folder / "events.csv", log())
    write_csv(folder / "users.csv", people(history=lambda draw, n: draw.choice("abc")))
    text, config = guess(folder)
    assert "history" not in config.data.users.features
    assert "Left out: history: tfrec uses this name itself" in text


# The page


@pytest.mark.parametrize("seed", range(12))
def test_guess_odd_names_and_cells_always_load(folder: Path, seed: int) -> None:
    draw = random.Random(seed)
    odd = ["a: b", "c # d", "e's", "- f", "null", "yes", "{g}", "ü ñ", "*", "&x", "%", "1e3", "@"]
    draw.shuffle(odd)
    cells = ["x: 1", "# y", "z'", "true", "null", "~", "[q", "ä"]
    extra = {name: lambda draw, n: draw.choice(cells) for name in odd[:4]}
    more = {name: lambda draw, n: draw.randrange(50) for name in odd[4:7]}
    kinds = draw.sample(cells, 3)
    event = {"event": lambda draw, n: draw.choice(["click", "view", *kinds])}
    write_csv(folder / "log: #1.csv", log(seed=seed, **event, **more))
    write_csv(folder / "it's items.csv", catalogue(**extra, **more))
    write_csv(folder / "users.csv", people(**extra))
    _, config = guess(folder)
    assert config.data.tables is not None
    assert config.data.tables.events[0].path == "log: #1.csv"
    assert "click" in config.data.events.kinds
    target = folder.parent / "prepared"
    target.mkdir()
    report = prepare(read_source(config.data, config.seed), config, target)
    assert report["rows"]["events"]["kept"] == 400


def test_write_page_scalars_come_back_as_they_were(tmp_path: Path) -> None:
    values = ["no", "~", "1", "a: b", "tab\there", "'", '"', "\u2028", "\U0001f600", "x #y", "-"]
    entries = [Entry("k", [Entry(value, value, "why") for value in values], "why")]
    text = write_page([*entries, Entry("number", 1.5), Entry("list", values)])
    from ruamel.yaml import YAML

    tree = YAML(typ="safe", pure=True).load(text)
    assert tree == {"k": {value: value for value in values}, "number": 1.5, "list": values}


def test_words_of_any_spelling_are_one() -> None:
    assert words_of("userId") == words_of("user_id") == words_of("UserID") == words_of("userid")
    assert words_of("article_ids_inview") == ["article", "ids", "inview"]


@pytest.mark.parametrize(
    ("kind", "stage"),
    [("impression", 0), ("page_view", 1), ("AddToCart", 2), ("PURCHASE", 3), ("unlike", 0),
     ("remove-from-cart", 0), ("wibble", None)],
)  # fmt: skip
def test_stage_of_kind_words(kind: str, stage: int | None) -> None:
    assert stage_of(kind) == stage


# Real files


@pytest.mark.parametrize(
    ("name", "user", "item", "split", "num_events"),
    [
        ("goodbooks-10k", "user_id", "book_id", "user_ratio", 981_756),
        ("ebnerd-demo", "user_id", "item_id", "time", None),
        ("amazon-beauty", "user_id", "item_id", "leave_one_out", 198_502),
        ("mind-small", "user_id", "item_id", "time", None),
        ("ml-100k", "user_id", "item_id", "time", 100_000),
        ("ml-1m-half", "user_id", "item_id", "time", 487_650),
    ],
)
def test_guess_real_folder_prepares_without_an_edit(
    data_folder: Path, tmp_path: Path, name: str, user: str, item: str, split: str,
    num_events: int | None,
) -> None:  # fmt: skip
    text = guess_config([data_folder / name])
    assert_reasons(text)
    (tmp_path / "guessed.yaml").write_text(text)
    config = load_config(tmp_path / "guessed.yaml")
    assert (config.data.events.user_id, config.data.events.item_id) == (user, item)
    assert config.data.split.kind == split
    report = prepare(read_source(config.data, config.seed), config, tmp_path)
    read, kept = (report["rows"]["events"][key] for key in ("read", "kept"))
    assert num_events is None or read == num_events
    assert kept > 0.8 * read
    assert all(report["split"]["targets"][part] for part in ("train", "validation", "test"))


def test_guess_goodbooks_names_the_right_id(data_folder: Path) -> None:
    text = guess_config([data_folder / "goodbooks-10k"])
    assert "holds 100% of the first events' items (book_id 24%" in text


def test_guess_ebnerd_cuts_where_its_files_do(data_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "guessed.yaml").write_text(guess_config([data_folder / "ebnerd-demo"]))
    data = load_config(tmp_path / "guessed.yaml").data
    assert data.split.test_from == "2023-05-25T07:00:00"
    assert set(data.users.features) == {"age", "gender", "is_sso_user", "is_subscriber"}
    assert data.privacy.never_write == ["postcode"]
    assert {name: kind.label for name, kind in data.events.kinds.items()} == {
        "shown": 0, "clicked": 1, "history": 1,
    }  # fmt: skip
