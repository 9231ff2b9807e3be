from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tfrec.config import Pretraining
from tfrec.encoders.bert import build_backbone
from tfrec.environment import start_tensorflow
from tfrec.training.pretraining import _encode_hidden, _hold_out, pretrain

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
    rounds, changed, _ = run(make_tokens(400), tmp_path, steps=120)
    assert len(rounds) == 10
    assert rounds[-1]["loss"] < rounds[0]["loss"]
    assert rounds[-1]["accuracy"] > 5 / (VOCABULARY_SIZE - NUM_SPECIAL)
    assert sum(changed) > len(changed) / 2
    assert rounds[-1]["heldout_loss"] < rounds[0]["heldout_loss"]
    assert rounds[-1]["heldout_accuracy"] > 5 / (VOCABULARY_SIZE - NUM_SPECIAL)


def test_texts_are_held_out_with_all_their_copies():
    texts = make_tokens(60)
    tokens = np.concatenate([texts, texts[::2], texts[:5]])
    trained, held_out = _hold_out(tokens, seed=4)
    distinct = {tuple(text) for text in texts}
    unseen = {tuple(text) for text in held_out}
    assert len(unseen) == len(held_out) == len(distinct) // 20
    assert {tuple(text) for text in trained} == distinct - unseen
    assert len(trained) == sum(tuple(text) not in unseen for text in tokens)
    for again, wanted in zip(_hold_out(tokens, seed=4), (trained, held_out), strict=True):
        np.testing.assert_array_equal(again, wanted)


def test_pretraining_of_few_texts_holds_none_out(tmp_path: Path):
    rounds, _, _ = run(make_tokens(15), tmp_path, steps=2)
    assert len(rounds) == 2
    assert rounds[0].keys() == {"loss", "accuracy"}


def test_hidden_tokens_are_found_at_their_places_in_all_buckets():
    tokens = make_tokens(50)
    is_hidden = (np.random.default_rng(0).random(tokens.shape) < 0.3) & (tokens > 0)
    changed = np.where(is_hidden, MASK, tokens)

    def encode(token_ids: tf.Tensor, is_token: tf.Tensor, training: bool) -> tf.Tensor:
        """Says of each token what it is, what stands before it, and how long the text is."""
        before = tf.pad(token_ids, [[0, 0], [1, 0]])[:, :-1]
        length = tf.reduce_sum(tf.cast(is_token, tf.int32), axis=1, keepdims=True)
        return tf.stack([token_ids, before, length + 0 * token_ids], axis=2)

    vectors, answers = _encode_hidden(
        encode, tf.constant(tokens), tf.constant(changed), tf.constant(is_hidden), training=True
    )
    got = sorted(
        (*vector, answer) for vector, answer in zip(vectors.numpy(), answers.numpy(), strict=True)
    )
    wanted = sorted(
        (MASK, changed[row, at - 1] if at else 0, (tokens[row] != 0).sum(), tokens[row, at])
        for row, at in zip(*is_hidden.nonzero(), strict=True)
    )
    assert got == wanted


@pytest.mark.parametrize("case", ["no steps", "no texts"])
def test_pretraining_with_nothing_to_do_leaves_the_weights(case: str, tmp_path: Path):
    tokens = make_tokens(50) if case == "no steps" else np.zeros((3, 10), np.int32)
    rounds, changed, _ = run(tokens, tmp_path, steps=0 if case == "no steps" else 10)
    assert rounds == []
    assert not any(changed)


def test_pretraining_killed_within_rounds_and_resumed_is_bit_equal(tmp_path: Path, killed_at):
    tokens, settings = make_tokens(200), {"steps": 19, "batch_size": 16}
    wanted_rounds, _, wanted = run(tokens, tmp_path / "whole", dropout=0.2, **settings)
    with killed_at(5):  # in round 2: a round has two steps, and a checkpoint more at its end
        run(tokens, tmp_path / "parts", dropout=0.2, **settings)
    rounds, _, got = run(tokens, tmp_path / "parts", dropout=0.2, **settings)
    assert rounds == wanted_rounds
    assert len(rounds) == 10
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_array_equal(one, other)
