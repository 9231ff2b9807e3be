"""Sections of the towers, the retrieval objective and its training."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from tfrec.config.base import Fraction, PartSection, PositiveFloat, PositiveInt, Section
from tfrec.registry import (
    FUSIONS,
    HISTORY_READERS,
    NEGATIVE_SAMPLERS,
    OPTIMIZERS,
    RETRIEVAL_LOSSES,
    TOWER_PARTS,
    Door,
)

Count = Annotated[int, Field(ge=0)]
NonNegative = Annotated[float, Field(ge=0)]


class Fusion(PartSection):
    """How the parts of an item become one vector. In short: the kind alone."""

    door: ClassVar[Door] = FUSIONS

    kind: str = "sum"
    """The sum; the sum and an MLP over all parts side by side; or a sum weighted by a learned gate
    that looks at the item."""

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value


class OwnPart(PartSection):
    """A further part of an embedding, a `TowerPart` of your own."""

    door: ClassVar[Door] = TOWER_PARTS


class ItemSide(Section):
    """What an item's embedding is made of."""

    use_id: bool = True
    """Whether an item seen in training has a vector of its own. Without, items are known by text
    and features alone, and new ones are on a par with old ones."""
    fusion: Fusion = Fusion()
    """How text, id, features and own parts become one vector."""
    parts: dict[str, OwnPart] = {}
    """Own parts beside text, id and features, by a name of your choice."""
    text_scale: PositiveFloat = 1.0
    """Factor of text vectors before their projection. Below 1, texts are learned more slowly than
    ids, which keeps them from being all that counts."""
    id_dropout: Fraction = 0.1
    """Share of item ids hidden in training, so that new items work."""
    feature_dropout: Fraction = 0.0
    """Share of texts and of each feature hidden in training, so that items without them work."""


class History(PartSection):
    """How the user tower reads a history."""

    door: ClassVar[Door] = HISTORY_READERS

    kind: str = "attention"
    """A causal transformer, attention pooling, the plain mean, no look at the history, or a
    `HistoryReader` of your own."""
    layers: PositiveInt = 2
    """Transformer: blocks."""
    heads: PositiveInt = 2
    """Transformer: attention heads; must divide `retrieval.embedding_dim`."""
    dropout: Fraction = 0.2
    """Transformer: dropout of inputs, attention and hidden layers."""
    event_kinds: bool = False
    """Whether the kind of each event (click, purchase) is read; requests then give it along."""
    time_gaps: bool = False
    """Whether the time between events is read; requests then give times along."""


class UserSide(Section):
    """What a request's embedding is made of."""

    use_id: bool = True
    """Whether a known user's id shapes the answer even without a history."""
    id_dropout: Fraction = 0.8
    """Share of user ids hidden in training: ids learn users by heart sooner than histories do."""
    dropout: Fraction = 0.1
    """Share of histories and of attributes hidden in training, so that requests without work."""
    hidden_layer: bool = True
    """Whether a residual layer mixes the parts once more. Without, a user tower of an id alone is
    matrix factorisation."""
    history: History = History()
    parts: dict[str, OwnPart] = {}
    """Own parts, which join the sum, by a name of your choice."""


class Sampler(PartSection):
    """A further way to draw items, a `NegativeSampler` of your own."""

    door: ClassVar[Door] = NEGATIVE_SAMPLERS

    count: PositiveInt
    """Items that it draws, a step."""


class Negatives(Section):
    """What a request's item has to win against."""

    in_batch: bool = True
    """The other items of the batch."""
    uniform: Count = 0
    """Items drawn uniformly from the catalogue, a step."""
    popular: Count = 0
    """Items drawn as often as they are training targets, a step."""
    samplers: list[Sampler] = []
    """Further draws, by samplers of your own."""
    per_target: bool = False
    """Whether `uniform`, `popular` and `samplers` are drawn anew for each target and not once for
    the batch."""
    impressed: Count = 0
    """Items that the same request showed and that were not chosen, at most this many a target."""
    mined: Count = 0
    """Wrong items that the model itself ranks high, found anew each epoch, a target."""
    mined_depth: PositiveInt = 100
    """Ranks among which mined items are drawn."""
    queue: Count = 0
    """Item embeddings of earlier steps that are kept as further negatives (cross-batch memory)."""


class Adversarial(Section):
    """Embeddings pushed against the model while it learns."""

    method: Literal["none", "fgm", "pgd"] = "none"
    """``fgm``: one step along the gradient; ``pgd``: several smaller ones within the bound."""
    epsilon: PositiveFloat = 0.05
    """Longest push, as a share of the embedding's length."""
    steps: PositiveInt = 3
    """``pgd``: number of steps."""
    weight: PositiveFloat = 1.0
    """Of the loss on pushed embeddings beside the ordinary one."""


class Loss(PartSection):
    """The retrieval objective."""

    door: ClassVar[Door] = RETRIEVAL_LOSSES

    kind: str = "softmax"
    """``softmax``: over sampled negatives. ``tfrs``: the same over the other items of the batch
    alone, by the `Retrieval` task of TensorFlow Recommenders. ``full_softmax``: over the whole
    catalogue. ``mse``: squared error on ratings (matrix factorisation of explicit feedback). Or a
    `RetrievalLoss` of your own."""
    targets: Literal["requests", "positions", "users"] = "requests"
    """``requests``: each training target with the history before it is a row of its own.
    ``positions``: one causal pass over a user's sequence trains all targets in it. ``users``: one
    embedding of a user, known by id and attributes alone, trains all targets of this user."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """``cosine``: embeddings have length 1."""
    temperature: PositiveFloat = 0.15
    """Divides the scores before the softmax."""
    learn_temperature: bool = False
    """Whether the temperature is a weight that training moves."""
    log_q: Literal["negatives", "all", "none"] = "negatives"
    """Correction for popular items being negatives more often: of the negatives alone, of the
    positive too (as TensorFlow Recommenders does), or none."""
    mask_known_positives: bool = True
    """Whether other training positives of the same user are no negatives."""
    label_smoothing: Fraction = 0.0
    negatives: Negatives = Negatives()
    adversarial: Adversarial = Adversarial()

    @property
    def samples(self) -> bool:
        """Whether targets have to win against some items of the catalogue, not all."""
        return self.kind not in ("full_softmax", "mse")

    @model_validator(mode="after")
    def _check_pairs(self) -> Loss:
        ruled_out = {
            "label_smoothing": bool(self.label_smoothing),
            "negatives.in_batch": not self.negatives.in_batch,
        }
        for key, is_set in ruled_out.items():
            if self.kind == "tfrs" and is_set:
                raise ValueError(
                    f"`kind: tfrs` trains on plain pairs, which `{key}` rules out; take "
                    "`kind: softmax`"
                )
        return self

    @model_validator(mode="after")
    def _check_negatives(self) -> Loss:
        drawn = self.negatives.changed(
            [name for name in type(self.negatives).model_fields if name != "in_batch"]
        )
        if self.kind in ("tfrs", "full_softmax", "mse") and drawn:
            raise ValueError(f"`negatives.{drawn[0]}` goes with `kind: softmax`, got {self.kind}")
        if self.kind == "mse" and self.targets == "positions":
            raise ValueError("`targets: positions` goes with a softmax, not with `kind: mse`")
        if self.kind != "full_softmax" and self.targets == "users":
            raise ValueError(f"`targets: users` goes with `kind: full_softmax`, got {self.kind}")
        some = self.negatives
        if self.samples and not (
            some.in_batch or some.uniform or some.popular or some.samplers or some.queue
        ):
            raise ValueError(
                "wanted negatives: `in_batch: true`, `samplers`, or `uniform`, `popular` or "
                "`queue` above 0"
            )
        return self


class Schedule(Section):
    """How the learning rate moves."""

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    """After the warm-up: falls to zero as a cosine or a line, or stays."""
    warmup: Fraction = 0.05
    """Share of the steps in which the rate rises from zero."""


class Optimizer(PartSection):
    """How gradients become steps."""

    door: ClassVar[Door] = OPTIMIZERS

    kind: str = "adamw"
    """AdamW, which sums the gradients of rows that repeat; or another optimiser of Keras: by name,
    or ``package.module:Class``. Rates, decay, the clip and averages are those of its section."""

    @model_validator(mode="after")
    def _check_options(self) -> Optimizer:
        if self.options and self.kind == "adamw":
            raise ValueError("`options` go with another optimiser than `kind: adamw`")
        return self


class Retrieval(Section):
    """Towers, objective and training of retrieval."""

    embedding_dim: PositiveInt = 64
    item: ItemSide = ItemSide()
    user: UserSide = UserSide()
    loss: Loss = Loss()
    batch_size: Annotated[int, Field(ge=2)] = 1024
    """Requests a step; with `loss.targets: positions` sequences, with `users` users."""
    epochs: PositiveInt = 12
    learning_rate: PositiveFloat = 2e-3
    encoder_learning_rate: PositiveFloat = 2e-4
    weight_decay: NonNegative = 1e-4
    id_weight_decay: NonNegative = 0.0
    """Of the tables of ids. Every step decays all rows, and those of rare ids are hardly ever
    pulled back."""
    gradient_memory: Annotated[float, Field(ge=0.9, lt=1)] = 0.999
    """Of AdamW, how long the squares of gradients are remembered (beta 2)."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    average_decay: Fraction = 0.0
    """Decay of a moving average of the weights, which is then what is validated and kept; 0: the
    weights themselves."""
    patience: Count = 0
    """Epochs without a better validation NDCG after which training stops; 0: never."""
    gradient_cache: Count = 0
    """With a trained encoder: texts that run through it at once. Larger batches then need no more
    memory than this many texts; gradients stay those of the whole batch. 0: all texts at once."""
    mixed_precision: bool = False
    """Whether towers and encoder compute in 16 bits (bfloat16). Of use on accelerators only."""
    validation_k: PositiveInt = 10
    """Epochs are compared by the NDCG of the validation targets in lists of this length."""
    validation_remove_seen: bool = True
    """Whether items of the history are left out of those lists, as in serving."""

    @model_validator(mode="after")
    def _check_history(self) -> Retrieval:
        history = self.user.history
        if history.kind == "transformer" and self.embedding_dim % history.heads:
            raise ValueError(
                f"`user.history.heads` must divide `embedding_dim`, got {history.heads} and "
                f"{self.embedding_dim}"
            )
        if self.loss.targets == "users" and (history.kind != "none" or history.time_gaps):
            raise ValueError(
                "`loss.targets: users` goes with `user.history.kind: none` and no `time_gaps`, "
                f"got {history.kind}, time_gaps {history.time_gaps}"
            )
        return self
