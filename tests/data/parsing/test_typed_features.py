import html
import random
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest

from tfrec.config import Feature
from tfrec.data.parsing.checks import Findings, RowChecks
from tfrec.data.parsing.features import clean_text, type_features
from tfrec.data.reading.batch import RawBatch
from tfrec.features.frame import declare


def clean(*texts: str, unescape: bool = True, max_chars: int = 100) -> tuple[list, Counter]:
    counts: Counter[str] = Counter()
    series = pl.Series(texts, dtype=pl.String)
    return clean_text(series, unescape, max_chars, counts).to_list(), counts


# Texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("plain", "plain"),
        ("  two   words ", "two words"),
        ("a\t\r\n\u00a0\u2003b", "a b"),
        ("a\x00b\x07c", "a b c"),
        ("Tom &amp; Jerry&#39;s &lt;b&gt;", "Tom & Jerry's <b>"),
        ("&nbsp;a&nbsp;&nbsp;b&nbsp;", "a b"),
        ("&amp;amp;", "&amp;"),  # one layer, as it was written
        ("R&D, AT&T", "R&D, AT&T"),
        ("&eacute;t&eacute;", "été"),
    ],
)
def test_text_is_unescaped_and_squeezed(text: str, expected: str):
    assert clean(text)[0] == [expected]


def test_text_keeps_entities_where_html_is_off():
    found, counts = clean("a &amp;  b", unescape=False)
    assert found == ["a &amp; b"]
    assert not counts["texts_with_html_entities"]


def test_text_counts_what_it_changes():
    found, counts = clean("a &amp; b", "R&D", "x" * 11, "x" * 10, "123456789 b", max_chars=10)
    assert found == ["a & b", "R&D", "x" * 10, "x" * 10, "123456789"]
    assert counts == {"texts_with_html_entities": 1, "texts_cut": 2}


def test_text_is_cut_in_characters_not_in_bytes():
    assert clean("äöü€😀", max_chars=4)[0] == ["äöü€"]


def test_text_leaves_its_input_alone():
    text = pl.Series(["a &amp; b", "c"])
    clean_text(text, True, 1)
    assert text.to_list() == ["a &amp; b", "c"]


@pytest.mark.parametrize("seed", range(5))
def test_text_of_random_pieces_follows_plain_python(seed: int):
    draw = random.Random(seed)
    pieces = ["a", "Ü", "&", "&amp;", "&lt;", "&#x41;", ";", " ", "\t", "\u00a0", "word"]
    texts = ["".join(draw.choices(pieces, k=draw.randrange(12))) for _ in range(200)]
    # str.split() splits at the same white space; no other control characters are drawn.
    expected = [" ".join(html.unescape(text).split())[:15].strip() for text in texts]
    assert clean(*texts, max_chars=15)[0] == expected


# Features


def test_features_of_each_type_are_typed_and_named():
    frame = pl.DataFrame(
        {
            "brand": ["a", None],
            "price": ["1.5", ""],
            "tags": ["x, y", None],
            "since": ["1970-01-02", ""],
            "image": ["[1, 2]", ""],
        }
    )
    declared: dict[str, Any] = {
        "image": Feature(type="vector"),
        "brand": Feature(type="category"),
        "price": Feature(type="number"),
        "tags": Feature(type="category_list", separator=","),
        "since": Feature(type="date"),
    }
    checks = RowChecks(RawBatch(frame, "t.csv", np.arange(2)), "items", Findings())
    typed = pl.DataFrame(type_features(checks, declare(declared)))
    assert dict(typed.schema) == {
        "image": pl.List(pl.Float32),
        "brand": pl.String,
        "price": pl.Float64,
        "tags": pl.List(pl.String),
        "since": pl.Float64,
    }
    assert typed.rows() == [([1.0, 2.0], "a", 1.5, ["x", "y"], 1.0), (None, "", None, [], None)]
