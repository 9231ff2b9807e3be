"""Hugging Face folders: every tensor is read, and a folder that is not whole is refused."""

import json
from collections.abc import Callable
from pathlib import Path

import keras_nlp
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from tfrec.encoders.bert import BertEncoder, build_backbone, load_vocabulary
from tfrec.errors import ConfigError

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "shoe", "##s", "lamp"]
DIM, LAYERS, HEADS, HIDDEN, LENGTH = 8, 2, 2, 16, 10


def write_hugging_face_bert(
    folder: Path,
    seed: int = 0,
    change: Callable[[dict[str, np.ndarray]], object] = len,
    **settings: object,
) -> dict[str, np.ndarray]:
    """Writes a random BERT the way Hugging Face does and returns its weights by their names.

    `change` may alter the named tensors before they are written.
    """
    rng = np.random.default_rng(seed)
    config = {
        "architectures": ["BertForMaskedLM"],
        "model_type": "bert",
        "vocab_size": len(TOKENS),
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "hidden_size": DIM,
        "intermediate_size": HIDDEN,
        "max_position_embeddings": LENGTH,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
    } | settings
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (len(TOKENS), DIM),
        "embeddings.position_embeddings.weight": (LENGTH, DIM),
        "embeddings.token_type_embeddings.weight": (2, DIM),
        "embeddings.LayerNorm.weight": (DIM,),
        "embeddings.LayerNorm.bias": (DIM,),
        "pooler.dense.weight": (DIM, DIM),
        "pooler.dense.bias": (DIM,),
    }
    for layer in range(LAYERS):
        for name, (rows, columns) in {
            "attention.self.query": (DIM, DIM),
            "attention.self.key": (DIM, DIM),
            "attention.self.value": (DIM, DIM),
            "attention.output.dense": (DIM, DIM),
            "intermediate.dense": (HIDDEN, DIM),
            "output.dense": (DIM, HIDDEN),
        }.items():
            shapes[f"encoder.layer.{layer}.{name}.weight"] = (rows, columns)
            shapes[f"encoder.layer.{layer}.{name}.bias"] = (rows,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"encoder.layer.{layer}.{name}.weight"] = (DIM,)
            shapes[f"encoder.layer.{layer}.{name}.bias"] = (DIM,)
    weights = {
        f"bert.{name}": rng.normal(0, 0.5, shape).astype(np.float32)
        for name, shape in shapes.items()
    }
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.txt").write_text("\n".join(TOKENS) + "\n")
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
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        query, key, value = (
            dense(x, f"{prefix}.attention.self.{part}").reshape(len(tokens), HEADS, -1)
            for part in ("query", "key", "value")
        )
        logits = np.einsum("qhd,khd->hqk", query, key) / np.sqrt(DIM / HEADS)
        shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares /= shares.sum(axis=-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", shares, value).reshape(len(tokens), DIM)
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
    assert load_vocabulary(hugging_face[0]) == TOKENS


def test_hugging_face_folder_gives_its_sizes_and_embeddings(hugging_face):
    folder, weights = hugging_face
    backbone = build_backbone(folder, vocabulary_size=1, max_tokens=1, dropout=0.5)
    assert backbone.dropout == 0.5
    assert backbone.hidden_dim == DIM
    assert backbone.num_layers == LAYERS
    np.testing.assert_array_equal(
        backbone.token_embedding.embeddings.numpy(), weights["embeddings.word_embeddings.weight"]
    )


def test_hugging_face_folder_encodes_as_the_formulas_say(hugging_face):
    folder, weights = hugging_face
    text = [2, 5, 6, 7, 3]
    encoder = BertEncoder(build_backbone(folder, vocabulary_size=1, max_tokens=1, dropout=0.0))
    vector = encoder(tf.constant([[*text, 0, 0]])).numpy()[0]
    np.testing.assert_allclose(vector, numpy_bert(weights, text).mean(axis=0), atol=1e-4)


@pytest.mark.parametrize("missing", ["model.safetensors", "tokenizer_config.json"])
def test_hugging_face_folder_without_a_file_names_it(tmp_path, missing):
    write_hugging_face_bert(tmp_path)
    (tmp_path / missing).unlink()
    read = load_vocabulary if missing == "tokenizer_config.json" else build_backbone
    settings = [] if read is load_vocabulary else [1, 1, 0.0]
    with pytest.raises(ConfigError, match=missing):
        read(str(tmp_path), *settings)


def load(folder: Path) -> keras_nlp.models.BertBackbone:
    return build_backbone(str(folder), vocabulary_size=1, max_tokens=1, dropout=0.0)


def test_hugging_face_folder_gives_the_weights_that_keras_nlp_reads(hugging_face):
    folder = hugging_face[0]
    theirs = keras_nlp.models.BertBackbone.from_preset(folder)
    for ours, wanted in zip(load(folder).weights, theirs.weights, strict=True):
        assert ours.path == wanted.path
        np.testing.assert_array_equal(ours.numpy(), wanted.numpy())


def rename(weights: dict[str, np.ndarray], old: str, new: str) -> None:
    for name in [name for name in weights if old in name]:
        weights[name.replace(old, new)] = weights.pop(name)


def drop(weights: dict[str, np.ndarray], part: str) -> None:
    for name in [name for name in weights if part in name]:
        del weights[name]


@pytest.mark.parametrize(
    "change",
    [
        lambda w: rename(w, "bert.", ""),
        lambda w: rename(w, "LayerNorm.weight", "LayerNorm.gamma"),
        lambda w: rename(w, "LayerNorm.bias", "LayerNorm.beta"),
        lambda w: drop(w, "pooler"),
        lambda w: w.update({"cls.predictions.bias": np.zeros(9, np.float32)}),
        lambda w: w.update({"bert.embeddings.position_ids": np.arange(10)[None]}),
        lambda w: w.update({n: v.astype(np.float64) for n, v in w.items()}),
    ],
    ids=["no prefix", "gamma", "beta", "no pooler", "head", "position ids", "float64"],
)
def test_hugging_face_folder_of_another_make_gives_the_same_vectors(tmp_path, change):
    (tmp_path / "plain").mkdir()
    (tmp_path / "other").mkdir()
    write_hugging_face_bert(tmp_path / "plain")
    write_hugging_face_bert(tmp_path / "other", change=change)
    wanted, got = (
        BertEncoder(load(tmp_path / name))(tf.constant([[2, 5, 6, 3]])).numpy()
        for name in ("plain", "other")
    )
    np.testing.assert_array_equal(got, wanted)


QUERY = "bert.encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda w: w.pop(QUERY), "missing encoder.layer.1.attention.self.query.weight"),
        (lambda w: drop(w, "layer.1"), "and 11 more"),
        (lambda w: rename(w, "layer.1.", "layer.2."), "missing encoder.layer.1"),
        (lambda w: w.update({"bert.adapter.weight": w[QUERY]}), "no place for: adapter.weight"),
        (lambda w: w.update({QUERY: w[QUERY][:4]}), r"shape \(8, 8\), got \(4, 8\)"),
        (
            lambda w: w.update(
                {n: v.T.copy() for n, v in w.items() if n.endswith("0.output.dense.weight")}
            ),
            r"0.output.dense.weight: wanted shape \(8, 16\), got \(16, 8\)",
        ),
        (lambda w: w.update({QUERY: w[QUERY] * np.nan}), "wanted numbers"),
    ],
    ids=["one missing", "layer missing", "renamed", "unknown", "cut", "transposed", "nan"],
)
def test_hugging_face_folder_that_is_not_whole_names_the_tensor(tmp_path, change, wanted):
    write_hugging_face_bert(tmp_path, change=change)
    with pytest.raises(ConfigError, match=wanted) as caught:
        load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"num_hidden_layers": 1}, "no place for: encoder.layer.1"),
        ({"num_hidden_layers": 3}, "missing encoder.layer.2"),
        ({"hidden_act": "relu"}, "wanted hidden_act 'gelu', got 'relu'"),
        ({"model_type": "roberta"}, "wanted model_type 'bert', got 'roberta'"),
        ({"position_embedding_type": "relative_key"}, "got 'relative_key'"),
        ({"vocab_size": 10}, r"wanted shape \(10, 8\), got \(9, 8\)"),
    ],
)
def test_hugging_face_config_that_does_not_fit_is_refused(tmp_path, settings, wanted):
    write_hugging_face_bert(tmp_path, **settings)
    with pytest.raises(ConfigError, match=wanted):
        load(tmp_path)


def test_hugging_face_file_that_is_cut_off_is_refused(tmp_path):
    write_hugging_face_bert(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("vocabulary_size", "max_tokens", "wanted"),
    [(10, 1, "its 10 tokens, got 9"), (9, 11, "10 tokens at most; .*got 11")],
)
def test_pretrained_weights_that_are_too_small_are_refused(
    hugging_face, vocabulary_size, max_tokens, wanted
):
    with pytest.raises(ConfigError, match=wanted):
        build_backbone(hugging_face[0], vocabulary_size, max_tokens, dropout=0.0)
    build_backbone(hugging_face[0], 9, 10, dropout=0.0)


@pytest.mark.parametrize("is_whole", [True, False])
def test_keras_nlp_folder_gives_its_weights_and_no_fewer(hugging_face, tmp_path, is_whole):
    whole = load(hugging_face[0])
    whole.save_to_preset(str(tmp_path))
    tokenizer = keras_nlp.models.BertTokenizer(vocabulary=TOKENS, lowercase=True)
    tokenizer.save_to_preset(str(tmp_path))
    if is_whole:
        for ours, wanted in zip(load(tmp_path).weights, whole.weights, strict=True):
            np.testing.assert_array_equal(ours.numpy(), wanted.numpy())
        return
    config = json.loads((tmp_path / "config.json").read_text())
    config["config"]["num_layers"] += 1
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="could not be loaded"):
        load(tmp_path)
