"""What kinds of events mean, by the words that shops and publishers use."""

from __future__ import annotations

from collections.abc import Mapping

from tfrec.autoconfig import words
from tfrec.autoconfig.columns import Column
from tfrec.autoconfig.page import Entry

_MAX_KINDS = 30
_STEPS_BACK = {"remove", "removed", "unfollow", "return", "refund", "unlike"}


def is_kind(column: Column) -> bool:
    """Tells whether cells name kinds of events."""
    if column.form != "text" or column.distinct > _MAX_KINDS or column.num_words > 3:
        return False
    values = column.known.unique().to_list()
    known = sum(words.stage_of(value) is not None for value in values)
    if column.has(words.KIND):
        return known >= len(values) / 3
    return known >= len(values) / 2 and (known > 1 or not column.words)


def mean_of_kinds(counts: Mapping[str, int]) -> dict[str, Entry]:
    """Says what each kind of event means by words that shops and publishers use."""
    stages = {name: words.stage_of(name) for name in counts}
    first = min((stage for stage in stages.values() if stage), default=1)
    kinds: dict[str, Entry] = {}
    for name, stage in stages.items():
        meaning: dict[str, object] = {"label": 1}
        if stage is None:
            why = "no word that is known here; is it wanted (1) or not (0)?"
        elif stage == 0 and _STEPS_BACK.intersection(words.words_of(name)):
            meaning, why = {"label": 0, "ranked": False}, "a step back; no answer to a list"
        elif stage == 0:
            meaning, why = {"label": 0}, "seen, not wanted"
        elif stage == first:
            why = "wanted"
        else:
            meaning |= {"weight": float(stage), "ranked": False, "target": False}
            why = "says more, but follows an earlier event, so it is no row to learn twice"
        kinds[name] = Entry(name, meaning, f"{why}; {counts[name]:,} of the first rows")
    return kinds
