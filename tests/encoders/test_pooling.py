import numpy as np
import pytest
import tensorflow as tf

from tfrec.encoders.bert import BertEncoder, build_backbone
from tfrec.encoders.pooling import AttentionPooling, build_pooling

KINDS = ["mean", "cls", "attention"]


def pool_text(kind: str, vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Pools one text's tokens, [length, dim], one after the other."""
    if kind == "cls":
        return vectors[0]
    shares = np.ones(len(vectors))
    if kind == "attention":
        shares = np.exp([float(v @ query) / len(v) ** 0.5 for v in vectors])
    total = np.zeros(vectors.shape[1])
    for share, vector in zip(shares, vectors, strict=True):
        total += share / sum(shares) * vector
    return total


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_pooling_is_its_definition_text_by_text(kind, seed):
    rng = np.random.default_rng(seed)
    vectors = rng.normal(0, 2, (5, 7, 6)).astype(np.float32)
    lengths = rng.integers(1, 8, 5)
    query = rng.normal(0, 2, 6).astype(np.float32)
    pool = build_pooling(kind, 6)
    if isinstance(pool, AttentionPooling):
        pool.query.assign(query)
    got = pool(tf.constant(vectors), tf.constant(np.arange(7) < lengths[:, None])).numpy()
    for row, length in enumerate(lengths):
        wanted = pool_text(kind, vectors[row, :length], query)
        np.testing.assert_allclose(got[row], wanted, atol=1e-5)


def test_attention_that_has_learned_nothing_is_the_mean():
    rng = np.random.default_rng(0)
    vectors = tf.constant(rng.normal(size=(3, 4, 5)).astype(np.float32))
    is_token = tf.constant([[True, True, False, False], [True] * 4, [True, False, False, False]])
    one, other = (build_pooling(kind, 5)(vectors, is_token) for kind in ("attention", "mean"))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_attention_learns_to_look_at_the_token_that_tells():
    rng = np.random.default_rng(0)
    signal, mark = rng.normal(size=(64, 1)), np.zeros((64, 6, 3), np.float32)
    mark[:, 2, 0] = 2.0  # one token of each text is marked, and it alone holds the signal
    vectors = np.concatenate([rng.normal(size=(64, 6, 1)), mark], axis=2).astype(np.float32)
    vectors[:, 2, :1] = signal
    pool = AttentionPooling(4)
    for _ in range(200):
        with tf.GradientTape() as tape:
            pooled = pool(tf.constant(vectors), tf.fill([64, 6], True))[:, :1]
            loss = tf.reduce_mean((pooled - signal.astype(np.float32)) ** 2)
        pool.query.assign_sub(2.0 * tape.gradient(loss, pool.query.value))
    assert loss < 0.05
    assert pool.query.numpy()[1] > 3


@pytest.mark.parametrize("kind", KINDS)
def test_encoder_of_each_pooling_keeps_padding_and_empty_texts_out(kind):
    encoder = BertEncoder(build_backbone("nano", 30, 12, 0.0), kind)
    encoder.mean.assign(np.full(64, 0.5))
    tokens = np.array([[2, 7, 8, 3], [0, 0, 0, 0], [2, 9, 3, 0]], np.int32)
    vectors = encoder(tf.constant(tokens)).numpy()
    assert not vectors[1].any()
    assert vectors[[0, 2]].any(axis=1).all()
    wider = encoder(tf.constant(np.pad(tokens, ((0, 0), (0, 5))))).numpy()
    np.testing.assert_allclose(wider, vectors, atol=1e-5)


def test_gradient_of_an_empty_text_is_finite():
    encoder = BertEncoder(build_backbone("nano", 30, 12, 0.0), "attention")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(encoder(tf.constant([[2, 7, 3], [0, 0, 0]])) ** 2)
    for gradient in tape.gradient(loss, encoder.trainable_variables):
        if gradient is not None:
            assert np.isfinite(tf.convert_to_tensor(gradient)).all()
