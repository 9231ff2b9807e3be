"""Sections of the text, the encoder, the index, the evaluation and the export."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, model_validator

from tfrec.config.base import Fraction, PartSection, PositiveFloat, PositiveInt, Section
from tfrec.registry import INDEXES, METRICS, TEXT_ENCODERS, Door


class Text(Section):
    """WordPiece vocabulary and token lengths."""

    vocabulary_size: Annotated[int, Field(ge=100)] = 8000
    max_item_tokens: Annotated[int, Field(ge=4)] = 40
    max_query_tokens: Annotated[int, Field(ge=4)] = 16


class Pretraining(Section):
    """Masked-LM pre-training on the catalogue's texts."""

    steps: Annotated[int, Field(ge=0)] = 200
    """Measured at ten points; rounded up to ten spans of one length."""
    batch_size: PositiveInt = 256
    learning_rate: PositiveFloat = 1e-3
    mask_rate: Annotated[float, Field(gt=0, lt=1)] = 0.15


class Encoder(PartSection):
    """The text encoder."""

    door: ClassVar[Door] = TEXT_ENCODERS

    kind: str = "bert"
    """Our BERT, or a `TextEncoder` of your own. That has no masked-LM pre-training."""

    source: str = "tiny"
    """A size (nano, tiny, mini, small, medium, base: weights from scratch), a keras-nlp preset
    name (``bert_tiny_en_uncased``) or a folder with a Hugging Face or keras-nlp BERT."""
    dropout: Fraction = 0.0
    adaptation: Literal["frozen", "last_layers", "full", "lora"] = "frozen"
    """Which of the encoder's weights retrieval training changes: none (every text is encoded once
    for all of training), those of the last layers, all, or small matrices beside the attention's
    projections (LoRA)."""
    trained_layers: PositiveInt = 2
    """``last_layers``: how many."""
    lora_rank: PositiveInt = 8
    """``lora``: rank of the added matrices."""
    pooling: Literal["mean", "cls", "attention"] = "mean"
    """How the last layer's token vectors become one: their mean, the first token's, or a mean
    weighted by learned attention (which a frozen encoder does not learn)."""
    pretraining: Pretraining = Pretraining()

    @model_validator(mode="after")
    def _check_bert(self) -> Encoder:
        names = ["source", "dropout", "trained_layers", "lora_rank", "pooling", "pretraining"]
        if not self.is_ours and (of_bert := self.changed(names)):
            raise ValueError(f"`{of_bert[0]}` goes with `kind: bert`, got kind {self.kind!r}")
        if not self.is_ours and self.adaptation not in ("frozen", "full"):
            raise ValueError(
                f"`adaptation`: wanted frozen or full with kind {self.kind!r}, got "
                f"{self.adaptation}, which goes with `kind: bert`"
            )
        return self


class Index(PartSection):
    """Search for the nearest items."""

    door: ClassVar[Door] = INDEXES

    kind: str = "scann"
    """``scann``: with ScaNN's operations, which a server must have. ``portable``: an inverted file
    of TensorFlow's own operations. ``exact``: every item is scored. Or ``package.module:Class`` of
    your own."""
    candidates: PositiveInt = 200
    """Items that retrieval hands to the ranking model."""
    min_recall: Fraction = 0.95
    """Build fails below this recall at `candidates` against exact search."""
    precision: Literal["float32", "float16", "int8"] = "float32"
    """What item embeddings are kept in, by the index and beside it. ``int8`` has a scale for each
    item. ScaNN's own copy stays float32."""


class ItemKnn(Section):
    """The baseline that recommends items similar to those of the history."""

    neighbours: PositiveInt = 200
    """Most similar items kept of each item."""
    shrinkage: Annotated[float, Field(ge=0)] = 20.0
    """Added to the divisor of the cosine: similarities that few users vouch for shrink."""


class Ease(Section):
    """The linear item-to-item baseline."""

    penalty: PositiveFloat = 300.0
    """Penalty on squared weights."""
    max_items: PositiveInt = 8000
    """Larger catalogues go without: time grows with the cube of the items, memory with the
    square."""


class Ials(Section):
    """The matrix factorisation baseline, of the package `implicit`."""

    factors: PositiveInt = 64
    regularization: PositiveFloat = 3.0
    alpha: PositiveFloat = 3.0
    """Weight of what was chosen; all that was not chosen has weight 1."""
    iterations: PositiveInt = 10


class Metric(PartSection):
    """A metric of your own."""

    door: ClassVar[Door] = METRICS


class Evaluation(Section):
    """What the report measures."""

    k: list[PositiveInt] = Field(default=[10, 50, 100], min_length=1)
    max_contexts: PositiveInt = 20000
    """Test requests measured; more are sampled with the run's seed."""
    remove_seen: bool = True
    """Whether items of the history are left out of the lists, as in serving."""
    bootstrap: Annotated[int, Field(ge=0)] = 1000
    """Draws behind the 95% intervals; 0: no intervals."""
    baselines: list[Literal["recent_popularity", "item_knn", "ease", "ials", "content"]] = Field(
        default=["recent_popularity", "item_knn", "ease", "ials", "content"]
    )
    """Measured beside us on the same requests; popularity and chance always are."""
    ranking_baselines: list[Literal["logistic_regression", "lightgbm", "factorization_machine"]] = (
        Field(default=["logistic_regression", "lightgbm", "factorization_machine"])
    )
    """Trained on the ranking model's rows and features, and measured beside it."""
    metrics: list[Metric] = []
    """Metrics of your own for whole lists, beside ours."""
    item_knn: ItemKnn = ItemKnn()
    ease: Ease = Ease()
    ials: Ials = Ials()


class Export(Section):
    """The SavedModel."""

    folder: str = "saved_models"
    k: PositiveInt = 50
    """Items that `recommend` answers with."""
    portable: bool = True
    """Whether a model with a ScaNN index is exported a second time, as ``<name>-portable``, with an
    index of TensorFlow's own operations that any server has."""
    encoder: Literal["float32", "int8"] = "float32"
    """What BERT computes with in the export. ``int8``: weights of 8 bits with a scale for each
    unit, inputs rounded to 8 bits as they come; a quarter of the size, slower on most CPUs."""
    replay_rows: PositiveInt = 64
    """Test requests that verification replays in a fresh process."""
