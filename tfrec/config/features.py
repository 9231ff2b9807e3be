"""How a column becomes input of a tower: its type, its gaps, its outliers."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tfrec.config.base import PositiveFloat, PositiveInt, Section
from tfrec.errors import ConfigError
from tfrec.registry import FEATURE_TYPES

# Keyword of a feature type's class to the key that gives it.
_KEYS = {
    "scale": "scale",
    "min_count": "min_count",
    "oov_buckets": "oov_buckets",
    "separator": "separator",
    "missing": "missing.method",
    "missing_value": "missing.value",
    "neighbours": "missing.neighbours",
    "indicator": "missing.indicator",
    "clip": "clip.method",
    "low_quantile": "clip.low",
    "high_quantile": "clip.high",
    "max_deviations": "clip.limit",
}


class Missing(Section):
    """What stands in for an unknown value; learned on train.

    A bare method is accepted as short form: ``missing: median``.
    """

    method: Literal[
        "unknown", "constant", "mean", "median", "most_frequent", "interpolate", "nearest"
    ] = "unknown"
    """``unknown``: the model learns what unknown means. ``interpolate`` (context numbers): linear
    in time between the user's own values of the same split. ``nearest`` (numbers of items and
    users): the mean of the `neighbours` rows most alike in the other numbers. Both, where they find
    nothing and in serving: the median."""
    value: float | str | None = None
    """For ``constant``."""
    neighbours: PositiveInt = 5
    indicator: bool = True
    """Numbers: whether the model is also told that the value was missing."""

    @model_validator(mode="after")
    def _check_value(self) -> Missing:
        if (self.method == "constant") != (self.value is not None):
            raise ValueError("`value` goes with `method: constant`")
        if self.value == "":
            raise ValueError("wanted a `value` that is not empty")
        if self.method != "nearest" and self.changed(["neighbours"]):
            raise ValueError("`neighbours` goes with `method: nearest`")
        return self


class Clip(Section):
    """Bounds that outliers of a number are moved to; learned on train.

    A bare method is accepted as short form: ``clip: quantile``.
    """

    method: Literal["quantile", "z_score"]
    low: Annotated[float, Field(ge=0, le=1)] = 0.01
    high: Annotated[float, Field(ge=0, le=1)] = 0.99
    """Quantiles."""
    limit: PositiveFloat = 4.0
    """Standard deviations from the mean."""

    @model_validator(mode="after")
    def _check_order(self) -> Clip:
        if self.low >= self.high:
            raise ValueError("wanted `low` below `high`")
        other = ["limit"] if self.method == "quantile" else ["low", "high"]
        for name in self.changed(other):
            raise ValueError(f"`{name}` does not go with `method: {self.method}`")
        return self


def _expand_method(value: object) -> object:
    return {"method": value} if isinstance(value, str) else value


class Feature(Section):
    """How one column becomes input of a tower.

    A bare type name is accepted as short form: ``brand: category``.
    """

    type: str
    """A name, or ``package.module:Class`` of your own. ``date`` is read like a time and becomes the
    number of days since 1970-01-01."""
    options: dict[str, Any] = {}
    """Of a type of your own: what its class takes beside the keys below."""
    scale: Literal["linear", "log"] = "linear"
    """Numbers: ``log`` takes sign(x) * log(1 + |x|) before standardising."""
    min_count: PositiveInt = 1
    """Categories: rarer values are out of the vocabulary."""
    oov_buckets: Annotated[int, Field(ge=0)] = 0
    """Categories: values out of the vocabulary share this many rows by hash; 0: they are treated
    like a missing value."""
    separator: str = Field(default="|", min_length=1)
    """Category lists in text cells: what stands between the values."""
    missing: Annotated[Missing, BeforeValidator(_expand_method)] = Missing()
    clip: Annotated[Clip | None, BeforeValidator(_expand_method)] = None

    @field_validator("type")
    @classmethod
    def _check_name(cls, value: str) -> str:
        FEATURE_TYPES.place_of(value)
        return value

    @model_validator(mode="after")
    def _check_keys(self) -> Feature:
        if self.type not in FEATURE_TYPES.ours:
            return self  # made, and so checked, when data are prepared
        if self.options:
            raise ValueError(f"`options` are for a type of your own, not for {self.type}")
        part, keywords = FEATURE_TYPES.load(self.type, "type"), self.keywords()
        for name in keywords:
            if name not in inspect.signature(part).parameters:
                key = _KEYS[name].removesuffix(".method")
                raise ValueError(f"`{key}` does not go with `type: {self.type}`")
        part(name=self.type, **keywords)
        return self

    def keywords(self) -> dict[str, Any]:
        """Returns what is not left at its default, as keywords of the type's class."""
        found = {}
        for keyword, key in _KEYS.items():
            section, name = self, key
            if "." in key:
                outer, name = key.split(".")
                section = getattr(self, outer)
            if section is not None and section.changed([name]):
                found[keyword] = getattr(section, name)
        return found

    @property
    def uses(self) -> frozenset[str]:
        """Where such a feature may be named; see `FeatureType.uses`. A type is imported for it."""
        try:
            found: frozenset[str] = FEATURE_TYPES.load(self.type, "type").uses
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return found


def _expand_feature(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


Features = dict[str, Annotated[Feature, BeforeValidator(_expand_feature)]]


def refuse_use(features: Features, use: str, place: str) -> None:
    """Raises `ValueError` where a feature is of a type that does not work at a place."""
    for name, feature in features.items():
        if use not in feature.uses:
            known = [n for n in FEATURE_TYPES.ours if use in FEATURE_TYPES.load(n, "type").uses]
            raise ValueError(
                f"`{place}.{name}`: wanted a feature of type {' or '.join(known)}, got "
                f"{feature.type}"
            )


def refuse_method(features: Features, method: str, place: str, only_for: str) -> None:
    """Raises `ValueError` where a feature fills gaps in a way that its table does not know."""
    for name, feature in features.items():
        if feature.missing.method == method:
            raise ValueError(f"`{place}.{name}`: `missing: {method}` is for {only_for}")
