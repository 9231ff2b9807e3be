"""How a column becomes input of a tower: its type, its gaps, its outliers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from tfrec.config.base import PositiveFloat, PositiveInt, Section

FeatureType = Literal["category", "category_list", "number", "vector", "date"]


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

    type: FeatureType
    """``date`` is read like a time and becomes the number of days since 1970-01-01."""
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

    @model_validator(mode="after")
    def _check_type(self) -> Feature:
        is_number = self.type in ("number", "date")
        is_category = self.type in ("category", "category_list")
        if not is_number and (self.scale != "linear" or self.clip):
            raise ValueError(f"`scale` and `clip` are for numbers, not for {self.type}")
        if not is_category and (self.min_count != 1 or self.oov_buckets):
            raise ValueError(f"`min_count` and `oov_buckets` are for categories, not {self.type}")
        if self.type != "category_list" and self.changed(["separator"]):
            raise ValueError(f"`separator` is for category_list, not for {self.type}")
        if not is_number and not self.missing.indicator:
            raise ValueError(f"`missing.indicator` is for numbers, not for {self.type}")
        method, value = self.missing.method, self.missing.value
        allowed = {"unknown"}
        if is_number:
            allowed |= {"constant", "mean", "median", "most_frequent", "interpolate", "nearest"}
        elif self.type == "category":
            allowed |= {"constant", "most_frequent"}
        if method not in allowed:
            raise ValueError(f"`missing: {method}` does not work for {self.type}")
        if value is not None and isinstance(value, str) == is_number:
            raise ValueError(f"`missing.value` must be a {'number' if is_number else 'text'}")
        return self


def _expand_feature(value: object) -> object:
    return {"type": value} if isinstance(value, str) else value


Features = dict[str, Annotated[Feature, BeforeValidator(_expand_feature)]]


def refuse_method(features: Features, method: str, place: str, only_for: str) -> None:
    """Raises `ValueError` where a feature fills gaps in a way that its table does not know."""
    for name, feature in features.items():
        if feature.missing.method == method:
            raise ValueError(f"`{place}.{name}`: `missing: {method}` is for {only_for}")
