"""What kinds of events mean, by the words that shops and publishers use."""

from __future__ import annotations

from collections.abc import Iterable

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column

_MAX_KINDS = 30


def is_kind(column: Column) -> bool:
    """Tells whether cells name kinds of events."""
    if column.form != "text" or column.distinct > _MAX_KINDS or column.num_words > 3:
        return False
    values = column.known.unique().to_list()
    known = sum(words.stage_of(value) is not None for value in values)
    if column.has(words.KIND):
        return known >= len(values) / 3
    return known >= len(values) / 2 and (known > 1 or not column.words)


def mean_of_kinds(
    names: Iterable[str], counts: Iterable[int]
) -> dict[str, tuple[dict[str, object], str]]:
    """Says what each kind of event means by words that shops and publishers use."""
    found = {name: (words.stage_of(name), count) for name, count in zip(names, counts, strict=True)}
    positive = [stage for stage, _ in found.values() if stage]
    first = min(positive, default=1)
    kinds: dict[str, tuple[dict[str, object], str]] = {}
    for name, (stage, count) in found.items():
        meaning: dict[str, object]
        if stage is None:
            meaning, why = {"label": 1}, "no word that is known here; is it wanted (1) or not (0)?"
        elif stage == 0:
            meaning, why = {"label": 0}, "seen, not wanted"
            if any(word in words.words_of(name) for word in _STEPS_BACK):
                meaning, why = {"label": 0, "ranked": False}, "a step back; no answer to a list"
        elif stage == first:
            meaning, why = {"label": 1}, "wanted"
        else:
            meaning = {"label": 1, "weight": float(stage), "ranked": False, "target": False}
            why = "says more, but follows an earlier event, so it is no row to learn twice"
        kinds[name] = (meaning, f"{why}; {count:,} of the first rows")
    return kinds


_STEPS_BACK = ("remove", "removed", "unfollow", "return", "refund", "unlike")
