"""The stages of a run, in order: from raw tables to a verified SavedModel.

Each stage reads the folders of earlier ones and writes its own, so any of them can run in another
process or on another machine. TensorFlow is loaded only by a stage that really runs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfrec.config import Config
from tfrec.data.dataset import PreparedData
from tfrec.errors import ArtefactError, ConfigError, did_you_mean
from tfrec.files import read_json
from tfrec.log import record, tell
from tfrec.pipeline.models import load_recommender
from tfrec.pipeline.parts import try_parts
from tfrec.pipeline.run import INDEX, Run
from tfrec.pipeline.stage import Stage, StageRunner
from tfrec.pipeline.stages import (
    Candidates,
    Evaluation,
    Export,
    Index,
    Order,
    Prepare,
    Pretraining,
    Ranking,
    Retrieval,
    Tokens,
    Vocabulary,
)
from tfrec.registry import STAGES
from tfrec.schema import ExportFiles

if TYPE_CHECKING:
    from tfrec.recommender import Recommender

LAST = Export.name


class Pipeline:
    """All stages of one configuration.

    Args:
        config: The run.
        announce: Called with a line for people as stages start and end; by default it goes to the
            logger ``tfrec``, and so to ``run.log``.
        tables: For the source `tables`: data frames (pandas, polars or pyarrow) by name: events
            and, as declared, items, users and relations.
        donors: Folders of other runs, from which stages that would be the same are taken over.

    Attributes:
        artefacts: What the run has written.

    Raises:
        ConfigError: A stage of your own cannot be made.
    """

    def __init__(
        self,
        config: Config,
        announce: Callable[[str], None] = tell,
        tables: Mapping[str, Any] | None = None,
        donors: Sequence[Path] = (),
    ) -> None:
        self.config = config
        self.artefacts = Run(config, tables)
        self._announce = announce
        self._stages = {stage.name: stage for stage in list_stages(config)}
        self._runner = StageRunner(self.artefacts, list(self._stages.values()), announce, donors)

    def run(self, until: str = LAST) -> None:
        """Runs every stage up to `until` that is missing or changed; by default all.

        Raises:
            ConfigError: There is no such stage, or a part of your own is not what it should be.
        """
        names = list(self._stages)
        if until not in names:
            raise ConfigError(f"stage: wanted one of {', '.join(names)}, got {until!r}.")
        last = names[-1] if until == LAST else until  # a stage of yours may follow the export
        try_parts(self.config)
        shared = [
            stage
            for stage in list(self._stages.values())[: names.index(last) + 1]
            if isinstance(stage, Retrieval) and self.config.run.strategy == "multi_worker"
        ]
        # Of several workers the chief alone writes the files of the run, its log among them.
        with nullcontext() if self.works_along else record(self.artefacts.log):
            for stage in shared:
                if not self._runner.is_published(stage.name):
                    self._announce(f"{stage.name}: waiting for all workers of TF_CONFIG")
                    stage.meet_workers()
            if not self.works_along:
                self._runner.run(last)
                return
            for stage in shared:
                self._runner.work_along(stage.name)

    @property
    def works_along(self) -> bool:
        """Whether this process is a further worker, which only shares in training the towers."""
        if self.config.run.strategy != "multi_worker":
            return False
        return not is_chief_of(os.environ.get("TF_CONFIG", ""))

    def check_is_finished(self) -> None:
        """Checks that there is a trained and exported model.

        Raises:
            ArtefactError: There is none, or the configuration says another one by now.
        """
        for name in self._stages:
            if not self._runner.is_published(name):
                raise ArtefactError(
                    f"{self.folder}: the stage {name} is not done for this configuration; "
                    "run `tfrec train` first."
                )

    def fingerprints(self) -> dict[str, str]:
        """Returns, by stage, what its folder would be marked with now."""
        return self._runner.fingerprints()

    @property
    def folder(self) -> Path:
        """The folder of the run."""
        return self.artefacts.folder

    @property
    def model_folder(self) -> Path:
        """The folder of the exported versions."""
        return self.artefacts.model_folder

    @property
    def data(self) -> PreparedData:
        """The prepared data set."""
        return self.artefacts.data

    def report(self) -> dict[str, Any]:
        """Returns the numbers of the evaluation stage."""
        return self.artefacts.report()

    def kept_round(self, stage: str) -> dict[str, float]:
        """Returns what the round that a training stage kept measured."""
        return self.artefacts.kept_round(stage)

    def sample(self) -> dict[str, Any]:
        """Returns the sample user's request and recommendations of the export stage."""
        return self.artefacts.sample()

    def exported_folder(self) -> str:
        """Returns the folder of the exported version."""
        return self.artefacts.versions()["folder"]

    def exports(self) -> dict[str, str]:
        """Returns all exported versions' folders, each with which servers can load it."""
        versions = self.artefacts.versions().values()
        manifests = {v: read_json(Path(v) / ExportFiles.MANIFEST) for v in versions}
        return {version: manifest["servers"]["note"] for version, manifest in manifests.items()}

    def recommender(self, index: str = INDEX) -> Recommender:
        """Builds the trained two-stage recommender in memory, as it is exported.

        Args:
            index: Folder of its index, within that of the run.
        """
        changes = self.artefacts.changes(self.fingerprints()[Export.name])
        return load_recommender(self.artefacts, changes, index)


def list_stages(config: Config) -> list[Stage]:
    """Lists the stages of a configuration in order, those of somebody else among ours.

    Raises:
        ConfigError: One of somebody else's cannot be made, or follows a stage that is not there.
    """
    towers = config.ranking.towers
    stages: list[Stage]
    if towers == "none":
        stages = [
            Prepare(),
            Ranking(needs=[Prepare.name]),
            Evaluation(needs=[Ranking.name]),
            Export(needs=[Evaluation.name]),
        ]
    else:
        stages = [
            Prepare(),
            Vocabulary(),
            Tokens(),
            Candidates(),
            Pretraining(),
            Retrieval(),
            Ranking(),
            Order(),
            Index(needs=[Ranking.name if towers == "shared" else Retrieval.name]),
            Evaluation(),
            Export(),
        ]
    for number, entry in enumerate(config.stages):
        key, names = f"stages.{number}", [stage.name for stage in stages]
        if entry.after not in names:
            raise ConfigError(
                f"{key}.after: wanted one of {', '.join(names)}, got {entry.after!r}."
                f"{did_you_mean(entry.after, names)}"
            )
        stage = STAGES.make(entry.kind, f"{key}.kind", entry.options)
        stage.origin = entry.model_dump(mode="json", include={"kind", "options"})
        stages.insert(names.index(entry.after) + 1, stage)
    return stages


def is_chief_of(cluster: str) -> bool:
    """Tells from the value of TF_CONFIG whether this process writes the files of a run.

    The chief does, or the first worker of a cluster without one.

    Raises:
        ConfigError: It is no JSON object with a task.
    """
    if not cluster:
        return True
    try:
        settings = json.loads(cluster)
        kind, number = settings["task"]["type"], int(settings["task"]["index"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            'TF_CONFIG: wanted {"cluster": {"worker": ["host:port", ...]}, "task": {"type": '
            f'"worker", "index": 0}}}}, got {cluster!r}.'
        ) from error
    return kind == "chief" or (number == 0 and "chief" not in settings.get("cluster", {}))
