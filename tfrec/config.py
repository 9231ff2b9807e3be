"""One run, one YAML file: strict, typed, every key known.

A `Config` is built by `load_config` from a file and overrides (``retrieval.temperature=0.07``).
Unknown keys, wrong types and values out of range raise `ConfigError` with one line that names the
file and the key. The resolved form (`Config.to_yaml`) is written beside every artefact.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pydantic
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from tfrec.errors import ConfigError, did_you_mean
from tfrec.schema import Batch, Columns, Tensors

FeatureType = Literal["category", "category_list", "number", "vector"]
PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
PositiveFloat = Annotated[float, Field(gt=0)]

# Names that stand beside the declared columns: in signatures (`rank` takes a request and item ids),
# in the prepared tables and in batches.
_REQUEST_INPUTS = (Tensors.USER_ID, Tensors.HISTORY, Tensors.QUERY, Tensors.ITEM_ID)
_ITEM_COLUMNS = (Columns.ITEM_ID, Columns.TITLE, Columns.TEXT)
_USER_COLUMNS = (Columns.USER_ID, Columns.TEXT)
_EVENT_COLUMNS = (
    Columns.TIME, Columns.TEXT, Columns.LABEL, Columns.WEIGHT, Columns.IS_RANKED,
    Columns.IS_TARGET, Columns.POSITION, Columns.TRUE_PROBABILITY, Columns.SPLIT,
    Batch.USER_INDEX, Batch.ITEM_INDEX, Batch.TEXT_INDEX, "context", "history_start",
    "history_end",
)  # fmt: skip


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Feature(_Section):
    """How one column becomes input of a tower.

    A bare type name is accepted as short form: ``brand: category``.
    """

    type: FeatureType
    scale: Literal["linear", "log"] = "linear"
    """Numbers only: ``log`` takes sign(x) * log(1 + |x|) before standardising."""
    min_count: PositiveInt = 1
    """Categories only: rarer values share the unknown row."""


def _expand_feature(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


Features = dict[str, Annotated[Feature, BeforeValidator(_expand_feature)]]


class EventKind(_Section):
    """What one kind of event means."""

    label: Literal[0, 1]
    """1: the user wanted the item. 0: the user saw it and did not."""
    weight: PositiveFloat = 1.0
    """Weight of the event in the retrieval loss."""
    ranked: bool = True
    """Whether the event is a row for the ranking model (a shown item with its answer)."""
    target: bool = True
    """Whether a positive event may be what retrieval has to find."""


class Events(_Section):
    """Columns of the event table by role."""

    user_id: str = "user_id"
    item_id: str = "item_id"
    time: str = "time"
    """Datetime, date, ISO 8601 text or unix seconds."""
    kind: str | None = None
    kinds: dict[str, EventKind] = {}
    rating: str | None = None
    positive_rating: float | None = None
    """With `rating`: an event with at least this rating has label 1, others label 0."""
    query: str | None = None
    position: str | None = None
    true_probability: str | None = None
    """Known only for generated data; used by reports, never by a model."""
    context: Features = {}
    """Features of the request (device, place ...): categories and numbers."""

    @model_validator(mode="after")
    def _check_labels(self) -> Events:
        if (self.kind is None) != (not self.kinds):
            raise ValueError("`kind` and `kinds` go together: give both or neither")
        if (self.rating is None) != (self.positive_rating is None):
            raise ValueError("`rating` and `positive_rating` go together: give both or neither")
        if self.kind is not None and self.rating is not None:
            raise ValueError("labels come from `kind` or from `rating`, not from both")
        if any(feature.type not in ("category", "number") for feature in self.context.values()):
            raise ValueError("`context` features are of type category or number")
        return self


class Items(_Section):
    """Columns of the catalogue by role."""

    item_id: str = "item_id"
    title: str = "title"
    """Shown to people."""
    text: list[str] = Field(default=["title"], min_length=1)
    """Columns joined, in this order, into the text that BERT reads."""
    features: Features = {}


class Users(_Section):
    """Columns of the user table by role."""

    user_id: str = "user_id"
    text: list[str] = []
    """Columns joined, with the query behind them, into the text that BERT reads."""
    features: Features = {}


class TableFile(_Section):
    """A file of rows: CSV (gzip too), Parquet or JSON lines, told by its suffix."""

    path: str
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    encoding: str = "utf8"
    columns: list[str] | None = None
    """Names for a CSV file without a header line."""


class TableFiles(_Section):
    """The files of the source `files`."""

    events: TableFile
    items: TableFile
    users: TableFile | None = None


class Split(_Section):
    """A global split by time: the last part of the events is the test."""

    validation: Fraction = 0.1
    test: Fraction = 0.1

    @model_validator(mode="after")
    def _check_sum(self) -> Split:
        if self.test <= 0 or self.validation <= 0 or self.validation + self.test >= 1:
            raise ValueError("`validation` and `test` must be above 0 and leave a part for train")
        return self


class Data(_Section):
    """Where the tables come from and what their columns mean."""

    source: Literal["shop", "movielens", "files"]
    path: str | None = None
    """Folder of the raw files; relative to the working directory."""
    tfds_name: str = "movielens/100k"
    """Source `movielens` without a path: the TensorFlow Datasets name before ``-ratings``."""
    scale: PositiveFloat = 1.0
    """Source `shop`: 1 is about half a million events, 20 about ten million."""
    tables: TableFiles | None = None
    events: Events = Events()
    items: Items = Items()
    users: Users = Users()
    unknown_items: Literal["error", "drop"] = "error"
    """What to do with events whose item is not in the catalogue."""
    split: Split = Split()
    max_history: PositiveInt = 20
    """A user's last positive items that the user tower sees."""

    @model_validator(mode="after")
    def _check_source(self) -> Data:
        if self.source == "files" and self.tables is None:
            raise ValueError("source `files` needs `tables`")
        return self

    @model_validator(mode="after")
    def _check_names(self) -> Data:
        users, items, context = self.users, self.items, self.events.context
        reserved = "reserved names"
        _refuse_shared_names(
            {
                reserved: _REQUEST_INPUTS,
                "users.text": users.text,
                "users.features": users.features,
                "events.context": context,
            }
        )
        _refuse_shared_names(
            {
                reserved: [Tensors.ITEM_ID],
                "items.text": items.text,
                "items.features": items.features,
            }
        )
        _refuse_shared_names({reserved: _ITEM_COLUMNS, "items.features": items.features})
        _refuse_shared_names({reserved: _USER_COLUMNS, "users.features": users.features})
        _refuse_shared_names({reserved: _EVENT_COLUMNS, "events.context": context})
        return self


def _refuse_shared_names(places: Mapping[str, Iterable[str]]) -> None:
    """Raises `ValueError` where two places, or one place twice, give the same name."""
    owners: dict[str, str] = {}
    for place, names in places.items():
        for name in names:
            if name in owners:
                raise ValueError(
                    f"wanted a name of its own for each column that a model reads, got {name!r} "
                    f"in {place} and in {owners[name]}; rename the column"
                )
            owners[name] = place


class Text(_Section):
    """WordPiece vocabulary and token lengths."""

    vocabulary_size: Annotated[int, Field(ge=100)] = 8000
    max_item_tokens: Annotated[int, Field(ge=4)] = 40
    max_query_tokens: Annotated[int, Field(ge=4)] = 16


class Pretraining(_Section):
    """Masked-LM pre-training on the catalogue's texts."""

    steps: Annotated[int, Field(ge=0)] = 200
    batch_size: PositiveInt = 256
    learning_rate: PositiveFloat = 1e-3
    mask_rate: Annotated[float, Field(gt=0, lt=1)] = 0.15
    checkpoint_every: PositiveInt = 50


class Encoder(_Section):
    """The BERT encoder."""

    source: str = "tiny"
    """A size (nano, tiny, mini, small, medium, base: weights from scratch), a keras-nlp preset
    name (``bert_tiny_en_uncased``) or a folder with a Hugging Face or keras-nlp BERT."""
    dropout: Fraction = 0.0
    adaptation: Literal["frozen", "full"] = "frozen"
    """Whether retrieval training changes the encoder's weights. Frozen, every text is encoded once
    for all of training."""
    pretraining: Pretraining = Pretraining()


class Retrieval(_Section):
    """Towers and in-batch softmax training."""

    embedding_dim: PositiveInt = 64
    temperature: PositiveFloat = 0.15
    batch_size: Annotated[int, Field(ge=2)] = 1024
    epochs: PositiveInt = 12
    learning_rate: PositiveFloat = 2e-3
    encoder_learning_rate: PositiveFloat = 2e-4
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    log_q_correction: bool = True
    id_dropout: Fraction = 0.1
    """Share of item ids, attributes and histories hidden in training, so that unknown ones work."""
    use_user_id: bool = True
    """Whether a known user's id shapes the answer even without a history."""
    user_id_dropout: Fraction = 0.8
    """Share of user ids hidden in training: ids learn users by heart sooner than histories do."""


class Ranking(_Section):
    """The ranking MLP with a sigmoid output."""

    hidden: list[PositiveInt] = Field(default=[128, 64], min_length=1)
    batch_size: PositiveInt = 4096
    epochs: PositiveInt = 5
    learning_rate: PositiveFloat = 1e-3
    dropout: Fraction = 0.1
    negatives_per_positive: Annotated[int, Field(ge=0)] = 2
    """Uniformly drawn negatives added to the training rows for each positive."""
    retrieval_weight: Annotated[float, Field(ge=0)] = 1.0
    """Answers are sorted by click log-odds + weight * score / temperature: how likely the user
    wants the item shown, and how likely they turn to it at all. 0 sorts by probability alone."""


class Index(_Section):
    """Search for the nearest items."""

    kind: Literal["scann", "exact"] = "scann"
    candidates: PositiveInt = 200
    """Items that retrieval hands to the ranking model."""
    min_recall: Fraction = 0.95
    """Build fails below this recall at `candidates` against exact search."""


class Evaluation(_Section):
    """What the report measures."""

    k: list[PositiveInt] = Field(default=[10, 50, 100], min_length=1)
    max_contexts: PositiveInt = 20000
    """Test requests measured; more are sampled with the run's seed."""


class Export(_Section):
    """The SavedModel."""

    folder: str = "saved_models"
    k: PositiveInt = 50
    """Items that `recommend` answers with."""
    replay_rows: PositiveInt = 64
    """Test requests that verification replays in a fresh process."""


class Config(_Section):
    """Everything that determines one run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 42
    runs: str = "runs"
    """Folder of the artefacts: ``<runs>/<name>/<stage>``."""
    data: Data
    text: Text = Text()
    encoder: Encoder = Encoder()
    retrieval: Retrieval = Retrieval()
    ranking: Ranking = Ranking()
    index: Index = Index()
    evaluation: Evaluation = Evaluation()
    export: Export = Export()

    @property
    def score_weight(self) -> float:
        """What a retrieval score counts beside click log-odds when answers are sorted."""
        return self.ranking.retrieval_weight / self.retrieval.temperature

    def to_yaml(self) -> str:
        """Returns the resolved configuration, every default written out."""
        stream = io.StringIO()
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        yaml.dump(self.model_dump(mode="json"), stream)
        return stream.getvalue()


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads, overrides and validates a configuration.

    Args:
        path: YAML file.
        overrides: ``section.key=value`` strings; the value is read as YAML.

    Raises:
        ConfigError: The file is missing or no valid YAML, a key is unknown, a value is wrong.
    """
    path = Path(path)
    tree = _read_yaml(path)
    for override in overrides:
        _apply_override(tree, override)
    return parse_config(tree, origin=str(path))


def parse_config(tree: Mapping[str, Any], origin: str = "configuration") -> Config:
    """Validates a nested mapping; `origin` names it in errors."""
    try:
        return Config.model_validate(dict(tree))
    except pydantic.ValidationError as error:
        raise ConfigError(_describe(error, origin)) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = [p.as_posix() for p in sorted(path.parent.glob("*.yaml"))]
        hint = did_you_mean(path.as_posix(), near)
        raise ConfigError(f"{path}: no such configuration file.{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    try:
        tree = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(error.problem or error.context).split())
        raise ConfigError(f"{path}{line}: not valid YAML: {problem}") from None
    except YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: wanted a mapping of sections, got {type(tree).__name__}.")
    return tree


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: wanted section.key=value.")
    try:
        value = YAML(typ="safe", pure=True).load(text) if text else ""
    except YAMLError:
        value = text
    *parents, leaf = key.strip().split(".")
    node = tree
    for parent in parents:
        child = node.get(parent)
        if child is None:
            child = node[parent] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"--set {override}: {parent!r} is a value, not a section.")
        node = child
    node[leaf] = value


def _describe(error: pydantic.ValidationError, origin: str) -> str:
    """Turns pydantic's list into one line about the first problem; unknown keys come first."""
    problems = sorted(error.errors(), key=lambda p: p["type"] != "extra_forbidden")
    first = problems[0]
    steps = [str(step) for step in first["loc"] if not str(step).startswith("function-")]
    where = ".".join(steps)
    if first["type"] == "extra_forbidden":
        known = _known_keys(steps[:-1])
        message = f"unknown key {where!r}.{did_you_mean(steps[-1], known)}"
        if known:
            message += f" Known here: {', '.join(sorted(known))}."
    elif first["type"] == "missing":
        message = f"key {where!r} is missing."
    else:
        wanted = first["msg"].removeprefix("Value error, ")
        wanted = wanted[0].lower() + wanted[1:]
        came = "" if isinstance(first["input"], dict) else f", got {first['input']!r}"
        message = f"{where + ': ' if where else ''}{wanted}{came}."
    more = len(problems) - 1
    return f"{origin}: {message}" + (f" ({more} more problem{'s' * (more > 1)})" if more else "")


def _known_keys(steps: Sequence[str]) -> list[str]:
    """Returns the keys that the section at `steps` may have; empty where any key may stand."""
    model: type[BaseModel] | None = Config
    for step in steps:
        field = model.model_fields.get(step) if model else None
        model = _section_of(field.annotation) if field else model
    return list(model.model_fields) if model else []


def _section_of(annotation: Any) -> type[BaseModel] | None:
    """Finds the section class inside ``X``, ``X | None``, ``dict[str, X]`` or ``Annotated``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        found = _section_of(argument)
        if found:
            return found
    return None
