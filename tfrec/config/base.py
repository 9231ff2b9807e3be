"""What every section of the configuration is made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

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
