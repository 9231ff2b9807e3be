"""Typed features and clean texts of any table."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Sequence

import polars as pl

from tfrec.data.parsing.checks import RowChecks
from tfrec.features.feature_type import FeatureType

_ODD_SPACE = r"[\s\x00-\x1f\x7f]+"


def type_features(checks: RowChecks, features: Sequence[FeatureType]) -> list[pl.Series]:
    """Types the features of a batch.

    Args:
        checks: The batch; it has the columns.
        features: What is declared.

    Returns:
        One series a feature, named so, of the feature's `column_type`.

    Raises:
        DataError: A type gives another number of rows or another type of column.
    """
    typed = []
    for feature in features:
        values = feature.parse(checks)
        got, wanted = (values.dtype, len(values)), (feature.column_type, checks.frame.height)
        if got != wanted:
            raise checks.fail(
                feature.name,
                f"{wanted[1]} values of {wanted[0]} from {type(feature).__name__}.parse",
                f"{got[1]} of {got[0]}",
            )
        typed.append(values.alias(feature.name))
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
