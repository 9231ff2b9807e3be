import gzip
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tfrec.config import TableFile
from tfrec.data.read import read_table, require_columns
from tfrec.errors import DataError

TABLE = pl.DataFrame({"user_id": ["u1", "u2"], "title": ["Amélie", "a,b"], "n": ["1", None]})
CSV = 'user_id,title,n\nu1,Amélie,1\nu2,"a,b",\n'
TSV = "user_id\ttitle\tn\nu1\tAmélie\t1\nu2\ta,b\t\n"
PIPES = "u1|Amélie|1\nu2|a,b|\n"
NAMES = list(TABLE.columns)


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("t.csv", CSV.encode(), {}),
        ("t.CSV", CSV.encode(), {}),
        ("t.csv", CSV.replace("\n", "\r\n").encode(), {}),
        ("t.csv", b"\xef\xbb\xbf" + CSV.encode(), {}),  # byte order mark of spreadsheets
        ("t.csv", CSV.encode("latin-1"), {"encoding": "latin-1"}),
        ("t.csv.gz", gzip.compress(CSV.encode()), {}),
        ("t.csv.gz", gzip.compress(CSV.encode("latin-1")), {"encoding": "latin-1"}),
        ("t.tsv", TSV.encode(), {}),
        ("t.tsv.gz", gzip.compress(TSV.encode()), {}),
        ("t.csv", TSV.encode(), {"delimiter": "\t"}),
        ("t.csv", PIPES.encode(), {"delimiter": "|", "columns": NAMES}),
        ("u.data", PIPES.encode("latin-1"),
         {"delimiter": "|", "columns": NAMES, "encoding": "latin-1"}),
    ],
)  # fmt: skip
def test_csv_of_any_form_gives_the_same_text(
    tmp_path: Path, name: str, content: bytes, settings: dict
):
    (tmp_path / name).write_bytes(content)
    frame = read_table(TableFile(path=name, **settings), tmp_path)
    assert_frame_equal(frame, TABLE)


def test_csv_keeps_leading_zeros_and_long_numbers_as_text(tmp_path: Path):
    (tmp_path / "t.csv").write_text("id\n007\n12345678901234567890\n1.0\n")
    frame = read_table(TableFile(path="t.csv"), tmp_path)
    assert frame["id"].to_list() == ["007", "12345678901234567890", "1.0"]


def test_headerless_csv_keeps_lone_quotes(tmp_path: Path):
    (tmp_path / "u.item").write_text('1|6" disc\n2|"half\n')
    frame = read_table(TableFile(path="u.item", delimiter="|", columns=["id", "title"]), tmp_path)
    assert frame["title"].to_list() == ['6" disc', '"half']


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl", "t.ndjson"])
def test_typed_files_keep_types(tmp_path: Path, name: str):
    table = TABLE.with_columns(n=pl.Series([1, None]), tags=pl.Series([["a", "b"], []]))
    write = table.write_parquet if name == "t.parquet" else table.write_ndjson
    write(tmp_path / name)
    assert_frame_equal(read_table(TableFile(path=name), tmp_path), table)


def test_path_without_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "t.csv").write_text(CSV, encoding="utf8")
    assert read_table(TableFile(path=str(tmp_path / "t.csv"))).height == 2
    assert read_table(TableFile(path=str(tmp_path / "t.csv")), "elsewhere").height == 2
    monkeypatch.chdir(tmp_path)
    assert read_table(TableFile(path="t.csv")).height == 2


BIG = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * 7919 % 104729) for i in range(9999)))


@pytest.mark.parametrize(
    ("name", "content", "settings", "expected"),
    [
        ("t.csv", b"", {}, "wanted at least one row, the table is empty."),
        ("t.csv", b"a,b\n", {}, "wanted at least one row, the table is empty."),
        ("t.csv", b"", {"columns": ["a"]}, "wanted at least one row, the table is empty."),
        ("t.csv.gz", gzip.compress(b""), {}, "wanted at least one row, the table is empty."),
        ("t.jsonl", b"", {}, "cannot be read: "),
        ("t.csv.gz", BIG[:-4000], {}, "cannot be read: unexpected end of file"),
        ("t.csv.gz", BIG[:-4000], {"encoding": "latin-1"}, "cannot be read: Compressed file ended"),
        ("t.csv.gz", b"a,b\n1,2\n", {"encoding": "latin-1"}, "cannot be read: Not a gzipped file"),
        ("t.csv", CSV.encode("latin-1"), {}, "cannot be read: invalid utf-8 sequence"),
        ("t.csv", CSV.encode(), {"encoding": "utf9"}, "cannot be read: unknown encoding: utf9"),
        ("t.csv", CSV.encode(), {"delimiter": "é"}, "cannot be read: separator="),
        ("t.csv", b"a,b\n1,2,3\n", {}, "cannot be read: found more fields than defined"),
        ("t.parquet", b"PAR1 nothing", {}, "cannot be read: "),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', {}, "cannot be read: "),
        ("t.txt", b"a,b\n1,2\n", {}, "unknown kind of table; wanted a name ending in one of .csv"),
        ("t", b"a,b\n1,2\n", {}, "unknown kind of table; wanted a name ending in one of .csv"),
    ],
)  # fmt: skip
def test_file_that_holds_no_table_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, settings: dict, expected: str
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_table(TableFile(path=name, **settings), tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / name}: {expected}")
    assert "\n" not in str(caught.value)


def test_headerless_csv_with_wrong_delimiter_names_both_widths(tmp_path: Path):
    (tmp_path / "u.data").write_text("1\t2\t3\n")
    with pytest.raises(DataError) as caught:
        read_table(TableFile(path="u.data", columns=["user", "item", "time"]), tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / 'u.data'}: wanted 3 columns (user, item, time), row 1 has 1. "
        "Check the delimiter ','."
    )


def test_missing_file_names_nearest_neighbour(tmp_path: Path):
    (tmp_path / "events.csv").write_text(CSV, encoding="utf8")
    (tmp_path / "items.csv").write_text(CSV, encoding="utf8")
    with pytest.raises(DataError) as caught:
        read_table(TableFile(path="event.csv"), tmp_path)
    expected = f"{tmp_path / 'event.csv'}: no such file. Did you mean 'events.csv'?"
    assert str(caught.value) == expected


def test_missing_file_in_missing_folder_names_the_folder(tmp_path: Path):
    with pytest.raises(DataError, match=r"The folder .*nowhere does not exist either"):
        read_table(TableFile(path="t.csv"), tmp_path / "nowhere")


def test_folder_in_place_of_file_is_refused(tmp_path: Path):
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(DataError, match="no such file"):
        read_table(TableFile(path="t.csv"), tmp_path)


def test_require_columns_names_first_missing_and_nearest():
    require_columns(TABLE, ["n", "title"], "t.csv")
    with pytest.raises(DataError) as caught:
        require_columns(TABLE, ["n", "userid", "zzz"], "t.csv")
    assert str(caught.value) == (
        "t.csv: column 'userid' is missing. Did you mean 'user_id'? Columns there: "
        "user_id, title, n."
    )
