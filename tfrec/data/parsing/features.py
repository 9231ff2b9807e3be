"""Typed features and clean texts of any table."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping

import polars as pl

from tfrec.config import Features
from tfrec.data.parsing.checks import RowChecks
from tfrec.data.parsing.convert import to_lists, to_numbers, to_text, to_vectors
from tfrec.data.parsing.times import to_days

_ODD_SPACE = r"[\s\x00-\x1f\x7f]+"


def type_features(
    checks: RowChecks, features: Features, sizes: Mapping[str, int] | None = None
) -> list[pl.Series]:
    """Types the declared features of a batch.

    Args:
        checks: The batch; it has the columns.
        features: The declaration.
        sizes: Lengths of vectors where earlier batches fixed them.

    Returns:
        One series a feature, named so: category String ("" unknown), category_list List(String),
        number Float64, date Float64 days since 1970-01-01, vector List(Float32), null unknown.
    """
    typed = []
    for name, feature in features.items():
        if feature.type == "number":
            values = to_numbers(checks, name)
        elif feature.type == "date":
            values = to_days(checks, name)
        elif feature.type == "vector":
            values = to_vectors(checks, name, (sizes or {}).get(name))
        elif feature.type == "category_list":
            values = to_lists(checks, name, feature.separator)
        else:
            values = to_text(checks, name)
        typed.append(values.alias(name))
    return typed


def clean_text(
    text: pl.Series, unescape: bool, max_chars: int, counts: Counter[str] | None = None
) -> pl.Series:
    """Replaces HTML entities, squeezes white space and control characters, cuts what is too long.

    Args:
        text: String [n], no nulls.
        unescape: Whether HTML entities become the characters they stand for.
        max_chars: Longer texts are cut.
        counts: ``texts_with_html_entities`` and ``texts_cut`` are counted here.

    Returns:
        String [n]
    """
    counts = Counter() if counts is None else counts
    if unescape:
        text, num_unescaped = _unescape(text)
        counts["texts_with_html_entities"] += num_unescaped
    text = text.str.replace_all(_ODD_SPACE, " ").str.strip_chars(" ")
    num_cut = int((text.str.len_chars() > max_chars).sum())
    if num_cut:
        counts["texts_cut"] += num_cut
        text = text.str.slice(0, max_chars).str.strip_chars(" ")
    return text


def _unescape(text: pl.Series) -> tuple[pl.Series, int]:
    """Returns the texts without entities, and how many had some."""
    odd = text.filter(text.str.contains("&", literal=True)).unique()
    plain = [html.unescape(value) for value in odd]
    changed = {old: new for old, new in zip(odd, plain, strict=True) if old != new}
    if not changed:
        return text, 0
    num_changed = int(text.is_in(list(changed)).sum())
    return text.replace(list(changed), list(changed.values())), num_changed
