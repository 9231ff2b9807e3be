"""Section of what only runs: nothing here changes a weight or a figure, so nothing is redone."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from tfrec.config.base import Section


class Execution(Section):
    """How a run computes what the other sections say."""

    strategy: Literal["one_device", "mirrored", "multi_worker"] = "one_device"
    """One device, all GPUs of a machine, or the workers of ``TF_CONFIG``; they share a batch."""
    jit_compile: bool = False
    """Whether XLA compiles the encoder's part of a step."""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    """Time between two checkpoints within an epoch; the end of one always writes one."""
    health_alarm: Literal["error", "warn", "off"] = "error"
    """What a collapsed model, one that leaks labels, or one worse than popularity leads to."""
