"""The whole configuration of one run."""

from __future__ import annotations

import io
from typing import Annotated

from pydantic import Field, model_validator
from ruamel.yaml import YAML

from tfrec.config.base import Section
from tfrec.config.candidates import TWO_TOWER, Candidates
from tfrec.config.data import Data
from tfrec.config.execution import Execution
from tfrec.config.filters import Filters
from tfrec.config.models import Encoder, Evaluation, Export, Index, Text
from tfrec.config.ranking import Ranking
from tfrec.config.retrieval import Retrieval
from tfrec.config.stages import ExtraStage
from tfrec.config.tuning import Tuning


class Config(Section):
    """Everything that determines one run."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 42
    runs: str = "runs"
    """Folder of the artefacts: ``<runs>/<name>/<stage>``."""
    data: Data
    text: Text = Text()
    encoder: Encoder = Encoder()
    retrieval: Retrieval = Retrieval()
    index: Index = Index()
    candidates: Candidates = Candidates()
    filters: Filters = Filters()
    ranking: Ranking = Ranking()
    evaluation: Evaluation = Evaluation()
    export: Export = Export()
    stages: list[ExtraStage] = []
    """Stages of your own, beside ours."""
    run: Execution = Execution()
    tuning: Tuning = Tuning()

    @model_validator(mode="after")
    def _check_sources(self) -> Config:
        if self.ranking.towers == "none" and list(self.candidates.sources) != [TWO_TOWER]:
            raise ValueError(
                "`candidates.sources` needs towers: with `ranking.towers: none` all items are "
                "candidates"
            )
        return self

    @model_validator(mode="after")
    def _check_encoder(self) -> Config:
        if self.export.encoder == "int8" and not self.encoder.is_ours:
            raise ValueError(
                f"`export.encoder: int8` goes with `encoder.kind: bert`, got {self.encoder.kind!r}"
            )
        return self

    @model_validator(mode="after")
    def _check_pairs(self) -> Config:
        if self.retrieval.loss.kind == "tfrs" and self.run.strategy != "one_device":
            raise ValueError(
                "`retrieval.loss.kind: tfrs` takes its negatives from one device, which "
                f"`run.strategy: {self.run.strategy}` rules out; take `loss.kind: softmax`"
            )
        return self

    @model_validator(mode="after")
    def _check_filters(self) -> Config:
        filters, features = self.filters, self.data.items.features
        for key in ("attributes", "available", "unsafe", "caps"):
            for name in getattr(filters, key):
                if name not in features or key not in features[name].uses:
                    known = [n for n, feature in features.items() if key in feature.uses]
                    raise ValueError(
                        f"`filters.{key}`: wanted an item feature of a type that works there "
                        f"({', '.join(known) or 'none is declared'}), got {name!r}"
                    )
        return self

    def to_yaml(self) -> str:
        """Returns the resolved configuration, every default written out."""
        stream = io.StringIO()
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        yaml.dump(self.model_dump(mode="json"), stream)
        return stream.getvalue()
