"""Text to token ids: a WordPiece vocabulary and one packing rule for training and serving.

The vocabulary is trained with Hugging Face ``tokenizers``; the tokens are made by keras-nlp's
`BertTokenizer`, whose operations are part of the exported graph. Packing uses core TensorFlow
operations only, since TF Serving up to 2.19 lacks those of keras-nlp's packing layers.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence

import keras_nlp
import numpy as np
import tensorflow as tf

from tfrec.progress import progress_bar

_MAX_ALPHABET = 1000

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train_vocabulary(texts: Iterable[str], size: int) -> list[str]:
    """Trains a WordPiece vocabulary of about `size` tokens; the special ones come first.

    The trainer breaks ties by token ids and hands out ids in the order of a randomly seeded hash
    table. Naming all characters beforehand, in a fixed order, makes its result repeatable.

    Source: Wu et al., Google's Neural Machine Translation System (2016), section 4.1.
    """
    from tokenizers import BertWordPieceTokenizer

    texts = [_normalize(text) for text in texts]
    counts = Counter(character for text in texts for character in text if not character.isspace())
    frequent = sorted(counts, key=lambda character: (-counts[character], character))
    alphabet = sorted(frequent[:_MAX_ALPHABET])
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(
        texts,
        vocab_size=size,
        min_frequency=2,
        special_tokens=[*SPECIAL_TOKENS, *alphabet, *(f"##{c}" for c in alphabet)],
        show_progress=False,
    )
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    return sorted(vocabulary, key=vocabulary.__getitem__)


def _normalize(text: str) -> str:
    """Folds case and strips accents as keras-nlp's tokenizer does in the graph."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    decomposed = unicodedata.normalize("NFD", folded)
    return "".join(c for c in decomposed if unicodedata.category(c) != "Mn")


def special_tokens(vocabulary: Sequence[str]) -> tuple[int, int]:
    """Returns the id of ``[MASK]`` and the first id above all special tokens."""
    ids = [vocabulary.index(token) for token in SPECIAL_TOKENS]
    return ids[-1], max(ids) + 1


def build_tokenizer(vocabulary: Sequence[str]) -> keras_nlp.models.BertTokenizer:
    """Returns keras-nlp's tokenizer over `vocabulary` (lower-cased, accents stripped)."""
    return keras_nlp.models.BertTokenizer(
        vocabulary=list(vocabulary), lowercase=True, strip_accents=True
    )


def pack_tokens(
    tokenizer: keras_nlp.models.BertTokenizer, texts: tf.Tensor, max_tokens: int
) -> tf.Tensor:
    """Tokenises and packs as ``[CLS] tokens [SEP]``, cut at `max_tokens`, padded with 0.

    Args:
        tokenizer: From `build_tokenizer`.
        texts: string [n].
        max_tokens: Longest row, special tokens included.

    Returns:
        int32 [n, longest row, at least 1]; all 0 for a text without tokens.
    """
    # Outside a graph keras-nlp would answer with lists of Python, which no tensor can hold.
    tokenize = _tokenize_in_graph if tf.executing_eagerly() else _tokenize
    texts = tf.strings.regex_replace(texts, r"[\s\p{Z}]+", " ")  # all white space parts words
    tokens = tokenize(tokenizer, texts)[:, : max_tokens - 2]
    has_text = tf.cast(tokens.row_lengths() > 0, tf.int32)

    def edge(token_id: int) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_row_lengths(
            tf.fill([tf.reduce_sum(has_text)], token_id), tf.cast(has_text, tf.int64)
        )

    packed = tf.concat([edge(tokenizer.cls_token_id), tokens, edge(tokenizer.sep_token_id)], axis=1)
    dense = packed.to_tensor(default_value=tokenizer.pad_token_id)
    missing = tf.maximum(1 - tf.shape(dense)[1], 0)  # the encoder needs at least one column
    return tf.pad(dense, [[0, 0], [0, missing]])


def _tokenize(tokenizer: keras_nlp.models.BertTokenizer, texts: tf.Tensor) -> tf.RaggedTensor:
    """Returns int32 [n, (tokens)]."""
    return tf.cast(tokenizer(texts), tf.int32)


_tokenize_in_graph = tf.function(_tokenize, reduce_retracing=True, autograph=False)


def tokenize_texts(
    vocabulary: Sequence[str], texts: Sequence[str], max_tokens: int, name: str
) -> np.ndarray:
    """Tokenises once for all of training.

    Args:
        vocabulary: WordPiece tokens.
        texts: n texts.
        max_tokens: See `pack_tokens`.
        name: What the progress bar says.

    Returns:
        int32 [n, longest row].
    """
    tokenizer = build_tokenizer(vocabulary)
    pack = tf.function(
        lambda batch: pack_tokens(tokenizer, batch, max_tokens),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    step = 8192
    starts = progress_bar(
        range(0, len(texts), step), desc=name, unit="block", disable=len(texts) <= step
    )
    blocks = [pack(tf.constant(texts[start : start + step])).numpy() for start in starts]
    width = max([1, *(block.shape[1] for block in blocks)])
    return np.concatenate(
        [np.zeros((0, width), np.int32)]
        + [np.pad(block, ((0, 0), (0, width - block.shape[1]))) for block in blocks]
    )
