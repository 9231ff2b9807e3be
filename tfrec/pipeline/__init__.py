"""A run from raw tables to a verified SavedModel, stage by stage."""

from tfrec.pipeline.pipeline import Pipeline
from tfrec.pipeline.run import Run
from tfrec.pipeline.stage import Stage

__all__ = ["Pipeline", "Run", "Stage"]
