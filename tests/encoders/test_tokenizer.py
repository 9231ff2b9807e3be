import keras_nlp
import numpy as np
import pytest
import tensorflow as tf

from tfrec.encoders.tokenizer import (
    SPECIAL_TOKENS,
    build_tokenizer,
    pack_tokens,
    special_tokens,
    tokenize_texts,
    train_vocabulary,
)

#                              0      1      2      3      4      5      6       7      8     9
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "shoe", "##s", "cafe", "&"]
CLS, SEP, UNK = 2, 3, 1
TEXTS = ["Red shoes", "", "shoe", "red red red red red red", "tree", "Café & shoes", "   "]
PACKED = [  # lower case, accents stripped, word pieces by the longest match
    [CLS, 5, 6, 7, SEP, 0, 0, 0],
    [0, 0, 0, 0, 0, 0, 0, 0],
    [CLS, 6, SEP, 0, 0, 0, 0, 0],
    [CLS, 5, 5, 5, 5, 5, 5, SEP],
    [CLS, UNK, SEP, 0, 0, 0, 0, 0],
    [CLS, 8, 9, 6, 7, SEP, 0, 0],
    [0, 0, 0, 0, 0, 0, 0, 0],
]


@pytest.fixture(scope="module")
def tokenizer() -> keras_nlp.models.BertTokenizer:
    return build_tokenizer(VOCABULARY)


@pytest.fixture(scope="module")
def pack(tokenizer):
    """Returns `pack_tokens` in a graph, as training and the exported model use it."""
    return tf.function(
        lambda texts, max_tokens: pack_tokens(tokenizer, texts, max_tokens),
        input_signature=[tf.TensorSpec([None], tf.string), tf.TensorSpec([], tf.int32)],
    )


# Vocabulary

CORPUS = [f"{color} {thing}s number {n}" for n in range(40) for color in ("red", "blue")
          for thing in ("shoe", "hat", "café")]  # fmt: skip


def test_vocabulary_trained_twice_is_identical():
    first, second = train_vocabulary(CORPUS, 120), train_vocabulary(iter(CORPUS), 120)
    assert first == second
    assert len(first) == len(set(first)) <= 120


def test_vocabulary_begins_with_special_tokens_and_knows_frequent_words():
    vocabulary = train_vocabulary(CORPUS, 200)
    assert tuple(vocabulary[:5]) == SPECIAL_TOKENS
    assert {"red", "blue", "number", "cafes"} <= set(vocabulary)  # lower case, without accents
    assert special_tokens(vocabulary) == (4, 5)
    assert UNK not in tokenize_texts(vocabulary, CORPUS, 12, "test")


def test_vocabulary_of_empty_texts_is_the_special_tokens():
    assert tuple(train_vocabulary(["", "  "], 100)) == SPECIAL_TOKENS


def test_special_tokens_of_foreign_vocabulary_are_found_where_they_are():
    foreign = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
    assert special_tokens(foreign) == (5, 6)


# Packing


@pytest.mark.parametrize("is_graph", [True, False])
def test_pack_tokens_gives_the_rows_by_hand(tokenizer, pack, is_graph: bool):
    texts = tf.constant(TEXTS)
    packed = pack(texts, 8) if is_graph else pack_tokens(tokenizer, texts, 8)
    assert packed.dtype == tf.int32
    assert packed.numpy().tolist() == PACKED


@pytest.mark.parametrize("texts", [[""], ["", "red"], ["red", "shoe"], [], TEXTS[::-1]])
def test_pack_tokens_outside_a_graph_gives_the_same(tokenizer, pack, texts: list[str]):
    batch = tf.constant(texts, tf.string)
    np.testing.assert_array_equal(pack_tokens(tokenizer, batch, 8), pack(batch, 8))


@pytest.mark.parametrize("max_tokens", [4, 5, 7, 8, 50])
def test_pack_tokens_cut_short_keeps_both_edges(pack, max_tokens: int):
    packed = pack(tf.constant(TEXTS), max_tokens).numpy()
    assert packed.shape == (len(TEXTS), min(max_tokens, 8))
    for row, full in zip(packed.tolist(), PACKED, strict=True):
        tokens = [token for token in full if token not in (0, CLS, SEP)][: max_tokens - 2]
        expected = [CLS, *tokens, SEP] if tokens else []
        assert row == expected + [0] * (packed.shape[1] - len(expected))


@pytest.mark.parametrize("texts", [[""], ["", " ", "\n"], ["\x00"]])
def test_pack_tokens_without_any_token_has_one_column_of_zeros(pack, texts: list[str]):
    assert pack(tf.constant(texts), 8).numpy().tolist() == [[0]] * len(texts)


def test_pack_tokens_of_no_rows_has_one_column(pack):
    assert pack(tf.zeros([0], tf.string), 8).shape == (0, 1)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("red\x00shoe", [UNK, 5, 6]),
        ("RED", [5]),
        ("сапоги 靴", [UNK, UNK]),
        ("👟red", [UNK, 5]),
        ("red\tshoe\nred", [5, 6]),
        ("re\u0301d r\u00e9d", [5]),  # an accent of its own, and one that is part of the letter
        ("[MASK] red", [UNK, 4, 5]),
    ],
)
def test_pack_tokens_of_odd_text_uses_known_ids_only(pack, text: str, tokens: list[int]):
    row = pack(tf.constant([text]), 16).numpy()[0].tolist()
    assert (row[0], row[-1]) == (CLS, SEP)
    assert set(row[1:-1]) <= set(tokens)
    assert row[1:-1]


def test_pack_tokens_of_very_long_text_is_cut(pack):
    packed = pack(tf.constant(["red " * 100_000, "x" * 100_000, "shoe"]), 16).numpy()
    assert packed.tolist() == [
        [CLS, *[5] * 14, SEP],
        [CLS, UNK, SEP] + [0] * 13,
        [CLS, 6, SEP] + [0] * 13,
    ]


def test_pack_tokens_of_a_row_does_not_depend_on_its_batch(pack):
    together = pack(tf.constant(TEXTS), 8).numpy()
    for text, row in zip(TEXTS, together, strict=True):
        alone = pack(tf.constant([text]), 8).numpy()[0]
        np.testing.assert_array_equal(row[: len(alone)], alone)
        assert not row[len(alone) :].any()


# All of training


def test_tokenize_texts_equals_packing_of_the_same():
    tokens = tokenize_texts(VOCABULARY, TEXTS, 8, "test")
    assert tokens.dtype == np.int32
    assert tokens.tolist() == PACKED


def test_tokenize_texts_over_several_blocks_keeps_rows_and_pads_alike():
    texts = [TEXTS[n % 3] for n in range(8192)] + [TEXTS[3], ""]  # the longest is in block two
    tokens = tokenize_texts(VOCABULARY, texts, 8, "test")
    assert tokens.shape == (8194, 8)
    assert tokens[[0, 1, 2, 8189, 8192, 8193]].tolist() == [
        PACKED[n] for n in (0, 1, 2, 8189 % 3, 3, 1)
    ]


def test_tokenize_texts_of_nothing_has_one_column():
    assert tokenize_texts(VOCABULARY, [], 8, "test").shape == (0, 1)
    assert tokenize_texts(VOCABULARY, ["", ""], 8, "test").tolist() == [[0], [0]]
