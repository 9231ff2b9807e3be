"""Doors: a `kind:` names a part of ours, one that a package announces, or `package.module:Class`.

A `Door` lists our parts of one kind by name and knows the contract that a part must keep. Parts and
contracts are named by their place and imported on use, so that the command line and the
configuration stay light.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from tfrec.errors import ConfigError, did_you_mean, reason_of


@dataclass(frozen=True)
class Door:
    """One kind of part that anybody can bring.

    Attributes:
        noun: What a part is called in messages.
        contract: ``package.module:Class`` of the base class that parts extend.
        ours: Name to ``package.module:Class``.
    """

    noun: str
    contract: str
    ours: Mapping[str, str] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The entry points by which packages announce parts."""
        return f"tfrec.{self.noun.replace(' ', '_')}"

    @cached_property
    def announced(self) -> dict[str, str]:
        """What installed packages announce, name to ``package.module:Class``."""
        return {entry.name: entry.value for entry in metadata.entry_points(group=self.group)}

    def names(self) -> list[str]:
        """Lists what may stand without a package: ours first."""
        return [*self.ours, *(name for name in self.announced if name not in self.ours)]

    def place_of(self, kind: str) -> str:
        """Returns ``package.module:Class`` of a kind.

        Raises:
            ValueError: It is neither a known name nor a place.
        """
        place = self.ours.get(kind) or self.announced.get(kind)
        if place is not None:
            return place
        if _is_place(kind):
            return kind
        named = f"one of {', '.join(self.names())}, or " if self.names() else ""
        raise ValueError(
            f"wanted {named}package.module:Class of your own, got "
            f"{kind!r}.{did_you_mean(kind, self.names())}"
        )

    def load(self, kind: str, key: str) -> type[Any]:
        """Imports a part and checks that it keeps the contract.

        Args:
            kind: Name or place.
            key: Of the configuration, for messages.

        Raises:
            ConfigError: It cannot be imported, or is no class that keeps the contract.
        """
        try:
            place = self.place_of(kind)
        except ValueError as error:
            raise ConfigError(f"{key}: {error}") from None
        part, contract = _import(place, key), _import(self.contract, key)
        article = "an" if self.noun[0] in "aeiou" else "a"
        if not isinstance(part, type) or not issubclass(part, contract):
            came = "a class that does not" if isinstance(part, type) else repr(part)
            raise ConfigError(
                f"{key}: {place}: wanted {article} {self.noun}, a class that extends "
                f"{self.contract}, got {came}."
            )
        lacking = sorted(getattr(part, "__abstractmethods__", ()))
        if lacking:
            raise ConfigError(f"{key}: {place}: the {self.noun} lacks {', '.join(lacking)}.")
        return part

    def make(self, kind: str, key: str, options: Mapping[str, Any], **given: Any) -> Any:
        """Makes a part.

        Args:
            kind: Name or place.
            key: Of the configuration, for messages.
            options: What the configuration says beside the kind.
            given: What every part of this kind is made with.

        Raises:
            ConfigError: As `load`; or an option is unknown, missing or refused.
        """
        return self.call(self.load(kind, key), kind, key, options, **given)

    def call(
        self,
        make: Callable[..., Any],
        kind: str,
        key: str,
        options: Mapping[str, Any],
        **given: Any,
    ) -> Any:
        """Calls what makes a part, the class or a method of it; see `make`."""
        parameters = inspect.signature(make).parameters.values()
        named = {
            p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
        }
        known = [name for name in named if name not in given]
        for name in options:
            if name not in known:
                raise ConfigError(
                    f"{key}: {kind}: unknown option {name!r}.{did_you_mean(name, known)} "
                    f"Known here: {', '.join(known) or 'none'}."
                )
        for name in known:
            if named[name].default is inspect.Parameter.empty and name not in options:
                raise ConfigError(f"{key}: {kind}: the option {name!r} is missing.")
        try:
            return make(**given, **options)
        except (TypeError, ValueError) as error:
            reason = reason_of(error)
            raise ConfigError(f"{key}: {kind}: {reason}") from error

    def stamp(self, kind: str) -> str | None:
        """Tells one state of somebody else's part from another; None for ours.

        It is a hash of the file that holds the part, so that a stage runs again after an edit.
        """
        if kind in self.ours:
            return None
        module = self.place_of(kind).partition(":")[0]
        try:
            spec = importlib.util.find_spec(module)
        except (ImportError, ValueError):  # a ValueError for `__main__`, which has no spec
            return None
        if spec is None or spec.origin is None or not Path(spec.origin).is_file():
            return None
        return hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()[:16]


def foreign_stamps(settings: Any) -> dict[str, str]:
    """Stamps every part of somebody else that settings name, whichever door it came in by.

    Args:
        settings: Mappings, lists and values; a part is named by a value or a key.

    Returns:
        Name or place to `Door.stamp`.
    """
    doors = [door for door in globals().values() if isinstance(door, Door)]
    stamps = {
        text: door.stamp(text)
        for text in _texts(settings)
        for door in doors
        if _is_place(text) or text in door.announced
    }
    return {text: stamp for text, stamp in sorted(stamps.items()) if stamp is not None}


def _texts(settings: Any) -> Iterator[str]:
    if isinstance(settings, str):
        yield settings
    elif isinstance(settings, Mapping):
        for name, value in settings.items():
            yield from _texts(name)
            yield from _texts(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _texts(value)


def _is_place(text: str) -> bool:
    module, _, name = text.partition(":")
    return bool(name) and all(part.isidentifier() for part in (*module.split("."), name))


def _import(place: str, key: str) -> Any:
    module, _, name = place.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # a module of somebody else raises whatever it raises
        reason = reason_of(error)
        raise ConfigError(f"{key}: {place}: cannot be imported: {reason}") from error


CALIBRATORS = Door(
    "calibrator",
    "tfrec.models.calibration:Calibrator",
    {
        "none": "tfrec.models.calibration:NoCalibration",
        "temperature": "tfrec.models.calibration:TemperatureCalibrator",
        "platt": "tfrec.models.calibration:PlattCalibrator",
        "isotonic": "tfrec.models.calibration:IsotonicCalibrator",
    },
)

CANDIDATE_SOURCES = Door(
    "candidate source",
    "tfrec.candidates.source:CandidateSource",
    {
        "two_tower": "tfrec.candidates.source:TwoTower",
        "item_knn": "tfrec.candidates.tables:ItemKnn",
        "ease": "tfrec.candidates.tables:Ease",
        "content": "tfrec.candidates.tables:Content",
        "search": "tfrec.candidates.tables:Search",
        "popularity": "tfrec.candidates.tables:Popularity",
        "recent_popularity": "tfrec.candidates.tables:RecentPopularity",
    },
)

FEATURE_TYPES = Door(
    "feature type",
    "tfrec.features.feature_type:FeatureType",
    {
        "category": "tfrec.features.category:Category",
        "category_list": "tfrec.features.category_list:CategoryList",
        "number": "tfrec.features.number:Number",
        "vector": "tfrec.features.vector:Vector",
        "date": "tfrec.features.date:Date",
    },
)

FUSIONS = Door(
    "fusion",
    "tfrec.towers.fusion:Fusion",
    {
        "sum": "tfrec.towers.fusion:SumFusion",
        "concat": "tfrec.towers.fusion:ConcatFusion",
        "gate": "tfrec.towers.fusion:GateFusion",
    },
)

HISTORY_READERS = Door(
    "history reader",
    "tfrec.towers.history:HistoryReader",
    {
        "transformer": "tfrec.towers.transformer:TransformerReader",
        "attention": "tfrec.towers.history:AttentionReader",
        "mean": "tfrec.towers.history:MeanReader",
        "none": "tfrec.towers.history:NoHistory",
    },
)

INDEXES = Door(
    "index",
    "tfrec.index.item_index:ItemIndex",
    {
        "scann": "tfrec.index.scann:ScannIndex",
        "portable": "tfrec.index.portable:PortableIndex",
        "exact": "tfrec.index.exact:ExactIndex",
    },
)

METRICS = Door("metric", "tfrec.metrics.request_metric:RequestMetric")

NEGATIVE_SAMPLERS = Door(
    "negative sampler",
    "tfrec.training.samplers:NegativeSampler",
    {
        "uniform": "tfrec.training.samplers:UniformSampler",
        "popular": "tfrec.training.samplers:PopularSampler",
    },
)

OPTIMIZERS = Door(
    "optimiser",
    "keras.optimizers:Optimizer",
    {
        "adamw": "keras.optimizers:AdamW",
        "adam": "keras.optimizers:Adam",
        "adagrad": "keras.optimizers:Adagrad",
        "lion": "keras.optimizers:Lion",
        "rmsprop": "keras.optimizers:RMSprop",
        "sgd": "keras.optimizers:SGD",
    },
)

RANKING_HEADS = Door(
    "ranking head",
    "tfrec.models.ranking_head:RankingHead",
    {
        "probability": "tfrec.models.ranking_head:ProbabilityHead",
        "number": "tfrec.models.ranking_head:NumberHead",
        "log_number": "tfrec.models.ranking_head:LogNumberHead",
    },
)

RANKING_LAYERS = Door("ranking layer", "tfrec.models.ranking_layer:RankingLayer")

RETRIEVAL_LOSSES = Door(
    "retrieval loss",
    "tfrec.losses.retrieval:RetrievalLoss",
    {
        "softmax": "tfrec.losses.sampled_softmax:SampledSoftmax",
        "tfrs": "tfrec.losses.tfrs:TfrsRetrieval",
        "full_softmax": "tfrec.losses.full_softmax:FullSoftmax",
        "mse": "tfrec.losses.rating:SquaredError",
    },
)

STAGES = Door("stage", "tfrec.pipeline.stage:Stage")

TEXT_ENCODERS = Door(
    "text encoder",
    "tfrec.encoders.text_encoder:TextEncoder",
    {"bert": "tfrec.encoders.bert:BertEncoder"},
)

TOWER_PARTS = Door("tower part", "tfrec.towers.part:TowerPart")
