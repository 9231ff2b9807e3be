"""Feature types: how a column of a table becomes input of a tower.

Each type is one class that reads the raw cells, learns on train, encodes columns and, in the graph,
requests, and makes the layer that embeds it. `FeatureType` is the contract for types of your own.
"""

from tfrec.features.category import Category
from tfrec.features.category_list import CategoryList
from tfrec.features.date import Date
from tfrec.features.feature_type import LEARNED, FeatureInput, FeatureType, load_feature
from tfrec.features.frame import encode_frame, fit_features
from tfrec.features.number import Number
from tfrec.features.vector import Vector

__all__ = [
    "LEARNED",
    "Category",
    "CategoryList",
    "Date",
    "FeatureInput",
    "FeatureType",
    "Number",
    "Vector",
    "encode_frame",
    "fit_features",
    "load_feature",
]
