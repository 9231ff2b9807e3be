import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from tfrec.encoders.bert import SIZES, TextEncoder, build_backbone, is_pretrained, load_vocabulary
from tfrec.errors import ConfigError

VOCABULARY_SIZE, MAX_TOKENS = 60, 12
TOKENS = np.array(
    [[2, 10, 11, 12, 3, 0, 0], [2, 13, 3, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]], np.int32
)


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(build_backbone("nano", VOCABULARY_SIZE, MAX_TOKENS, dropout=0.2))


def encode(encoder: TextEncoder, tokens: np.ndarray, training: bool = False) -> np.ndarray:
    return encoder(tf.constant(tokens), training=training).numpy()


def set_standard(encoder: TextEncoder, mean: float = 0.0, deviation: float = 1.0) -> None:
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


HF_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "shoe", "##s", "lamp"]
HF_DIM, HF_LAYERS, HF_HEADS, HF_HIDDEN, HF_LENGTH = 8, 2, 2, 16, 10


def write_hugging_face_bert(folder: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """Writes a random BERT the way Hugging Face does and returns its weights by their names."""
    rng = np.random.default_rng(seed)
    config = {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "vocab_size": len(HF_TOKENS),
        "num_hidden_layers": HF_LAYERS,
        "num_attention_heads": HF_HEADS,
        "hidden_size": HF_DIM,
        "intermediate_size": HF_HIDDEN,
        "max_position_embeddings": HF_LENGTH,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
    }
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(HF_TOKENS), HF_DIM),
        "embeddings.position_embeddings.weight": (HF_LENGTH, HF_DIM),
        "embeddings.token_type_embeddings.weight": (2, HF_DIM),
        "embeddings.LayerNorm.weight": (HF_DIM,),
        "embeddings.LayerNorm.bias": (HF_DIM,),
        "pooler.dense.weight": (HF_DIM, HF_DIM),
        "pooler.dense.bias": (HF_DIM,),
    }
    for layer in range(HF_LAYERS):
        for name, (rows, columns) in {
            "attention.self.query": (HF_DIM, HF_DIM),
            "attention.self.key": (HF_DIM, HF_DIM),
            "attention.self.value": (HF_DIM, HF_DIM),
            "attention.output.dense": (HF_DIM, HF_DIM),
            "intermediate.dense": (HF_HIDDEN, HF_DIM),
            "output.dense": (HF_DIM, HF_HIDDEN),
        }.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = (rows, columns)
            shapes[f"encoder.layer.{layer}.{name}.bias"] = (rows,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"encoder.layer.{layer}.{name}.weight"] = (HF_DIM,)
            shapes[f"encoder.layer.{layer}.{name}.bias"] = (HF_DIM,)
    weights = {
        f"bert.{name}": rng.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(HF_TOKENS) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    return {name.removeprefix("bert."): value for name, value in weights.items()}


def numpy_bert(weights: dict[str, np.ndarray], tokens: list[int]) -> np.ndarray:
    """BERT's last layer for one text, float64 [length, dim], from the paper's formulas."""

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(axis=-1, keepdims=True)
        scaled = centred / np.sqrt(x.var(axis=-1, keepdims=True) + 1e-12)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T.astype(float) + weights[f"{name}.bias"]

    def gelu(x: np.ndarray) -> np.ndarray:
        from math import erf

        return 0.5 * x * (1 + np.vectorize(erf)(x / np.sqrt(2)))

    x = weights["embeddings.word_embeddings.weight"][tokens].astype(float)
    x = x + weights["embeddings.position_embeddings.weight"][: len(tokens)]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(HF_LAYERS):
        prefix = f"encoder.layer.{layer}"
        query, key, value = (
            dense(x, f"{prefix}.attention.self.{part}").reshape(len(tokens), HF_HEADS, -1)
            for part in ("query", "key", "value")
        )
        logits = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(HF_DIM / HF_HEADS)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", shares, value).reshape(len(tokens), HF_DIM)
        x = norm(
            x + dense(mixed, f"{prefix}.attention.output.dense"),
            f"{prefix}.attention.output.LayerNorm",
        )
        hidden = gelu(dense(x, f"{prefix}.intermediate.dense"))
        x = norm(x + dense(hidden, f"{prefix}.output.dense"), f"{prefix}.output.LayerNorm")
    return x


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, np.ndarray]]:
    folder = tmp_path_factory.mktemp("bert")
    return str(folder), write_hugging_face_bert(folder)


def test_hugging_face_folder_gives_its_vocabulary(hugging_face):
    assert load_vocabulary(hugging_face[0]) == HF_TOKENS


def test_hugging_face_folder_gives_its_sizes_and_embeddings(hugging_face):
    folder, weights = hugging_face
    backbone = build_backbone(folder, vocabulary_size=1, max_tokens=1, dropout=0.5)
    assert backbone.hidden_dim == HF_DIM
    assert backbone.num_layers == HF_LAYERS
    np.testing.assert_array_equal(
        backbone.token_embedding.embeddings.numpy(), weights["embeddings.word_embeddings.weight"]
    )


def test_hugging_face_folder_encodes_as_the_formulas_say(hugging_face):
    folder, weights = hugging_face
    text = [2, 5, 6, 7, 3]
    encoder = TextEncoder(build_backbone(folder, vocabulary_size=1, max_tokens=1, dropout=0.0))
    vector = encode(encoder, np.array([[*text, 0, 0]], np.int32))[0]
    np.testing.assert_allclose(vector, numpy_bert(weights, text).mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer_config.json"])
def test_hugging_face_folder_without_a_file_names_it(tmp_path, missing):
    write_hugging_face_bert(tmp_path)
    (tmp_path / missing).unlink()
    read = load_vocabulary if missing == "tokenizer_config.json" else build_backbone
    settings = [] if read is load_vocabulary else [1, 1, 0.0]
    with pytest.raises(ConfigError, match=missing):
        read(str(tmp_path), *settings)
