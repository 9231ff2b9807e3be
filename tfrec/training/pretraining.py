"""Masked-LM pre-training of the encoder on the texts of the catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import keras
import keras_nlp
import numpy as np
import tensorflow as tf

from tfrec.config import Pretraining
from tfrec.encoders.buckets import rows_by_length, trim
from tfrec.losses.masked_lm import mask_tokens
from tfrec.training.loop import CHECKPOINT_SECONDS, History, Run, fit

_POINTS = 10  # of the learning curve
_HELD_OUT_SHARE = 0.05
_MAX_HELD_OUT = 512
_HELD_OUT_STREAM = 1 << 30  # of random numbers; the rounds have those from 0 on


def pretrain(
    backbone: keras_nlp.models.BertBackbone,
    tokens: np.ndarray,
    *,
    mask_token_id: int,
    num_special: int,
    config: Pretraining,
    seed: int,
    checkpoint_folder: Path,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
) -> History:
    """Trains the backbone in place to guess hidden tokens.

    One text in twenty, at most 512, is held out of training to measure how well unseen texts are
    guessed.

    Args:
        backbone: The model that is trained.
        tokens: int32 [num_texts, length], 0 pads.
        mask_token_id: Id of ``[MASK]``.
        num_special: Ids below it are special and never hidden.
        config: Steps, batch size, rates.
        seed: Of the order of texts and of the hidden tokens.
        checkpoint_folder: Where the run keeps its state.
        checkpoint_seconds: Time between two checkpoints within a tenth of the steps.

    Returns:
        One entry a tenth of the steps: ``loss`` and ``accuracy`` over the tokens
        hidden in it, and, at its end, ``heldout_loss`` and ``heldout_accuracy`` over those hidden
        in the held-out texts, the same ones each time; without the two for fewer than twenty
        distinct texts. No entry where there is no step to take or no text to learn from.
    """
    tokens, held_out = _hold_out(tokens[(tokens != 0).any(axis=1)], seed)
    span = max(1, -(-config.steps // _POINTS))
    rounds = -(-config.steps // span) if len(tokens) else 0
    if not rounds:
        return History()
    head = _new_head(backbone)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, rounds * span, warmup_target=config.learning_rate, warmup_steps=rounds * span // 10
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.01, global_clipnorm=1.0)
    weights = [*backbone.trainable_variables, *_own_variables(head, backbone)]
    optimizer.build(weights)

    guess = _build_guess(backbone, head, mask_token_id, num_special, config.mask_rate)
    # One graph for all widths: a run that resumes must not trace another, which rounds differently.
    signature = (tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([2], tf.int32))

    @tf.function(input_signature=[signature], autograph=False)
    def step(batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        with tf.GradientTape() as tape:
            measured = guess(*batch, training=True)
        gradients = tape.gradient(measured["loss"], weights)
        pairs = [(g, w) for g, w in zip(gradients, weights, strict=True) if g is not None]
        optimizer.apply_gradients(pairs)
        return measured

    @tf.function(input_signature=[signature], autograph=False)
    def measure(batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        return guess(*batch, training=False)

    def validate() -> dict[str, float]:
        batch = tf.constant(held_out), tf.constant([seed, _HELD_OUT_STREAM], tf.int32)
        return {f"heldout_{name}": float(value) for name, value in measure(batch).items()}

    run = Run(
        name="masked-LM pre-training",
        rounds=rounds,
        steps_per_round=span,
        batches=partial(_batches, tokens, config.batch_size, span, seed),
        step=step,
        variables=[*backbone.variables, *_own_variables(head, backbone), *optimizer.variables],
        weights=backbone.variables,
        validate=validate if len(held_out) else None,
    )
    return fit(run, checkpoint_folder, checkpoint_seconds)


def _new_head(backbone: keras_nlp.models.BertBackbone) -> keras_nlp.layers.MaskedLMHead:
    head = keras_nlp.layers.MaskedLMHead(
        vocabulary_size=backbone.vocabulary_size,
        token_embedding=backbone.token_embedding,
        intermediate_activation="gelu",
    )
    head.build((None, None, backbone.hidden_dim))
    return head


def _batches(
    tokens: np.ndarray, batch_size: int, span: int, seed: int, number: int, first_step: int
) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
    """Yields the texts of a span of steps, from a step on, each batch with its seed."""
    rng = np.random.default_rng([seed, number])
    size = min(batch_size, len(tokens))
    for position in range(span):
        chosen = rng.choice(len(tokens), size, replace=False)
        if position < first_step:
            continue  # drawn all the same, for the draws that follow
        mask_seed = tf.constant([seed, number * span + position], tf.int32)
        yield tf.constant(tokens[chosen]), mask_seed


def _hold_out(tokens: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the texts to train on and the distinct texts to measure on, none of them in both."""
    distinct, text = np.unique(tokens, axis=0, return_inverse=True)
    count = min(int(_HELD_OUT_SHARE * len(distinct)), _MAX_HELD_OUT)
    rng = np.random.default_rng([seed, _HELD_OUT_STREAM])
    chosen = rng.choice(len(distinct), count, replace=False)
    return tokens[~np.isin(text.reshape(-1), chosen)], distinct[chosen]


def _build_encode(backbone: keras_nlp.models.BertBackbone) -> Callable[..., tf.Tensor]:
    """Returns the backbone as a function from token ids and mask, [n, length], to its last layer.

    A function of its own is traced once and not for every bucket.
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def encode(token_ids: tf.Tensor, is_token: tf.Tensor, training: bool) -> tf.Tensor:
        inputs = {
            "token_ids": token_ids,
            "segment_ids": tf.zeros_like(token_ids),
            "padding_mask": is_token,
        }
        return backbone(inputs, training=training)["sequence_output"]

    return encode


def _build_guess(
    backbone: keras_nlp.models.BertBackbone,
    head: keras_nlp.layers.MaskedLMHead,
    mask_token_id: int,
    num_special: int,
    mask_rate: float,
) -> Callable[..., dict[str, tf.Tensor]]:
    """Returns what hides tokens, guesses them, and measures how well."""
    encode = _build_encode(backbone)

    def guess(token_ids: tf.Tensor, mask_seed: tf.Tensor, training: bool) -> dict[str, tf.Tensor]:
        changed, is_hidden = mask_tokens(
            token_ids,
            mask_seed,
            mask_rate=mask_rate,
            mask_token_id=mask_token_id,
            num_special=num_special,
            vocabulary_size=backbone.vocabulary_size,
        )
        vectors, answers = _encode_hidden(encode, token_ids, changed, is_hidden, training)
        every = tf.range(tf.size(answers))[None]
        logits = tf.cast(head(vectors[None], every)[0], tf.float32)  # [m, vocabulary]
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(answers, logits)
        hits = tf.cast(tf.argmax(logits, axis=1, output_type=tf.int32) == answers, tf.float32)
        return {"loss": _mean(losses), "accuracy": _mean(hits)}

    return guess


def _encode_hidden(
    encode: Callable[..., tf.Tensor],
    token_ids: tf.Tensor,
    changed: tf.Tensor,
    is_hidden: tf.Tensor,
    training: bool,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the last layer's vectors of the hidden tokens, [m, dim], and what they were, [m]."""
    vectors, answers = [], []
    for rows in rows_by_length(token_ids):
        original = trim(tf.gather(token_ids, rows))
        width = tf.shape(original)[1]
        outputs = encode(tf.gather(changed, rows)[:, :width], original != 0, training)
        hidden_here = tf.gather(is_hidden, rows)[:, :width]
        vectors.append(tf.boolean_mask(outputs, hidden_here))
        answers.append(tf.boolean_mask(original, hidden_here))
    return tf.concat(vectors, axis=0), tf.concat(answers, axis=0)


def _mean(values: tf.Tensor) -> tf.Tensor:
    """Returns the mean of float32 [n]; 0 for none."""
    return tf.math.divide_no_nan(tf.reduce_sum(values), tf.cast(tf.size(values), tf.float32))


def _own_variables(
    head: keras_nlp.layers.MaskedLMHead, backbone: keras_nlp.models.BertBackbone
) -> list[keras.Variable]:
    shared = {id(variable) for variable in backbone.variables}
    return [variable for variable in head.variables if id(variable) not in shared]
