"""Examples in docstrings run, and public classes have one."""

import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import tfrec

MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(tfrec.__path__, "tfrec.")
    if name != "tfrec.__main__"
]

PUBLIC = (
    "tfrec",
    "tfrec.candidates",
    "tfrec.encoders",
    "tfrec.evaluation",
    "tfrec.export",
    "tfrec.features",
    "tfrec.index",
    "tfrec.losses",
    "tfrec.metrics",
    "tfrec.models",
    "tfrec.pipeline",
    "tfrec.recommender",
    "tfrec.serving",
    "tfrec.shop",
    "tfrec.towers",
    "tfrec.training",
)
"""Where users import from."""

LACKING = {
    "tfrec.losses.retrieval.Pairs",
    "tfrec.losses.retrieval.Sampled",
    "tfrec.config.run.Config",
    "tfrec.data.dataset.PreparedData",
    "tfrec.features.feature_type.FeatureInput",
    "tfrec.index.build.IndexReport",
    "tfrec.index.item_index.Searcher",
    "tfrec.models.cross.Cross",
    "tfrec.models.ranking.RankingModel",
    "tfrec.pipeline.catalogue_editor.CatalogueEditor",
    "tfrec.pipeline.pipeline.Pipeline",
    "tfrec.pipeline.run.Run",
    "tfrec.pipeline.stage.Stage",
    "tfrec.recommender.catalogue.Catalogue",
    "tfrec.recommender.catalogue.Inputs",
    "tfrec.recommender.recommender.Recommender",
    "tfrec.recommender.two_stage.TwoStage",
    "tfrec.serving.saved_recommender.SavedRecommender",
    "tfrec.shop.generator.Shop",
    "tfrec.shop.world.ShopSize",
}
"""Public classes without an example. Write one and take the name out; none may be added."""


def source(module: str) -> str:
    path = importlib.util.find_spec(module).origin
    return Path(path).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in MODULES if ">>> " in source(name)])
def test_examples_of_module_run(name: str):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed


def public_classes() -> dict[str, type]:
    """Returns the classes in `__all__` of the public packages, by their own dotted name."""
    found = {}
    for package in map(importlib.import_module, PUBLIC):
        for name in getattr(package, "__all__", []):
            value = getattr(package, name)
            if inspect.isclass(value) and not issubclass(value, Exception):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return found


def test_public_classes_have_an_example():
    lacking = {name for name, cls in public_classes().items() if ">>> " not in (cls.__doc__ or "")}
    assert lacking == LACKING
