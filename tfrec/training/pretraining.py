"""Masked-LM pre-training of the encoder on the texts of the catalogue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import keras
import keras_nlp
import numpy as np
import tensorflow as tf

from tfrec.config import Pretraining
from tfrec.losses.masked_lm import mask_tokens
from tfrec.training.loop import History, Run, fit


def pretrain(
    backbone: keras_nlp.models.BertBackbone,
    tokens: np.ndarray,
    *,
    mask_token_id: int,
    num_special: int,
    config: Pretraining,
    seed: int,
    checkpoint_folder: Path,
) -> History:
    """Trains the backbone in place to guess hidden tokens.

    Args:
        backbone: The model that is trained.
        tokens: int32 [num_texts, length], 0 pads.
        mask_token_id: Id of ``[MASK]``.
        num_special: Ids below it are special and never hidden.
        config: Steps, batch size, rates.
        seed: Of the order of texts and of the hidden tokens.
        checkpoint_folder: Where the run keeps its state.

    Returns:
        Loss and accuracy over the hidden tokens, one entry a span of ``checkpoint_every`` steps;
        nothing where there is no step to take or no text to learn from.
    """
    tokens = tokens[(tokens != 0).any(axis=1)]
    span = min(config.checkpoint_every, max(config.steps, 1))
    rounds = -(-config.steps // span) if len(tokens) else 0
    if not rounds:
        return History()
    head = keras_nlp.layers.MaskedLMHead(
        vocabulary_size=backbone.vocabulary_size,
        token_embedding=backbone.token_embedding,
        intermediate_activation="gelu",
    )
    head.build((None, None, backbone.hidden_dim))
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, rounds * span, warmup_target=config.learning_rate, warmup_steps=rounds * span // 10
    )
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=0.01, global_clipnorm=1.0)
    weights = [*backbone.trainable_variables, *_own_variables(head, backbone)]
    optimizer.build(weights)
    vocabulary_size = backbone.vocabulary_size

    # One graph for all widths: a run that resumes must not trace another, which rounds differently.
    signature = (tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([2], tf.int32))

    @tf.function(input_signature=[signature], autograph=False)
    def step(batch: tuple[tf.Tensor, tf.Tensor]) -> dict[str, tf.Tensor]:
        token_ids, mask_seed = batch
        changed, to_guess = mask_tokens(
            token_ids,
            mask_seed,
            mask_rate=config.mask_rate,
            mask_token_id=mask_token_id,
            num_special=num_special,
            vocabulary_size=vocabulary_size,
        )
        answers = tf.boolean_mask(token_ids, to_guess)  # [m]
        positions = tf.cast(tf.where(tf.reshape(to_guess, [-1]))[:, 0], tf.int32)  # [m]
        with tf.GradientTape() as tape:
            outputs = backbone(
                {
                    "token_ids": changed,
                    "segment_ids": tf.zeros_like(changed),
                    "padding_mask": token_ids != 0,
                },
                training=True,
            )
            flat = tf.reshape(outputs["sequence_output"], [1, -1, backbone.hidden_dim])
            logits = head(flat, positions[None])[0]  # [m, vocabulary]
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(answers, logits)
            loss = tf.math.divide_no_nan(
                tf.reduce_sum(losses), tf.cast(tf.size(answers), tf.float32)
            )
        gradients = tape.gradient(loss, weights)
        pairs = [(g, w) for g, w in zip(gradients, weights, strict=True) if g is not None]
        optimizer.apply_gradients(pairs)
        hits = tf.cast(tf.argmax(logits, axis=1, output_type=tf.int32) == answers, tf.float32)
        accuracy = tf.math.divide_no_nan(tf.reduce_sum(hits), tf.cast(tf.size(answers), tf.float32))
        return {"loss": loss, "accuracy": accuracy}

    def batches(number: int, first_step: int) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        rng = np.random.default_rng([seed, number])
        size = min(config.batch_size, len(tokens))
        for position in range(span):
            chosen = rng.choice(len(tokens), size, replace=False)
            if position < first_step:
                continue  # drawn all the same, for the draws that follow
            rows = tokens[chosen]
            width = int((rows != 0).sum(axis=1).max())
            mask_seed = tf.constant([seed, number * span + position], tf.int32)
            yield tf.constant(rows[:, :width]), mask_seed

    run = Run(
        name="masked-LM pre-training",
        rounds=rounds,
        steps_per_round=span,
        batches=batches,
        step=step,
        variables=[*backbone.variables, *_own_variables(head, backbone), *optimizer.variables],
        weights=backbone.variables,
    )
    return fit(run, checkpoint_folder)


def _own_variables(
    head: keras_nlp.layers.MaskedLMHead, backbone: keras_nlp.models.BertBackbone
) -> list[keras.Variable]:
    shared = {id(variable) for variable in backbone.variables}
    return [variable for variable in head.variables if id(variable) not in shared]
