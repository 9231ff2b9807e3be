"""What docs/data.md shows does what it says there."""

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from ruamel.yaml import YAML

from tfrec.config import Data, Split, parse_config

GUIDE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def example(heading: str) -> dict[str, Any]:
    """Returns the first YAML example below a heading."""
    section = GUIDE[GUIDE.index(heading) :]
    match = re.search(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert match
    return YAML(typ="safe", pure=True).load(match[1])


def declare(settings: dict[str, Any]) -> Data:
    return parse_config({"name": "x", "data": {"source": "files", **settings}}).data


def read(settings: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Returns the rows of the event table that a declaration makes."""
    from tfrec.data.reading.files import read_batches

    tables = declare(settings).tables
    assert tables is not None
    frames = [batch.frame for batch in read_batches(tables.events, folder)]
    return pl.concat(frames).rows(named=True)


def test_forms_of_paths_are_valid():
    tables = declare(example("## Files") | {"users": {"features": {"age": "number"}}}).tables
    assert tables is not None
    assert tables.users is not None
    assert [part.path for part in tables.users] == ["old_users.csv", "users.jsonl.gz"]


def test_privacy_example_is_valid():
    settings = {"tables": {"events": "e.csv"}, **example("## Privacy")}
    assert declare(settings).privacy.pseudonym_key == "TFREC_KEY"


def test_steps_for_sequences_give_one_event_an_item(tmp_path: Path):
    (tmp_path / "sequences.txt").write_text("u1 a b c\nu2 b\n")
    rows = read(example("### Sequences"), tmp_path)
    assert [(row["user_id"], row["item_id"]) for row in rows] == [
        ("u1", "a"),
        ("u1", "b"),
        ("u1", "c"),
        ("u2", "b"),
    ]


def test_steps_for_impressions_give_one_event_an_item_with_its_answer(tmp_path: Path):
    line = "7\tu1\t11/15/2019 8:55:22 AM\tN123-1 N456-0\n"
    (tmp_path / "behaviors.tsv").write_text(line)
    settings = example("### Impressions")
    rows = read(settings, tmp_path)
    assert [(row["item_id"], row["kind"], row["impression"]) for row in rows] == [
        ("N123", "1", "7"),
        ("N456", "0", "7"),
    ]
    kinds = declare(settings).events.kinds
    assert [kinds[row["kind"]].label for row in rows] == [1, 0]


def test_steps_for_lists_in_cells_tell_clicked_from_shown(tmp_path: Path):
    lists = pl.DataFrame({"impression": [1, 2], "shown": [[5, 6, 7], [5]], "clicked": [[6], []]})
    lists.write_parquet(tmp_path / "impressions.parquet")
    rows = read(example("### Lists in cells"), tmp_path)
    assert [(row["impression"], row["item_id"], row["kind"]) for row in rows] == [
        (1, 5, "shown"),
        (1, 6, "click"),
        (1, 7, "shown"),
        (2, 5, "shown"),
    ]


def test_steps_for_other_ids_translate_them_and_leave_unknown_ones_out(tmp_path: Path):
    (tmp_path / "events.csv").write_text("user_id,code,time\nu1,A,1\nu1,X,2\nu2,B,3\n")
    (tmp_path / "codes.csv").write_text("code,item_id\nA,10\nB,20\n")
    rows = read(example("### Ids that another"), tmp_path)
    assert [(row["user_id"], row["item_id"]) for row in rows] == [("u1", "10"), ("u2", "20")]


def test_table_of_splits_has_every_kind():
    kinds = Split.model_fields["kind"].annotation
    section = GUIDE[GUIDE.index("## Splits") : GUIDE.index("## Prepared data")]
    for kind in kinds.__args__:  # type: ignore[union-attr]
        assert f"| `{kind}`" in section


@pytest.mark.parametrize("verb", sorted(set(re.findall(r"^tfrec (\w+)", GUIDE, re.MULTILINE))))
def test_command_of_the_guide_exists(verb: str):
    from tfrec.cli import app

    names = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    assert verb in names


def test_links_of_the_guide_lead_to_headings():
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in GUIDE.splitlines()
        if line.startswith("#")
    }
    for anchor in re.findall(r"\]\(#([^)]+)\)", GUIDE):
        assert anchor in headings
