"""Text encoders: token ids to one vector a text."""

from tfrec.encoders.adaptation import adapt
from tfrec.encoders.bert import BertEncoder, build_backbone
from tfrec.encoders.pooling import AttentionPooling
from tfrec.encoders.text_encoder import TextEncoder

__all__ = ["AttentionPooling", "BertEncoder", "TextEncoder", "adapt", "build_backbone"]
