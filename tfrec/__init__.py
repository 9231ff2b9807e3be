"""tfrec: two-tower retrieval and ranking on TensorFlow, from an event log to TF Serving.

Importing the package is cheap: TensorFlow is loaded on first use of a name that needs it.
"""

from __future__ import annotations

import importlib
from typing import Any

from tfrec import environment

__version__ = "0.1.0"

environment.prepare()

_HOMES = {
    "Cross": "tfrec.models.cross",
    "CatalogueEditor": "tfrec.pipeline.catalogue_editor",
    "Config": "tfrec.config",
    "build_index": "tfrec.index",
    "load_config": "tfrec.config",
    "PreparedData": "tfrec.data.dataset",
    "Pipeline": "tfrec.pipeline",
    "Recommender": "tfrec.recommender",
    "SavedRecommender": "tfrec.serving.saved_recommender",
    "Shop": "tfrec.shop",
    "Ranker": "tfrec.models.ranker",
    "TfrecError": "tfrec.errors",
    "TwoStage": "tfrec.recommender.two_stage",
    "TwoTower": "tfrec.models.two_tower",
    "export_two_stage": "tfrec.export.two_stage",
    "guess_config": "tfrec.autoconfig",
    "validate": "tfrec.data.validation.validate",
}

__all__ = ["__version__", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'tfrec' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
