from pathlib import Path

import numpy as np
import pytest

from tfrec.config import Pretraining
from tfrec.encoders.bert import build_backbone
from tfrec.environment import start_tensorflow
from tfrec.training.pretraining import pretrain

NUM_SPECIAL, MASK, VOCABULARY_SIZE = 5, 4, 40


def make_tokens(num_texts: int) -> np.ndarray:
    """Texts in which each token tells the next: t, t + 1, t + 2 ..., of 6 to 10 tokens."""
    draw = np.random.default_rng(3)
    first = draw.integers(NUM_SPECIAL, VOCABULARY_SIZE - 10, num_texts)
    tokens = first[:, None] + np.arange(10)
    lengths = draw.integers(6, 11, num_texts)
    return np.where(np.arange(10) < lengths[:, None], tokens, 0).astype(np.int32)


def run(
    tokens: np.ndarray, folder: Path, dropout: float = 0.0, **settings: object
) -> tuple[list, list[bool], list[np.ndarray]]:
    """Returns the history, which weights changed, and the weights."""
    start_tensorflow(0)
    backbone = build_backbone("nano", VOCABULARY_SIZE, 10, dropout)
    before = [variable.numpy().copy() for variable in backbone.variables]
    folder.mkdir(exist_ok=True)
    history = pretrain(
        backbone,
        tokens,
        mask_token_id=MASK,
        num_special=NUM_SPECIAL,
        config=Pretraining.model_validate({"batch_size": 64, "learning_rate": 3e-3} | settings),
        seed=1,
        checkpoint_folder=folder,
    )
    changed = [
        not np.array_equal(old, new.numpy())
        for old, new in zip(before, backbone.variables, strict=True)
    ]
    return history.rounds, changed, [variable.numpy() for variable in backbone.variables]


def test_pretraining_lowers_the_loss_and_beats_guessing(tmp_path: Path):
    rounds, changed, _ = run(make_tokens(400), tmp_path, steps=120, checkpoint_every=40)
    assert len(rounds) == 3
    assert rounds[-1]["loss"] < rounds[0]["loss"]
    assert rounds[-1]["accuracy"] > 5 / (VOCABULARY_SIZE - NUM_SPECIAL)
    assert sum(changed) > len(changed) / 2


@pytest.mark.parametrize("case", ["no steps", "no texts"])
def test_pretraining_with_nothing_to_do_leaves_the_weights(case: str, tmp_path: Path):
    tokens = make_tokens(50) if case == "no steps" else np.zeros((3, 10), np.int32)
    rounds, changed, _ = run(tokens, tmp_path, steps=0 if case == "no steps" else 10)
    assert rounds == []
    assert not any(changed)


def test_pretraining_killed_within_rounds_and_resumed_is_bit_equal(tmp_path: Path, killed_at):
    tokens, settings = make_tokens(200), {"steps": 15, "checkpoint_every": 5, "batch_size": 16}
    wanted_rounds, _, wanted = run(tokens, tmp_path / "whole", dropout=0.2, **settings)
    with killed_at(8):  # in round 2: a round has five steps, and a checkpoint more at its end
        run(tokens, tmp_path / "parts", dropout=0.2, **settings)
    rounds, _, got = run(tokens, tmp_path / "parts", dropout=0.2, **settings)
    assert rounds == wanted_rounds
    assert len(rounds) == 3
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
