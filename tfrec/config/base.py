"""What every section of the configuration is made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tfrec.registry import Door

PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
PositiveFloat = Annotated[float, Field(gt=0)]
Column = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """Strict: no unknown key, no conversion, no infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def changed(self, names: Iterable[str]) -> list[str]:
        """Returns those of the keys `names` that have another value than their default."""
        fields = type(self).model_fields
        return [name for name in names if getattr(self, name) != fields[name].default]


class PartSection(Section):
    """A part that comes in by a door: one of ours by name, or somebody else's."""

    door: ClassVar[Door]

    kind: str
    options: dict[str, Any] = {}
    """Of a part of somebody else; ours have keys of their own."""

    @field_validator("kind")
    @classmethod
    def _check_kind(cls, kind: str) -> str:
        cls.door.place_of(kind)
        return kind

    @model_validator(mode="after")
    def _check_options(self) -> PartSection:
        if self.options and self.is_ours:
            raise ValueError(
                f"`options` go with a part of your own (`kind: package.module:Class`), got kind "
                f"{self.kind!r}"
            )
        return self

    @property
    def is_ours(self) -> bool:
        """Whether the part is one of tfrec's."""
        return self.kind in self.door.ours
