"""Section of the stages that somebody else brings."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator

from tfrec.config.base import Section
from tfrec.registry import STAGES


def _check_kind(kind: str) -> str:
    STAGES.place_of(kind)
    return kind


class ExtraStage(Section):
    """A stage beside ours."""

    kind: Annotated[str, AfterValidator(_check_kind)]
    """``package.module:Class``, or the name under which a package announces it."""
    after: str = "export"
    """Name of the stage that it follows."""
    options: dict[str, Any] = {}
    """What it is made with."""
