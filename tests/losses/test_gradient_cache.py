import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrec.losses.gradient_cache import cached_encode, seed_states_of

VOCABULARY, LENGTH, DIM = 30, 6, 5


def build_encoder(dropout: float = 0.0) -> keras.Model:
    """Builds a small text encoder with weights that are not near zero."""
    layers = keras.layers
    tokens = keras.Input([None], dtype="int32")
    hidden = layers.Embedding(VOCABULARY, 8)(tokens)
    hidden = layers.Dropout(dropout, seed=1)(hidden)
    if not dropout:  # the tests of dropout trace each chunk, which is slow with attention
        hidden = layers.MultiHeadAttention(2, 4)(hidden, hidden)
    hidden = layers.LayerNormalization()(hidden)
    hidden = layers.GlobalAveragePooling1D()(hidden)
    hidden = layers.Dense(16, activation="gelu")(hidden)
    hidden = layers.Dropout(dropout, seed=2)(hidden)
    encoder = keras.Model(tokens, layers.Dense(DIM)(hidden))
    rng = np.random.default_rng(0)
    for weight in encoder.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    return encoder


@pytest.fixture(scope="module")
def encoder() -> keras.Model:
    return build_encoder()


def draw_tokens(seed: int, rows: int) -> tf.Tensor:
    drawn = np.random.default_rng(seed).integers(0, VOCABULARY, (rows, LENGTH))
    return tf.constant(drawn, tf.int32)


def in_batch_loss(vectors: tf.Tensor) -> tf.Tensor:
    """A loss in which every row depends on every other."""
    logits = 0.1 * tf.matmul(vectors, vectors[::-1], transpose_b=True)
    return tf.reduce_mean(tf.nn.log_softmax(logits) * tf.cos(logits))


def gradients_of(encode, weights, tokens, in_graph=True):
    def compute(tokens):
        with tf.GradientTape() as tape:
            vectors = encode(tokens)
            loss = in_batch_loss(vectors)
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        return vectors, [tf.convert_to_tensor(gradient) for gradient in gradients]

    if in_graph:
        signature = [tf.TensorSpec([None, LENGTH], tf.int32)]
        compute = tf.function(compute, input_signature=signature, autograph=False)
    return compute(tokens)


def assert_near(cached, whole) -> None:
    np.testing.assert_allclose(cached[0], whole[0], atol=1e-5)
    for ours, wanted in zip(cached[1], whole[1], strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-5)


def set_states(states, values) -> None:
    for state, value in zip(states, values, strict=True):
        state.assign(value)


@pytest.mark.parametrize("in_graph", [True, False])
@pytest.mark.parametrize(("rows", "chunk_size"), [(12, 4), (12, 5), (12, 1), (3, 8), (0, 4)])
def test_gradients_equal_those_of_the_whole_batch(encoder, rows, chunk_size, in_graph):
    tokens, weights = draw_tokens(rows, rows), encoder.trainable_weights

    def encode_cached(tokens):
        return cached_encode(encoder, tokens, chunk_size=chunk_size, weights=weights)

    cached = gradients_of(encode_cached, weights, tokens, in_graph)
    whole = gradients_of(encoder, weights, tokens)
    assert cached[0].shape == (rows, DIM)
    assert_near(cached, whole)
    if rows:
        assert max(float(tf.reduce_max(tf.abs(gradient))) for gradient in cached[1]) > 0.01


def test_gradients_of_some_weights_equal_those_of_the_whole_batch(encoder):
    tokens, weights = draw_tokens(1, 7), encoder.trainable_weights[-3:]
    cached = gradients_of(
        lambda tokens: cached_encode(encoder, tokens, chunk_size=3, weights=weights),
        weights,
        tokens,
    )
    assert_near(cached, gradients_of(encoder, weights, tokens))


@pytest.mark.parametrize("in_graph", [True, False])
def test_gradients_of_gathered_vectors_equal_those_of_the_whole_batch(encoder, in_graph):
    tokens, weights = draw_tokens(3, 7), encoder.trainable_weights

    def gather_from(encode):
        return lambda tokens: tf.gather(encode(tokens), [6, 2, 2, 0, 5])

    cached = gradients_of(
        gather_from(lambda tokens: cached_encode(encoder, tokens, chunk_size=3, weights=weights)),
        weights,
        tokens,
        in_graph,
    )
    assert_near(cached, gradients_of(gather_from(encoder), weights, tokens))


def test_weights_used_elsewhere_too_get_the_sum_of_both_gradients(encoder):
    tokens, weights = draw_tokens(2, 7), encoder.trainable_weights

    def encode_twice(encode):
        return lambda tokens: encode(tokens) + 2.0 * encoder(tokens[::-1])

    cached = gradients_of(
        encode_twice(lambda tokens: cached_encode(encoder, tokens, chunk_size=3, weights=weights)),
        weights,
        tokens,
    )
    assert_near(cached, gradients_of(encode_twice(encoder), weights, tokens))


def test_inputs_in_a_dict_are_cut_together(encoder):
    tokens, weights = draw_tokens(3, 7), encoder.trainable_weights
    scale = tf.linspace(1.0, 2.0, 7)[:, tf.newaxis]

    def encode(inputs):
        return encoder(inputs["tokens"]) * inputs["scale"]

    cached = gradients_of(
        lambda tokens: cached_encode(
            encode, {"tokens": tokens, "scale": scale}, chunk_size=2, weights=weights
        ),
        weights,
        tokens,
    )
    whole = gradients_of(lambda tokens: encode({"tokens": tokens, "scale": scale}), weights, tokens)
    assert_near(cached, whole)


def test_chunk_size_below_one_is_refused(encoder):
    with pytest.raises(ValueError, match="Received: 0"):
        cached_encode(encoder, draw_tokens(0, 2), chunk_size=0, weights=[])


def test_seed_states_are_those_of_each_dropout():
    states = seed_states_of(build_encoder(0.5))
    assert len({id(state) for state in states}) == len(states)
    assert len(states) == 2
    assert all("seed" in state.path for state in states)


@pytest.mark.parametrize("in_graph", [True, False])
@pytest.mark.parametrize("chunk_size", [4, 5])
def test_both_ways_drop_out_the_same_and_draws_between_them_do_no_harm(chunk_size, in_graph):
    encoder = build_encoder(0.3)
    states, weights = seed_states_of(encoder), encoder.trainable_weights
    start = [state.numpy() for state in states]
    tokens = draw_tokens(4, 12)

    def encode(tokens):
        return encoder(tokens, training=True)

    def by_chunk(tokens):
        parts = [encode(tokens[i : i + chunk_size]) for i in range(0, 12, chunk_size)]
        return tf.concat(parts, axis=0) + encode(tokens[:1])

    def cached(tokens):
        vectors = cached_encode(
            encode, tokens, chunk_size=chunk_size, weights=weights, seed_states=states
        )
        return vectors + encode(tokens[:1])  # a draw after the way forward, before the way back

    wanted = gradients_of(by_chunk, weights, tokens, in_graph)
    wanted_states = [state.numpy() for state in states]
    set_states(states, start)
    found = gradients_of(cached, weights, tokens, in_graph)
    assert_near(found, wanted)
    for state, value in zip(states, wanted_states, strict=True):  # as without a second way
        np.testing.assert_array_equal(state.numpy(), value)
    following = gradients_of(cached, weights, tokens, in_graph)
    assert np.abs(following[0] - found[0]).max() > 0.01


def test_without_seed_states_gradients_with_dropout_are_wrong():
    # Shows that the test above can tell.
    encoder = build_encoder(0.3)
    states, weights = seed_states_of(encoder), encoder.trainable_weights
    start = [state.numpy() for state in states]
    results = []
    for kept in (states, []):
        set_states(states, start)
        results.append(
            gradients_of(
                lambda tokens, kept=kept: cached_encode(
                    lambda chunk: encoder(chunk, training=True),
                    tokens,
                    chunk_size=4,
                    weights=weights,
                    seed_states=kept,
                ),
                weights,
                draw_tokens(5, 12),
            )
        )
    with pytest.raises(AssertionError):
        assert_near(*results)
