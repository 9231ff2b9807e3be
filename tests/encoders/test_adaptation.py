"""Which weights each adaptation trains, that it starts as nothing, and that it can be saved."""

import numpy as np
import pytest
import tensorflow as tf

from tfrec.encoders.adaptation import adapt
from tfrec.encoders.bert import BertEncoder, build_backbone
from tfrec.errors import ConfigError
from tfrec.training.checkpoint import load_variables, save_variables

VOCABULARY_SIZE, LENGTH = 30, 8
LAYERS, DIM, HEADS, RANK = 2, 128, 2, 3  # tiny
TOKENS = tf.constant([[2, 10, 11, 3, 0], [2, 13, 3, 0, 0]])
ADAPTATIONS = ["frozen", "last_layers", "full", "lora"]

# A transformer block: four projections, two dense layers, two norms.
BLOCK = 4 * (DIM * DIM + DIM) + 2 * 4 * DIM * DIM + 4 * DIM + DIM + 2 * 2 * DIM
EMBEDDINGS = (VOCABULARY_SIZE + LENGTH + 2) * DIM + 2 * DIM
# Beside query and value: A [dim, heads, rank], B [rank, dim / heads].
LORA = LAYERS * 2 * (DIM * HEADS * RANK + RANK * DIM // HEADS)


def make(adaptation: str, pooling: str = "mean", trained_layers: int = 1) -> BertEncoder:
    encoder = BertEncoder(build_backbone("tiny", VOCABULARY_SIZE, LENGTH, 0.0), pooling)
    adapt(encoder, adaptation, trained_layers, RANK)
    return encoder


def train(encoder: BertEncoder, steps: int = 2) -> set[str]:
    """Moves the trained weights along their gradients; returns the paths of all that changed."""
    before = {variable.path: variable.numpy().copy() for variable in encoder.variables}
    assert len(before) == len(encoder.variables)
    weights = encoder.trainable_variables
    for _ in range(steps if weights else 0):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((encoder(TOKENS, training=True) - 1.0) ** 2)
        for gradient, weight in zip(tape.gradient(loss, weights), weights, strict=True):
            weight.assign_sub(0.5 * tf.convert_to_tensor(gradient))
    return {v.path for v in encoder.variables if not np.array_equal(before[v.path], v.numpy())}


@pytest.mark.parametrize(
    ("adaptation", "wanted"),
    [
        ("frozen", 0),
        ("last_layers", BLOCK),
        ("full", EMBEDDINGS + LAYERS * BLOCK),
        ("lora", LORA),
    ],
)
@pytest.mark.parametrize(("pooling", "of_pooling"), [("mean", 0), ("attention", DIM)])
def test_adaptation_trains_so_many_weights(adaptation, wanted, pooling, of_pooling):
    encoder = make(adaptation, pooling)
    count = sum(int(np.prod(variable.shape)) for variable in encoder.trainable_variables)
    assert count == wanted + (of_pooling if adaptation != "frozen" else 0)


def test_full_changes_all_but_the_pooler_and_the_constants():
    changed = train(make("full", "attention"))
    assert any("token_embedding" in path for path in changed)
    assert any("transformer_layer_0" in path for path in changed)
    assert any("pooling/query" in path for path in changed)
    assert not [path for path in changed if "pooled_dense" in path]
    assert not [path for path in changed if path.endswith(("/mean", "/deviation"))]


def test_last_layers_changes_the_last_block_and_the_pooling_alone():
    changed = train(make("last_layers", "attention"))
    assert any("transformer_layer_1" in path for path in changed)
    assert all("transformer_layer_1" in path or "pooling" in path for path in changed)


def test_lora_changes_its_matrices_beside_query_and_value_alone():
    changed = train(make("lora"))
    wanted = {
        f"transformer_layer_{layer}/self_attention_layer/{projection}/lora_kernel_{matrix}"
        for layer in range(LAYERS)
        for projection in ("query", "value")
        for matrix in "ab"
    }
    assert changed == wanted


def test_frozen_changes_nothing():
    assert train(make("frozen", "attention")) == set()


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_adapting_leaves_the_outputs_as_they_were(adaptation):
    encoder = BertEncoder(build_backbone("tiny", VOCABULARY_SIZE, LENGTH, 0.0))
    wanted = encoder(TOKENS).numpy()
    adapt(encoder, adaptation, 1, RANK)
    np.testing.assert_array_equal(encoder(TOKENS).numpy(), wanted)


def test_lora_answers_as_a_plain_encoder_with_the_product_added_to_its_weights():
    encoder, plain = make("lora"), make("full")
    train(encoder)
    trained = {variable.path: variable.numpy() for variable in encoder.backbone.variables}
    for variable in plain.backbone.variables:
        value = trained[variable.path]
        lora = variable.path.replace("/kernel", "/lora_kernel_")
        if lora + "a" in trained:
            a, b = trained[lora + "a"].astype(np.float64), trained[lora + "b"]
            assert np.abs(b).max() > 0
            for head in range(HEADS):
                value[:, head] += (a[:, head] @ b).astype(np.float32)
        variable.assign(value)
    merged = plain(TOKENS).numpy()
    np.testing.assert_allclose(encoder(TOKENS).numpy(), merged, atol=1e-5)
    assert np.abs(merged - make("full")(TOKENS).numpy()).max() > 1e-2


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_trained_encoder_is_read_back_into_one_built_and_adapted_again(adaptation, tmp_path):
    encoder, again = make(adaptation, "attention"), make(adaptation, "attention")
    train(encoder)
    paths = [[v.path for v in e.variables] for e in (encoder, again)]
    assert [p.split("/", 1)[-1] for p in paths[0]] == [p.split("/", 1)[-1] for p in paths[1]]
    save_variables(tmp_path / "encoder.npz", encoder.variables)
    load_variables(tmp_path / "encoder.npz", again.variables)
    np.testing.assert_array_equal(again(TOKENS).numpy(), encoder(TOKENS).numpy())


@pytest.mark.parametrize("count", [0, 3])
def test_more_trained_layers_than_there_are_is_refused(count):
    with pytest.raises(ConfigError, match=f"encoder.trained_layers: wanted 1 to 2, .*got {count}"):
        make("last_layers", trained_layers=count)


@pytest.mark.parametrize(("adaptation", "is_smaller"), [("last_layers", True), ("full", False)])
def test_frozen_layers_below_cost_no_gradients(adaptation, is_smaller):
    """Only the blocks on the way to a trained weight are run backwards."""
    encoder = make(adaptation)
    weights = encoder.trainable_variables

    @tf.function(autograph=False)
    def gradients() -> list[tf.Tensor]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([weight.value for weight in weights])
            loss = tf.reduce_mean(encoder(TOKENS, training=True) ** 2)
        return tape.gradient(loss, [weight.value for weight in weights])

    names = [op.name for op in gradients.get_concrete_function().graph.get_operations()]
    backward = [name for name in names if name.startswith("gradient_tape/")]
    below = [name for name in backward if "transformer_layer_0" in name]
    assert any("transformer_layer_1" in name for name in backward)
    assert (not below) == is_smaller
