"""A source of candidates of somebody else: asked like ours, refused where it breaks."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec.candidates.build import loaded_sources, make_sources
from tfrec.candidates.source import Asked, CandidateSource, SourceData, check_source
from tfrec.config import Candidates
from tfrec.errors import ConfigError


class Newest(CandidateSource):
    """Proposes the items with the largest indices, barred ones too."""

    def __init__(self, first: int = 0) -> None:
        super().__init__()
        self.first = first

    def build(self, data: SourceData):
        return {"items": np.arange(data.data.num_items - self.first, 0, -1, dtype=np.int32)}

    def propose(self, asked: Asked, k: int):
        return tf.repeat(self.arrays["items"][None], tf.shape(asked.recent)[0], axis=0)


class InFloat(Newest):
    def propose(self, asked, k):
        return tf.cast(super().propose(asked, k), tf.float32)


class NoSuchItem(Newest):
    def propose(self, asked, k):
        return super().propose(asked, k) + 7


class OneRow(Newest):
    def propose(self, asked, k):
        return self.arrays["items"][None]


class InPython(Newest):
    def propose(self, asked, k):
        return tf.constant([[0] for _ in asked.recent.numpy()])


def place(part: type) -> str:
    return f"{__name__}:{part.__name__}"


def configure(part: type, **options) -> Candidates:
    own = {"kind": place(part), "options": options, "count": 3}
    return Candidates.model_validate({"sources": {"two_tower": {"count": 2}, "new": own}})


def test_own_source_is_fused_with_ours_and_what_requests_bar_is_left_out():
    config = configure(Newest, first=1)
    kept = {"new": {"items": np.array([9, 8, 7, 6, 5], np.int32)}}
    sources = loaded_sources(config, kept, num_candidates=4)
    assert (sources.names, sources.counts) == (["two_tower", "new"], {"two_tower": 2, "new": 3})
    asked = Asked(
        tf.zeros([1, 2], tf.int32),
        None,
        lambda items: (items != 8) & (items != 0),
        lambda k: tf.constant([[4, 7]])[:, :k],
    )
    found = sources.propose(asked)
    assert {name: items.numpy().tolist() for name, items in found.items()} == {
        "two_tower": [[4, 7]],
        "new": [[9, 7, 6]],
    }
    # By reciprocal ranks: 7 is second twice; 4 and 9 are first once; 6 is third.
    assert sources.fuse(found).numpy().tolist() == [[7, 4, 9, 6]]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (InFloat, r"InFloat\.propose: wanted int32 \[batch, n\].*got float32"),
        (NoSuchItem, r"NoSuchItem\.propose: wanted int32 .* from 0 to 3, got 8 to 10"),
        (OneRow, r"OneRow\.propose: wanted int32 .* for a batch of 2"),
        (InPython, r"InPython\.propose cannot run in a graph"),
    ],
)
def test_broken_source_is_refused_in_one_line(part: type, message: str):
    source = make_sources(configure(part))["new"]
    source.load({"items": np.array([3, 2, 1], np.int32)})
    with pytest.raises(ConfigError, match=rf"^candidates\.sources\.new: {message}") as caught:
        check_source(source, "candidates.sources.new", num_items=3)
    assert "\n" not in str(caught.value)


def test_source_that_no_door_knows_is_refused_when_the_configuration_is_read():
    with pytest.raises(ValueError, match="item_knn"):
        Candidates.model_validate({"sources": {"item_kn": {}}})


def test_options_of_ours_and_unknown_ones_of_others_are_refused():
    with pytest.raises(ValueError, match=r"`sources\.ease\.options` are for a source of your own"):
        Candidates.model_validate({"sources": {"ease": {"options": {"penalty": 1.0}}}})
    with pytest.raises(ConfigError, match=r"candidates\.sources\.new: .*'last'"):
        make_sources(configure(Newest, last=1))
