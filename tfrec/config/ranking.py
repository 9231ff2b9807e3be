"""Section of the ranking model."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from tfrec.config.base import Fraction, PartSection, PositiveFloat, PositiveInt, Section
from tfrec.config.retrieval import Optimizer
from tfrec.registry import CALIBRATORS, RANKING_HEADS, RANKING_LAYERS, Door
from tfrec.schema import CLICK, Tensors

_KIND_OF_VALUE = {"rating": "number", "watch_time": "log_number"}


class Head(PartSection):
    """One more thing to predict of a shown item, beside the click."""

    door: ClassVar[Door] = RANKING_HEADS

    kind: str = "probability"
    """What is answered, and by which loss it is learned; see `_KIND_OF_VALUE` for values."""
    event: str | None = None
    """A kind of event of `data.events.kinds`: the label is whether it follows."""
    value: Literal["rating", "watch_time"] | None = None
    """A number of the log, the label."""
    weight: PositiveFloat = 1.0
    """Weight of its loss beside that of the click."""

    @model_validator(mode="before")
    @classmethod
    def _choose_kind(cls, given: Any) -> Any:
        if isinstance(given, dict) and "kind" not in given:
            kind = _KIND_OF_VALUE.get(str(given.get("value")))
            return given if kind is None else {**given, "kind": kind}
        return given

    @model_validator(mode="after")
    def _check_label(self) -> Head:
        if (self.event is None) == (self.value is None):
            raise ValueError("wanted one of `event` and `value`")
        if self.kind == "probability" and self.event is None:
            raise ValueError("`kind: probability` needs `event`, got `value`")
        return self


class RankingNegatives(Section):
    """Items that are drawn as rows with label 0, for each positive row."""

    uniform: Annotated[int, Field(ge=0)] = 2
    """From the whole catalogue. A log without label 0 gets at least one."""
    retrieved: Annotated[int, Field(ge=0)] = 0
    """From the items that retrieval scores highest for the request."""
    depth: PositiveInt = 100
    """How many of those there are."""


class TargetAttention(Section):
    """What the candidate finds in the history."""

    use: bool = True
    heads: PositiveInt = 2
    units: PositiveInt = 16
    """Length of queries, keys and values of each head."""


class Calibration(PartSection):
    """From logits to probabilities that come true, learned on validation."""

    door: ClassVar[Door] = CALIBRATORS

    kind: str = "platt"


class OwnLayer(PartSection):
    """A layer beside the MLP, a `RankingLayer` of your own."""

    door: ClassVar[Door] = RANKING_LAYERS


class Teacher(Section):
    """A finished run, often of a larger model, whose probabilities the model learns as well."""

    run: str
    """Its folder; it has the same data, seed and splits."""
    weight: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Of its probabilities; the labels count the rest."""


class Ranking(Section):
    """The ranking model: an MLP with a sigmoid output, on the towers or on tables alone."""

    towers: Literal["none", "frozen", "tuned", "shared"] = "frozen"
    """What it reads of the towers. ``frozen``: their finished embeddings. ``tuned``: those of a
    copy of the towers, which the loss of the clicks trains further; retrieval keeps its own.
    ``shared``: the towers are trained further by that loss and an in-batch softmax over the clicked
    items together, and serve both. ``none``: nothing; retrieval is left out and all items are
    candidates. BERT itself stays as retrieval left it."""
    tower_learning_rate: PositiveFloat = 1e-4
    """Of tuned and shared towers."""
    retrieval_loss_weight: Annotated[float, Field(ge=0)] = 1.0
    """What the softmax counts beside the loss of the clicks, with shared towers."""
    hidden: list[PositiveInt] = Field(default=[128, 64], min_length=1)
    cross_layers: Annotated[int, Field(ge=0)] = 0
    """DCN-v2 cross layers beside the MLP."""
    cross_rank: Annotated[int, Field(ge=0)] = 0
    """Rank of their matrices; 0: full."""
    layers: dict[str, OwnLayer] = {}
    """Layers of your own beside the MLP, by a name of your choice."""
    feature_dim: PositiveInt = 16
    """Numbers that each feature becomes."""
    attention: TargetAttention = TargetAttention()
    time_features: bool = False
    """Whether the model reads the hour and the day of the week of the request."""
    item_statistics: Literal["none", "train", "live"] = "train"
    """What it reads of an item's past: how often it was chosen where it was shown, in all of
    training or up to the moment of the request."""
    heads: dict[str, Head] = {}
    """What is predicted beside the click, by name."""
    negatives: RankingNegatives = RankingNegatives()
    batch_size: PositiveInt = 4096
    epochs: PositiveInt = 5
    learning_rate: PositiveFloat = 1e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    optimizer: Optimizer = Optimizer()
    dropout: Fraction = 0.1
    patience: Annotated[int, Field(ge=0)] = 0
    """Epochs without a lower validation log loss after which training stops; 0: never."""
    calibration: Calibration = Calibration()
    sparsity: Fraction = 0.0
    """Share of the numbers in each layer's matrix that are zero from the end of the first epoch on:
    those smallest in absolute value."""
    teacher: Teacher | None = None
    retrieval_weight: Annotated[float, Field(ge=0)] | None = None
    """Answers are sorted by click log-odds + weight * score / temperature: how likely the user
    wants the item shown, and how likely they turn to it at all. 0 sorts by probability alone. By
    default the weights of both, and of what each source of candidates says, are learned from what
    validation requests chose."""

    @property
    def trains_towers(self) -> bool:
        """Whether towers learn from the loss of the clicks."""
        return self.towers in ("tuned", "shared")

    @model_validator(mode="after")
    def _check_towers(self) -> Ranking:
        if self.towers == "none" and self.negatives.retrieved:
            raise ValueError("`negatives.retrieved` needs towers, got `towers: none`")
        return self

    @model_validator(mode="after")
    def _check_heads(self) -> Ranking:
        taken = (CLICK, Tensors.PROBABILITY, Tensors.SCORE, Tensors.ITEM_ID, Tensors.SOURCES)
        for name in self.heads:
            if name in taken or not name.isidentifier():
                raise ValueError(
                    f"`heads`: wanted a name other than {', '.join(taken)}, of letters, digits "
                    f"and _, got {name!r}"
                )
        return self
