"""A run from raw tables to a verified SavedModel, stage by stage."""

from tfrec.pipeline.pipeline import Pipeline

__all__ = ["Pipeline"]
