"""Towers: features, ids, texts and histories to one embedding, and what they are made of."""

from tfrec.towers.features import FeatureEmbedding
from tfrec.towers.fusion import ConcatFusion, Fusion, GateFusion, SumFusion
from tfrec.towers.history import AttentionReader, HistoryReader, MeanReader, NoHistory
from tfrec.towers.item import ItemTower
from tfrec.towers.part import TowerPart
from tfrec.towers.transformer import TransformerReader
from tfrec.towers.user import UserTower

__all__ = [
    "AttentionReader",
    "ConcatFusion",
    "FeatureEmbedding",
    "Fusion",
    "GateFusion",
    "HistoryReader",
    "ItemTower",
    "MeanReader",
    "NoHistory",
    "SumFusion",
    "TowerPart",
    "TransformerReader",
    "UserTower",
]
