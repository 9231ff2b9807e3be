from pathlib import Path

import pytest

from tfrec.config import parse_config
from tfrec.errors import DataError
from tfrec.pipeline.catalogue_editor import read_items

ROWS = """item_id,title,price
i1,red lamp,3
,no id,4
i2,blue lamp,cheap
i1,red lamp again,5
i3,green lamp,
"""


def declare(bad_cells: str):
    items = {"title": "title", "text": ["title"], "features": {"price": "number"}}
    tree = {
        "source": "tables",
        "events": {"time": "time"},
        "items": items | {"duplicates": "last"},
        "cleaning": {"bad_cells": bad_cells},
    }
    return parse_config({"name": "x", "data": tree}).data


def test_repaired_catalogue_change_says_what_was_dropped_and_why(tmp_path: Path):
    path = tmp_path / "items.csv"
    path.write_text(ROWS)
    said: list[str] = []
    items = read_items(path, declare("repair"), said.append)
    assert items["item_id"].to_list() == ["i2", "i1", "i3"]
    assert [line for line in said if "column 'item_id'" in line and "row dropped" in line]
    assert [line for line in said if "column 'price'" in line and "got 'cheap'" in line]
    assert f"{path}: duplicate items dropped: 1" in said
    assert said[-1] == f"{path}: 2 of 5 rows dropped"


def test_sound_catalogue_change_says_nothing(tmp_path: Path):
    path = tmp_path / "items.csv"
    path.write_text("item_id,title,price\ni1,red lamp,3\n")
    said: list[str] = []
    assert read_items(path, declare("repair"), said.append).height == 1
    assert said == []


def test_unfit_row_without_repair_changes_nothing(tmp_path: Path):
    path = tmp_path / "items.csv"
    path.write_text(ROWS)
    with pytest.raises(DataError, match="column 'item_id'"):
        read_items(path, declare("error"), print)
