"""The BERT text encoder: token ids to one vector a text."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import keras_nlp
import numpy as np
import tensorflow as tf

from tfrec.encoders import hugging_face
from tfrec.encoders.pooling import Pooling, build_pooling
from tfrec.encoders.text_encoder import TextEncoder
from tfrec.errors import ConfigError, did_you_mean, reason_of


@dataclass(frozen=True)
class BertSize:
    """Shape of a BERT trained from scratch."""

    num_layers: int
    hidden_dim: int
    num_heads: int


SIZES = {
    "nano": BertSize(1, 64, 2),
    "tiny": BertSize(2, 128, 2),
    "mini": BertSize(4, 256, 4),
    "small": BertSize(4, 512, 8),
    "medium": BertSize(8, 512, 8),
    "base": BertSize(12, 768, 12),
}
"""All but nano are the sizes of Turc et al., Well-Read Students Learn Better (2019), table 1."""


def is_pretrained(source: str) -> bool:
    """Tells whether `source` names existing weights instead of a size."""
    return source not in SIZES


def load_vocabulary(source: str) -> list[str]:
    """Reads the vocabulary that belongs to pre-trained weights.

    Raises:
        ConfigError: `source` is no preset and no folder with a BERT, or the BERT is cased.
    """
    tokenizer = _from_preset(keras_nlp.models.BertTokenizer, source)
    if not tokenizer.lowercase:
        raise ConfigError(
            f"encoder.source: {source}: wanted a lower-cased (uncased) BERT, got a cased one."
        )
    return tokenizer.get_vocabulary()


def build_backbone(
    source: str, vocabulary_size: int, max_tokens: int, dropout: float
) -> keras_nlp.models.BertBackbone:
    """Builds a keras-nlp BERT backbone, from scratch or with pre-trained weights.

    Args:
        source: One of `SIZES`, a keras-nlp preset or a folder with a Hugging Face or keras-nlp
            BERT.
        vocabulary_size: Rows of the token table; pre-trained weights must have as many or more.
        max_tokens: Longest text; likewise.
        dropout: Dropout rate in training.

    Raises:
        ConfigError: `source` is none of these, its weights are not whole, or it is too small.
    """
    if is_pretrained(source):
        if hugging_face.is_hugging_face(Path(source)):
            backbone = hugging_face.load_hugging_face(Path(source), dropout)
        else:
            backbone = _from_preset(keras_nlp.models.BertBackbone, source, dropout=dropout)
        _check_capacity(source, backbone, vocabulary_size, max_tokens)
        return backbone
    size = SIZES[source]
    return keras_nlp.models.BertBackbone(
        vocabulary_size=vocabulary_size,
        num_layers=size.num_layers,
        num_heads=size.num_heads,
        hidden_dim=size.hidden_dim,
        intermediate_dim=4 * size.hidden_dim,
        dropout=dropout,
        max_sequence_length=max_tokens,
    )


@keras.saving.register_keras_serializable("tfrec")
class BertEncoder(TextEncoder):
    """One vector a text from the last layer of a BERT backbone, standardised.

    Means of BERT's outputs share one large direction and differ little. `standardize` measures
    mean and deviation of each dimension over the catalogue once, before the towers are trained;
    from then on they are constants. From the pooling on all is float32, in a model of mixed
    precision too.

    Args:
        backbone: keras-nlp `BertBackbone`.
        pooling: See `build_pooling`.

    Example:
        >>> import numpy as np
        >>> from tfrec.encoders import BertEncoder, build_backbone
        >>> encoder = BertEncoder(build_backbone("nano", 100, max_tokens=8, dropout=0.0))
        >>> encoder(np.array([[2, 7, 3], [0, 0, 0]], np.int32)).shape
        TensorShape([2, 64])
    """

    def __init__(
        self,
        backbone: keras_nlp.models.BertBackbone,
        pooling: Pooling = "mean",
        **kwargs: Any,
    ) -> None:
        super().__init__(backbone.hidden_dim, **kwargs)
        self.backbone = backbone
        self.pooling = pooling
        self.pool = build_pooling(pooling, self.hidden_dim)
        self.mean = self._add_constant("zeros", "mean")
        self.deviation = self._add_constant("ones", "deviation")
        self.built = True

    def get_config(self) -> dict[str, Any]:
        """Returns what builds the layer again; see Keras."""
        config = super().get_config()
        del config["hidden_dim"]  # the backbone's
        backbone = keras.saving.serialize_keras_object(self.backbone)
        return config | {"backbone": backbone, "pooling": self.pooling}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> BertEncoder:
        """Builds the layer that `get_config` describes, without its weights."""
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(**(config | {"backbone": backbone}))

    def standardize(self, vectors: np.ndarray) -> None:
        """Measures mean and deviation over `vectors`, float32 [n, hidden_dim], not yet so scaled.

        Rows of zeros (empty texts) do not count.
        """
        vectors = vectors[(vectors != 0).any(axis=1)]
        if len(vectors) > 1:
            self.mean.assign(vectors.mean(axis=0))
            self.deviation.assign(np.maximum(vectors.std(axis=0), 1e-6))

    def to_int8(self) -> None:
        """Turns the backbone's weights into int8, for answering only.

        Each layer keeps a scale for each of its units, and rounds its inputs to int8 as they come.

        Source: https://keras.io/api/quantization/, "int8".
        """
        with warnings.catch_warnings():
            # Keras warns of each layer without matrices, which stays as it is.
            warnings.filterwarnings("ignore", message=".*does not have a `quantize` method")
            self.backbone.quantize("int8")

    def call(self, token_ids: tf.Tensor, training: bool = False) -> tf.Tensor:
        """See `TextEncoder.call`."""
        is_token = tf.not_equal(token_ids, 0)  # [n, length]
        outputs = self.backbone(
            {
                "token_ids": token_ids,
                "segment_ids": tf.zeros_like(token_ids),
                "padding_mask": is_token,
            },
            training=training,
        )
        pooled = self.pool(tf.cast(outputs["sequence_output"], tf.float32), is_token)
        has_text = tf.reduce_any(is_token, axis=1, keepdims=True)
        return tf.where(has_text, (pooled - self.mean) / self.deviation, 0.0)

    def _add_constant(self, initializer: str, name: str) -> keras.Variable:
        return self.add_weight(
            shape=(self.hidden_dim,),
            initializer=initializer,
            trainable=False,
            name=name,
            dtype="float32",
            autocast=False,
        )


def _check_capacity(
    source: str, backbone: keras_nlp.models.BertBackbone, vocabulary_size: int, max_tokens: int
) -> None:
    if backbone.vocabulary_size < vocabulary_size:
        raise ConfigError(
            f"encoder.source: {source}: wanted vectors for its {vocabulary_size} tokens, "
            f"got {backbone.vocabulary_size}."
        )
    if backbone.max_sequence_length < max_tokens:
        raise ConfigError(
            f"encoder.source: {source} reads {backbone.max_sequence_length} tokens at most; lower "
            f"`text.max_item_tokens` and `text.max_query_tokens`, got {max_tokens}."
        )


def _from_preset(cls: Any, source: str, **settings: float) -> Any:
    folder = Path(source)
    is_known = hugging_face.is_hugging_face(folder) or (folder / "tokenizer.json").is_file()
    if folder.is_dir() and not is_known:
        raise ConfigError(
            f"encoder.source: {source}: wanted a folder with {', '.join(hugging_face.FILES)} "
            "(Hugging Face) or a keras-nlp preset folder."
        )
    try:
        return cls.from_preset(source, **settings)
    except Exception as error:  # keras-nlp raises its downloader's and converter's own kinds
        reason = reason_of(error)[:200]
        raise ConfigError(
            f"encoder.source: {source!r} is no size ({', '.join(SIZES)}) and could not be loaded "
            f"as a keras-nlp preset or folder: {reason}{did_you_mean(source, SIZES)}"
        ) from None
