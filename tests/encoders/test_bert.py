import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrec.encoders.bert import SIZES, BertEncoder, build_backbone, is_pretrained, load_vocabulary
from tfrec.errors import ConfigError

VOCABULARY_SIZE, MAX_TOKENS = 60, 12
TOKENS = np.array(
    [[2, 10, 11, 12, 3, 0, 0], [2, 13, 3, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]], np.int32
)


@pytest.fixture(scope="module")
def encoder() -> BertEncoder:
    return BertEncoder(build_backbone("nano", VOCABULARY_SIZE, MAX_TOKENS, dropout=0.2))


def encode(encoder: BertEncoder, tokens: np.ndarray, training: bool = False) -> np.ndarray:
    return encoder(tf.constant(tokens), training=training).numpy()


def set_standard(encoder: BertEncoder, mean: float = 0.0, deviation: float = 1.0) -> None:
    encoder.mean.assign(np.full(encoder.hidden_dim, mean))
    encoder.deviation.assign(np.full(encoder.hidden_dim, deviation))


@pytest.fixture(autouse=True)
def _standard_encoder(request: pytest.FixtureRequest) -> None:
    """Every test starts from an encoder that has measured nothing."""
    if "encoder" in request.fixturenames:
        set_standard(request.getfixturevalue("encoder"))


# Text to vector


def test_encoder_shape_and_dtype(encoder):
    vectors = encode(encoder, TOKENS)
    assert vectors.shape == (3, SIZES["nano"].hidden_dim)
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()


def test_encoder_of_empty_batch_answers_no_rows(encoder):
    assert encode(encoder, np.zeros((0, 4), np.int32)).shape == (0, encoder.hidden_dim)


@pytest.mark.parametrize("more", [1, 5])
def test_padding_further_does_not_change_the_vector(encoder, more):
    wanted = encode(encoder, TOKENS)
    padded = encode(encoder, np.pad(TOKENS, ((0, 0), (0, more))))
    np.testing.assert_allclose(padded, wanted, atol=1e-5)


def test_vector_does_not_depend_on_the_other_texts(encoder):
    together = encode(encoder, TOKENS)
    for row in range(len(TOKENS)):
        alone = encode(encoder, TOKENS[row : row + 1])
        np.testing.assert_allclose(alone[0], together[row], atol=1e-5)


def test_empty_text_is_zeros_before_and_after_standardising(encoder):
    assert not encode(encoder, TOKENS)[2].any()
    set_standard(encoder, mean=3.0, deviation=2.0)
    vectors = encode(encoder, TOKENS)
    assert not vectors[2].any()
    assert vectors[:2].any(axis=1).all()


def test_vector_is_the_mean_of_the_last_layer_over_tokens(encoder):
    text = TOKENS[:1, :5]
    outputs = encoder.backbone(
        {
            "token_ids": tf.constant(text),
            "segment_ids": tf.zeros_like(text),
            "padding_mask": tf.ones_like(text, tf.bool),
        },
        training=False,
    )
    wanted = outputs["sequence_output"].numpy()[0].mean(axis=0)
    np.testing.assert_allclose(encode(encoder, TOKENS)[0], wanted, atol=1e-5)


def test_order_of_tokens_changes_the_vector(encoder):
    swapped = TOKENS[:1, [0, 2, 1, 3, 4, 5, 6]]
    assert np.abs(encode(encoder, swapped) - encode(encoder, TOKENS[:1])).max() > 1e-3


def test_dropout_acts_in_training_only(encoder):
    first, second = (encode(encoder, TOKENS, training=True) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3
    np.testing.assert_array_equal(encode(encoder, TOKENS), encode(encoder, TOKENS))


# Standardising


def test_standardize_gives_mean_zero_and_deviation_one_over_the_texts(encoder):
    rng = np.random.default_rng(0)
    tokens = rng.integers(5, VOCABULARY_SIZE, (40, 6), np.int32)
    tokens[0] = 0  # an empty text does not count
    encoder.standardize(encode(encoder, tokens))
    vectors = encode(encoder, tokens)[1:]
    np.testing.assert_allclose(vectors.mean(axis=0), 0.0, atol=1e-4)
    np.testing.assert_allclose(vectors.std(axis=0), 1.0, atol=1e-3)


def test_standardize_on_constant_vectors_stays_finite(encoder):
    encoder.standardize(np.full((5, encoder.hidden_dim), 0.25, np.float32))
    np.testing.assert_allclose(encoder.mean.numpy(), 0.25)
    assert encoder.deviation.numpy().min() > 0
    assert np.isfinite(encode(encoder, TOKENS)).all()


@pytest.mark.parametrize("num_texts", [0, 1])
def test_standardize_on_too_few_texts_changes_nothing(encoder, num_texts):
    vectors = np.zeros((3, encoder.hidden_dim), np.float32)
    vectors[:num_texts] = 7.0
    encoder.standardize(vectors)
    assert not encoder.mean.numpy().any()
    assert (encoder.deviation.numpy() == 1).all()


def test_mean_and_deviation_are_never_trained(encoder):
    trained = {id(variable) for variable in encoder.trainable_variables}
    assert trained
    assert id(encoder.mean) not in trained
    assert id(encoder.deviation) not in trained
    kept = {id(variable) for variable in encoder.variables}
    assert {id(encoder.mean), id(encoder.deviation)} <= kept


# Sources


@pytest.mark.parametrize("size", SIZES)
def test_sizes_are_no_pretrained_sources(size):
    assert not is_pretrained(size)


def test_unknown_source_names_the_sizes_and_the_nearest():
    with pytest.raises(ConfigError) as caught:
        build_backbone("tinny", VOCABULARY_SIZE, MAX_TOKENS, dropout=0.0)
    message = str(caught.value)
    assert "'tinny'" in message
    for size in SIZES:
        assert size in message
    assert "Did you mean 'tiny'?" in message
    assert "\n" not in message


@pytest.mark.parametrize("files", [[], ["config.json"], ["vocab.txt"], ["model.safetensors"]])
@pytest.mark.parametrize("read", [load_vocabulary, lambda s: build_backbone(s, 9, 9, 0.0)])
def test_folder_without_the_files_names_folder_and_files(tmp_path, files, read):
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ConfigError) as caught:
        read(str(tmp_path))
    message = str(caught.value)
    assert str(tmp_path) in message
    assert "vocab.txt" in message
    assert "\n" not in message


# Sizes


@pytest.mark.parametrize(
    ("size", "layers", "dim", "million_weights"),
    [
        # Turc et al., Well-Read Students Learn Better (2019), table 1 and its release: L, H, and
        # weights for a vocabulary of 30,522 and 512 positions, pooler included.
        ("tiny", 2, 128, 4.4),
        ("mini", 4, 256, 11.2),
        ("small", 4, 512, 28.8),
        ("medium", 8, 512, 41.4),
        ("base", 12, 768, 109.5),
    ],
)
def test_size_has_the_shape_and_number_of_weights_of_the_paper(size, layers, dim, million_weights):
    assert (SIZES[size].num_layers, SIZES[size].hidden_dim) == (layers, dim)
    assert dim / SIZES[size].num_heads == 64
    backbone = build_backbone(size, 22, 512, dropout=0.0)  # 30,500 rows fewer, to be quick
    assert backbone.num_layers == layers
    count = backbone.count_params() + 30500 * dim
    assert count / 1e6 == pytest.approx(million_weights, abs=0.06)


def test_size_holds_its_vocabulary_and_its_longest_text():
    backbone = build_backbone("nano", VOCABULARY_SIZE, MAX_TOKENS, dropout=0.3)
    assert backbone.token_embedding.embeddings.shape == (VOCABULARY_SIZE, 64)
    assert backbone.position_embedding.position_embeddings.shape == (MAX_TOKENS, 64)
    assert backbone.dropout == 0.3


# Mixed precision


@pytest.mark.parametrize("pooling", ["mean", "cls", "attention"])
def test_encoder_of_mixed_precision_answers_float32_close_to_full_precision(pooling):
    full = BertEncoder(build_backbone("nano", VOCABULARY_SIZE, MAX_TOKENS, 0.0), pooling)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = BertEncoder(build_backbone("nano", VOCABULARY_SIZE, MAX_TOKENS, 0.0), pooling)
    finally:
        keras.config.set_dtype_policy("float32")
    for encoder in (full, mixed):
        set_standard(encoder, mean=0.123456789, deviation=0.5)
    for variable, value in zip(mixed.weights, full.weights, strict=True):
        assert variable.dtype == "float32"
        variable.assign(value)
    assert mixed.backbone.compute_dtype == "bfloat16"
    vectors = encode(mixed, TOKENS)
    assert vectors.dtype == np.float32
    wanted = encode(full, TOKENS)
    # bfloat16 keeps 8 bits: an error near 1 / 256 of values of size 1, over the deviation of 0.5
    error = np.abs(vectors - wanted).max()
    assert 0 < error < 0.1
    assert not vectors[2].any()
