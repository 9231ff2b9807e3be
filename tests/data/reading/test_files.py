import csv
import gzip
import io
import random
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tfrec.config import TableFile
from tfrec.data.reading import text
from tfrec.data.reading.files import find_files, frame_batches, read_batches, require_columns
from tfrec.errors import DataError

TABLE = pl.DataFrame({"user_id": ["u1", "u2"], "title": ["Amélie", "a,b"], "n": ["1", None]})
CSV = 'user_id,title,n\nu1,Amélie,1\nu2,"a,b",\n'
TSV = "user_id\ttitle\tn\nu1\tAmélie\t1\nu2\ta,b\t\n"
PIPES = "u1|Amélie|1\nu2|a,b|\n"
NAMES = list(TABLE.columns)
MARK = b"\xef\xbb\xbf"


def case(title: str, name: str, content: bytes, **settings):
    return pytest.param(name, content, settings, id=title)


def read(folder: Path, hidden: tuple[str, ...] = (), **table) -> pl.DataFrame:
    batches = list(read_batches([TableFile(**table)], folder, hidden))
    return pl.concat([batch.frame for batch in batches])


def read_rows(folder: Path, **table) -> list[int]:
    return [row for batch in read_batches([TableFile(**table)], folder) for row in batch.rows]


def fail(folder: Path, **table) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, **table)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        case("plain", "t.csv", CSV.encode()),
        case("suffix in capitals", "t.CSV", CSV.encode()),
        case("ends of lines of Windows", "t.csv", CSV.replace("\n", "\r\n").encode()),
        case("ends of lines of old Macintosh", "t.csv", CSV.replace("\n", "\r").encode()),
        case("blank lines first", "t.csv", b"\n\n" + CSV.encode()),
        case("no end of the last line", "t.csv", CSV.encode().rstrip(b"\n")),
        case("byte-order mark of spreadsheets", "t.csv", MARK + CSV.encode()),
        case("byte-order mark, declared", "t.csv", MARK + CSV.encode(), encoding="utf-8-sig"),
        case("latin-1", "t.csv", CSV.encode("latin-1"), encoding="latin-1"),
        case("utf-16", "t.csv", CSV.encode("utf-16"), encoding="utf-16"),
        case("gzip", "t.csv.gz", gzip.compress(CSV.encode())),
        case("gzip padded by a tape", "t.csv.gz", gzip.compress(CSV.encode()) + bytes(512)),
        case("gzip of two members", "t.csv.gz",
             gzip.compress(CSV[:20].encode()) + gzip.compress(CSV[20:].encode())),
        case("gzip without its suffix", "t.csv", gzip.compress(CSV.encode())),
        case("gzip of a byte-order mark", "t.csv.gz", gzip.compress(MARK + CSV.encode())),
        case("gzip of latin-1", "t.csv.gz", gzip.compress(CSV.encode("latin-1")),
             encoding="latin-1"),
        case("tsv", "t.tsv", TSV.encode()),
        case("gzip of tsv", "t.tsv.gz", gzip.compress(TSV.encode())),
        case("tabs, declared", "t.csv", TSV.encode(), delimiter="\t"),
        case("delimiter of two letters", "t.csv", TSV.replace("\t", "::").encode(),
             delimiter="::"),
        case("delimiter beyond ASCII", "t.csv", TSV.replace("\t", "¦").encode(), delimiter="¦"),
        case("single quotes", "t.csv", CSV.replace('"', "'").encode(), quote="'"),
        case("no header", "t.csv", PIPES.encode(), delimiter="|", columns=NAMES),
        case("no header, latin-1", "u.data", PIPES.encode("latin-1"),
             delimiter="|", columns=NAMES, encoding="latin-1"),
        case("unknown suffix", "export.txt", CSV.encode(), format="csv"),
    ],
)  # fmt: skip
def test_csv_of_any_form_gives_the_same_text(
    tmp_path: Path, name: str, content: bytes, settings: dict
):
    (tmp_path / name).write_bytes(content)
    assert_frame_equal(read(tmp_path, path=name, **settings), TABLE)
    assert read_rows(tmp_path, path=name, **settings) == [1, 2]


def test_csv_keeps_leading_zeros_and_long_numbers_as_text(tmp_path: Path):
    (tmp_path / "t.csv").write_text("id\n007\n12345678901234567890\n1.0\n")
    assert read(tmp_path, path="t.csv")["id"].to_list() == ["007", "12345678901234567890", "1.0"]


def test_csv_without_quotes_keeps_lone_quotes(tmp_path: Path):
    (tmp_path / "u.item").write_text('1|6" disc\n2|"half\n')
    frame = read(tmp_path, path="u.item", delimiter="|", columns=["id", "title"], quote="")
    assert frame["title"].to_list() == ['6" disc', '"half']


def test_empty_delimiter_makes_a_line_one_cell(tmp_path: Path):
    (tmp_path / "t.txt").write_text('u1 a,b "c\n\x1fu2\tx\n')
    frame = read(tmp_path, path="t.txt", delimiter="", columns=["line"])
    assert frame["line"].to_list() == ['u1 a,b "c', "\x1fu2\tx"]


def test_cell_of_a_million_characters_passes(tmp_path: Path):
    (tmp_path / "t.csv").write_text("a,b\n1," + "x" * 1_000_000 + "\n2,y\n")
    frame = read(tmp_path, path="t.csv")
    assert frame["b"].str.len_bytes().to_list() == [1_000_000, 1]


def test_blank_lines_are_left_out_and_counted(tmp_path: Path):
    (tmp_path / "t.csv").write_text('a,b\n1,x\n\n2,"y\n\nz"\n,\n3,z\n\n')
    frame = read(tmp_path, path="t.csv")
    assert frame.rows() == [("1", "x"), ("2", "y\n\nz"), (None, None), ("3", "z")]
    assert read_rows(tmp_path, path="t.csv") == [1, 3, 4, 5]


def test_header_without_a_name_calls_the_column_by_its_number(tmp_path: Path):
    (tmp_path / "t.csv").write_text(",a,\n0,1,2\n")
    assert read(tmp_path, path="t.csv").columns == ["column 1", "a", "column 3"]


@pytest.mark.parametrize("block_bytes", [1, 7, 64, 8000])
@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("encoding", ["utf8", "utf-16"])
def test_blocks_of_any_size_give_the_rows_of_the_csv_module(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    block_bytes: int,
    is_compressed: bool,
    encoding: str,
):
    rng = random.Random(0)
    cells = ["x", "é", "a,b", 'say "hi"', "two\nlines", "\n\n", '"', "", "7"]
    rows = [[rng.choice(cells) for _ in range(3)] for _ in range(60)]
    rows = [[first, second, third or "end"] for first, second, third in rows]
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([["a", "b", "c"], *rows])
    data = file.getvalue().encode(encoding)
    (tmp_path / "t.csv").write_bytes(gzip.compress(data) if is_compressed else data)
    monkeypatch.setattr(text, "BLOCK_BYTES", block_bytes)
    table = TableFile(path="t.csv", encoding=encoding)
    batches = list(read_batches([table], tmp_path))
    found = [[cell or "" for cell in row] for batch in batches for row in batch.frame.rows()]
    assert found == rows
    assert [row for batch in batches for row in batch.rows] == list(range(1, 61))
    assert (len(batches) > 1) == (block_bytes < 8000)


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl", "t.ndjson", "t.jsonl.gz"])
def test_typed_files_keep_types(tmp_path: Path, name: str):
    table = TABLE.with_columns(n=pl.Series([1, None]), tags=pl.Series([["a", "b"], []]))
    if name == "t.parquet":
        table.write_parquet(tmp_path / name)
    else:
        text = table.write_ndjson().encode()
        (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    assert_frame_equal(read(tmp_path, path=name), table)


@pytest.mark.parametrize(
    ("name", "rows"), [("t.parquet", 250), ("t.csv", 250), ("t.jsonl", 250), ("nested.parquet", 9)]
)
def test_batches_hold_no_more_rows_than_wanted(tmp_path: Path, name: str, rows: int):
    table = pl.DataFrame({"a": [str(row) for row in range(rows)]})
    if name.endswith("parquet"):
        if name == "nested.parquet":
            table = table.select(pl.concat_list("a"))
        table.write_parquet(tmp_path / name, row_group_size=70)
    else:
        (table.write_csv if name == "t.csv" else table.write_ndjson)(tmp_path / name)
    batches = list(read_batches([TableFile(path=name)], tmp_path, batch_rows=100))
    assert max(batch.frame.height for batch in batches) <= 100
    assert len(batches) == -(-rows // 100)
    assert [row for batch in batches for row in batch.rows] == list(range(1, rows + 1))
    assert_frame_equal(pl.concat([batch.frame for batch in batches]), table)
    assert {batch.rows.dtype.name for batch in batches} == {"int64"}
    assert {batch.origin for batch in batches} == {str(tmp_path / name)}


LONG = "".join(f'{{"a": {row}}}\n' for row in range(500))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('{"a": 1}\n{"a": "x"}\n{"a": true}\n', ["1", "x", "true"]),
        (LONG + '{"a": "x"}\n', [*map(str, range(500)), "x"]),
        ('{"a": 1}\n{"a": 2.5}\n', [1.0, 2.5]),
        ('{"a": 1}\n{"a": 12345678901234567890}\n', [1, 12345678901234567890]),
        ('{"b": 1}\n{"a": null}\n{"a": 2}\n', [None, None, 2]),
        ('{"a": [1]}\n{"a": ["x", 2]}\n{"a": []}\n', [["1"], ["x", "2"], []]),
        ('{"a": "[1] one"}\n{"a": "x"}\n', ["[1] one", "x"]),
        ('{"a": {"b": 1}}\n{"a": {"b": 2.5, "c": 1}}\n',
         [{"b": 1.0, "c": None}, {"b": 2.5, "c": 1}]),
        ('\ufeff{"a": 1}\r\n\r\n{"a": 2}', [1, 2]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("block_bytes", [1, 8 << 20])
def test_json_lines_of_mixed_types_lose_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    content: str,
    expected: list,
    block_bytes: int,
):
    monkeypatch.setattr(text, "BLOCK_BYTES", block_bytes)
    (tmp_path / "t.jsonl").write_text(content, encoding="utf8")
    assert read(tmp_path, path="t.jsonl")["a"].to_list() == expected


def test_json_lines_count_blank_lines(tmp_path: Path):
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n\n  \n{"a": 2}\n')
    assert read_rows(tmp_path, path="t.jsonl") == [1, 4]


BIG = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * 7919 % 104729) for i in range(9999)))
DAMAGED = BIG[:-8] + b"\0\0\0\0" + BIG[-4:]  # the checksum


@pytest.mark.parametrize(
    ("name", "content", "settings", "expected"),
    [
        ("t.csv", b"", {}, "wanted at least one row, the table is empty."),
        ("t.csv", b"\n\n", {}, "wanted at least one row, the table is empty."),
        ("t.csv", b"a,b\n", {}, "wanted at least one row, the table is empty."),
        ("t.csv", b"a,b", {}, "wanted at least one row, the table is empty."),
        ("t.csv", b"", {"columns": ["a"]}, "wanted at least one row, the table is empty."),
        ("t.csv.gz", b"", {}, "wanted at least one row, the table is empty."),
        ("t.csv.gz", gzip.compress(b""), {}, "wanted at least one row, the table is empty."),
        ("t.jsonl", b"", {}, "wanted at least one row, the table is empty."),
        ("t.jsonl", b"{}\n{}\n", {}, "wanted at least one row, the table is empty."),
        ("t.csv.gz", b"a,b\n1,2\n", {}, "its name ends in .gz but it is not compressed."),
        ("t.csv", CSV.encode("utf-16"), {}, "it begins with the mark of UTF-16: set encoding: ut"),
        ("t.csv", CSV.encode("latin-1"), {},
         "row 1, column 'title': not valid UTF-8. The file may be in another encoding: set "
         "encoding: latin-1."),
        ("t.csv", b'a,b,c\n1,"x\ny",3\n4,"p\n,\x80q",6\n', {},
         "row 2, column 'b': not valid UTF-8. The file may be in another encoding: set encoding: "
         "cp1252."),
        ("t.csv", b"\xe9,b\n1,2\n", {}, "the header is not valid UTF-8. "),
        ("t.csv", "a\né\n".encode(), {"encoding": "ascii"}, "what follows is not ascii"),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", {},
         "row 2: wanted 2 cells (a, b), got 3. A cell that holds the delimiter ',' must stand in"),
        ("t.csv", b"a,b,c\n1,2,3\n1,2\n", {}, "row 2: wanted 3 cells (a, b, c), got 2."),
        ("t.csv", b"a::b\n1::2\n1::2::3\n", {"delimiter": "::"},
         "row 2: wanted 2 cells (a, b), got 3."),
        ("t.csv", b"a;b\n1,5;2\n", {},
         "row 1: wanted 1 cell (a;b), got 2. The header is one cell 'a;b': is the delimiter ';'?"),
        ("u.data", b"1\t2\t3\n", {"columns": ["u", "i", "t"]},
         "row 1: wanted 3 cells (u, i, t), got 1. Check the delimiter ','."),
        ("t.csv", b"a,b,a\n1,2,3\n", {}, "column 'a' stands 2 times in the header."),
        ("t.csv", b'a,b\n1,x\n2,6" disc\n3,y\n', {},
         'row 2: a quote " is not closed, or stands in the middle of a cell. If quotes are plain'),
        ("t.csv", b'a,b\n1,"x"\n2,"y" z\n', {}, 'row 2: a quote " is not closed, or stands'),
        ("t.csv", b'a,b\n1,x\n2,"half\n3,y\n', {}, 'row 2: a quote " is not closed, or stands'),
        ("t.csv", b"a,b\n1,2\n", {"quote": "“"}, "wanted an ASCII character as `quote`"),
        ("t.csv.gz", DAMAGED, {},
         "the compressed file is damaged; row 9999 is the last whole one."),
        ("t.parquet", b"PAR1 nothing", {}, "cannot be read as Parquet: "),
        ("t.parquet", b"", {}, "cannot be read as Parquet: "),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', {},
         "row 2: wanted one JSON object a line, but it is no JSON (Expecting value)."),
        ("t.jsonl", b'{"a": 1}\n{"a": NaN}\n', {},
         "row 2: wanted one JSON object a line, but it is no JSON (NaN is no JSON number; write "),
        ("t.jsonl", b'[{"a": 1}]\n', {}, "row 1: wanted one JSON object a line, got a list."),
        ("t.jsonl", b'{"a": 1}\n{"a": "\xe9"}\n', {}, "row 2: not valid UTF-8. The file may be in"),
        ("t.jsonl", b'{"a": 1}\n{"a": [2]}\n', {},
         "row 2, column 'a': wanted a plain value as in the rows before, got a list."),
        ("t.jsonl", b'{"a": ["x"]}\n{"a": null}\n{"a": "x"}\n', {},
         "row 3, column 'a': wanted a list as in the rows before, got a plain value."),
        ("t.jsonl", b'{"a": {"b": 1}}\n{"a": 1}\n', {},
         "row 2, column 'a': wanted an object as in the rows before, got a plain value."),
        ("t.txt", b"a,b\n1,2\n", {}, "unknown kind of table; wanted a name ending in one of .csv"),
        ("t", b"a,b\n1,2\n", {}, "unknown kind of table; wanted a name ending in one of .csv"),
    ],
)  # fmt: skip
def test_file_that_holds_no_table_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, settings: dict, expected: str
):
    (tmp_path / name).write_bytes(content)
    assert fail(tmp_path, path=name, **settings).startswith(f"{tmp_path / name}: {expected}")


@pytest.mark.parametrize("block_bytes", [1, 50])
@pytest.mark.parametrize(
    ("bad", "expected"),
    [
        ("20,x,y", "row 20: wanted 2 cells (a, b), got 3."),
        ("20", "row 20: wanted 2 cells (a, b), got 1."),
        ("20,\udce9", "row 20, column 'b': not valid UTF-8."),
        ('20,"half', 'row 20: a quote " is not closed'),
    ],
)
def test_bad_row_far_behind_is_named_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block_bytes: int, bad: str, expected: str
):
    rows = [f'{row},"a\nb"' for row in range(1, 40)]
    rows[19] = bad
    text_of_rows = "\n".join(["a,b", *rows, ""])
    (tmp_path / "t.csv").write_bytes(text_of_rows.encode("utf8", "surrogateescape"))
    monkeypatch.setattr(text, "BLOCK_BYTES", block_bytes)
    assert fail(tmp_path, path="t.csv").startswith(f"{tmp_path / 't.csv'}: {expected}")


@pytest.mark.parametrize("name", ["t.csv.gz", "t.jsonl.gz"])
def test_truncated_file_gives_its_whole_rows_and_names_the_last(tmp_path: Path, name: str):
    lines = ["a"] if "csv" in name else []
    lines += [
        f'"{row * 7919 % 104729}"' if "csv" in name else f'{{"a": {row}}}' for row in range(9999)
    ]
    data = gzip.compress("\n".join([*lines, ""]).encode())[:-4000]
    (tmp_path / name).write_bytes(data)
    found: list[int] = []
    batches = read_batches([TableFile(path=name)], tmp_path)
    with pytest.raises(DataError, match="the compressed file ends too early; row") as caught:
        found.extend(row for batch in batches for row in batch.rows)
    last = int(str(caught.value).split("; row ")[1].split()[0])
    assert 1000 < last < 9999
    if "csv" in name:  # JSON lines are looked through before any row is given out
        assert found == list(range(1, last + 1))


def test_missing_file_names_nearest_neighbour(tmp_path: Path):
    (tmp_path / "events.csv").write_text(CSV, encoding="utf8")
    (tmp_path / "items.csv").write_text(CSV, encoding="utf8")
    expected = f"{tmp_path / 'event.csv'}: no such file. Did you mean 'events.csv'?"
    assert fail(tmp_path, path="event.csv") == expected


def test_missing_file_in_missing_folder_names_the_folder(tmp_path: Path):
    assert fail(tmp_path / "nowhere", path="t.csv").endswith("nowhere does not exist either.")
    assert fail(tmp_path / "nowhere", path="*.csv").endswith("nowhere does not exist.")


def test_path_without_folder_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "t.csv").write_text(CSV, encoding="utf8")
    absolute = TableFile(path=str(tmp_path / "t.csv"))
    assert find_files(absolute) == find_files(absolute, "elsewhere") == [tmp_path / "t.csv"]
    pattern = TableFile(path=str(tmp_path / "*.csv"))
    assert find_files(pattern, "elsewhere") == [tmp_path / "t.csv"]
    monkeypatch.chdir(tmp_path)
    assert find_files(TableFile(path="t.csv")) == [Path("t.csv")]


def test_folder_pattern_and_list_name_files_in_order(tmp_path: Path):
    shards = tmp_path / "log"
    (shards / "day=2").mkdir(parents=True)
    names = ["b.csv", "a.csv.gz", "day=2/c.csv", "_SUCCESS", ".b.csv.crc", "notes.md"]
    for name in names:
        (shards / name).write_text("a\n1\n")
    found = [shards / "a.csv.gz", shards / "b.csv", shards / "day=2" / "c.csv"]
    assert find_files(TableFile(path="log"), tmp_path) == found
    assert find_files(TableFile(path="log/*.csv*"), tmp_path) == found[:2]
    assert find_files(TableFile(path="log/**/*.csv"), tmp_path) == found[1:]
    assert find_files(TableFile(path=["log/b.csv", "log"]), tmp_path) == [
        found[1], found[0], found[2],
    ]  # fmt: skip
    assert find_files(TableFile(path="log", format="csv"), tmp_path) == [
        *found, shards / "notes.md",
    ]  # fmt: skip
    with pytest.raises(DataError, match=r"log/\*\.parquet: no file has such a name"):
        find_files(TableFile(path="log/*.parquet"), tmp_path)
    (tmp_path / "t.csv").mkdir()
    with pytest.raises(DataError, match="wanted a folder of tables"):
        find_files(TableFile(path="t.csv"), tmp_path)


def test_shards_are_read_in_order_and_may_be_empty(tmp_path: Path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4\n")
    (tmp_path / "b.csv").write_text("x,y\n")
    (tmp_path / "c.csv").write_text("y,x\n5,6\n")
    batches = list(read_batches([TableFile(path="*.csv")], tmp_path))
    assert [Path(batch.origin).name for batch in batches] == ["a.csv", "c.csv"]
    assert [batch.rows.tolist() for batch in batches] == [[1, 2], [1]]
    assert batches[1].frame.to_dicts() == [{"y": "5", "x": "6"}]


def test_parts_of_other_forms_are_read_one_after_the_other(tmp_path: Path):
    (tmp_path / "a.csv").write_text("x\n1\n")
    pl.DataFrame({"z": [2]}).write_parquet(tmp_path / "b.parquet")
    parts = [
        TableFile(path="a.csv"),
        TableFile.model_validate({"path": "b.parquet", "steps": [{"compute": {"x": "z + 1"}}]}),
    ]
    frames = [batch.frame.to_dicts() for batch in read_batches(parts, tmp_path)]
    assert frames == [[{"x": "1"}], [{"z": 2, "x": 3}]]


def test_table_that_steps_leave_empty_is_refused(tmp_path: Path):
    (tmp_path / "t.csv").write_text("x\n1\n2\n")
    message = fail(tmp_path, path="t.csv", steps=[{"where": "x = '3'"}])
    assert message == f"{tmp_path / 't.csv'}: the steps leave none of 2 rows."


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl"])
def test_hidden_columns_are_dropped_before_anything_else(tmp_path: Path, name: str):
    table = pl.DataFrame({"a": ["1"], "secret": ["s3cret"], "b": ["x"]})
    write = {"t.csv": table.write_csv, "t.parquet": table.write_parquet}
    write.get(name, table.write_ndjson)(tmp_path / name)
    assert read(tmp_path, ("secret", "none"), path=name).columns == ["a", "b"]
    with pytest.raises(DataError, match="there is no column 'secret'") as caught:
        read(tmp_path, ("secret",), path=name, steps=[{"compute": {"c": "secret"}}])
    assert "s3cret" not in str(caught.value)


def test_require_columns_names_first_missing_and_nearest():
    require_columns(TABLE, ["n", "title"], "t.csv")
    with pytest.raises(DataError) as caught:
        require_columns(TABLE, ["n", "userid", "zzz"], "t.csv")
    assert str(caught.value) == (
        "t.csv: column 'userid' is missing. Did you mean 'user_id'? Columns there: "
        "user_id, title, n."
    )


@pytest.mark.parametrize("delimiter", [";", "\t", "|", "::"])
def test_require_columns_of_a_header_in_one_cell_asks_about_the_delimiter(delimiter: str):
    name = delimiter.join(NAMES)
    with pytest.raises(DataError) as caught:
        require_columns(pl.DataFrame({name: []}), ["user_id"], "t.csv")
    assert f"The header is one cell {name!r}: is the delimiter {delimiter!r}?" in str(caught.value)


class TestFrames:
    def test_polars_frames_are_cut_into_batches(self):
        frame = pl.DataFrame({"a": range(25), "secret": range(25)})
        for given in (frame, frame.lazy()):
            batches = list(frame_batches(given, "events", ["secret"], batch_rows=10))
            assert_frame_equal(pl.concat([batch.frame for batch in batches]), frame.select("a"))
            assert max(batch.frame.height for batch in batches) <= 10
            assert [row for batch in batches for row in batch.rows] == list(range(1, 26))
            assert {batch.origin for batch in batches} == {"events"}

    def test_pyarrow_table_is_taken_over(self):
        pa = pytest.importorskip("pyarrow")
        table = pa.table({"a": [1, None], "tags": [["x"], []]})
        (batch,) = frame_batches(table, "items")
        assert batch.frame.to_dicts() == [{"a": 1, "tags": ["x"]}, {"a": None, "tags": []}]

    def test_pandas_frame_is_taken_over(self):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame({"a": ["x", None], "t": pd.to_datetime(["2026-01-01", None])})
        (batch,) = frame_batches(frame, "items")
        assert batch.frame["a"].to_list() == ["x", None]
        assert batch.frame["t"].null_count() == 1
        mixed = pd.DataFrame({"a": ["x", 1]})
        with pytest.raises(DataError, match="items: the data frame cannot be taken over"):
            list(frame_batches(mixed, "items"))

    @pytest.mark.parametrize("given", [[{"a": 1}], {"a": [1]}, "events.csv", None])
    def test_anything_else_is_named(self, given: object):
        with pytest.raises(DataError) as caught:
            list(frame_batches(given, "events"))
        wanted = "events: wanted a data frame of polars, pandas or pyarrow, got builtins."
        assert str(caught.value) == f"{wanted}{type(given).__name__}."

    def test_empty_frame_and_failing_query_are_refused(self):
        with pytest.raises(DataError, match="events: wanted at least one row"):
            list(frame_batches(pl.DataFrame({"a": []}), "events"))
        with pytest.raises(DataError, match="events: the data frame cannot be taken over"):
            list(frame_batches(pl.LazyFrame({"a": [1]}).select("b"), "events"))


class TestPublishedData:
    """Row counts as the data sets' own descriptions give them."""

    def test_double_colons_in_latin_1_are_read(self, data_folder: Path):
        folder = needs(data_folder / "ncf-ml-1m")
        names = ["MovieID", "title", "genres"]
        settings = {"format": "csv", "delimiter": "::", "columns": names}
        frame = read(folder, path="movies.dat", encoding="latin-1", **settings)
        assert frame.height == 3883
        assert frame.row(0) == ("1", "Toy Story (1995)", "Animation|Children's|Comedy")
        assert frame["title"].str.contains("é").sum() > 10
        message = fail(folder, path="movies.dat", **settings)
        assert "column 'title': not valid UTF-8" in message
        assert message.endswith("set encoding: latin-1.")

    def test_sequences_become_events(self, data_folder: Path):
        folder = needs(data_folder / "amazon-beauty")
        table = TableFile.model_validate(
            {
                "path": "sequential_data.txt.gz",
                "format": "csv",
                "delimiter": "",
                "columns": ["line"],
                "steps": [
                    {
                        "compute": {
                            "user_id": "split_part(line, ' ', 1)",
                            "item_id": "string_to_array(substr(line, strpos(line, ' ') + 1), ' ')",
                        }
                    },
                    {"explode": ["item_id"]},
                ],
            }
        )
        batches = list(read_batches([table], folder))
        events = pl.concat([batch.frame for batch in batches])
        assert events.height == 198_502
        assert events["user_id"].n_unique() == 22_363
        assert events["item_id"].n_unique() == 12_101
        assert events["user_id"].is_in(["1"]).sum() == 5
        rows = [row for batch in batches for row in batch.rows]
        assert (rows[0], rows[-1], len(set(rows))) == (1, 22_363, 22_363)

    def test_csv_counts_are_the_published_ones(self, data_folder: Path):
        folder = needs(data_folder / "goodbooks-10k")
        ratings = read(folder, path="ratings.csv.gz")
        assert (ratings.height, ratings["user_id"].n_unique()) == (981_756, 53_424)
        assert read(folder, path="books.csv.gz").shape == (10_000, 23)


def needs(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"TFREC_DATA holds no {folder.name}")
    return folder
