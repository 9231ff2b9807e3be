"""A run and its files: the only place that names them, and says how each is read and written."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrec.config import Config, load_config
from tfrec.config.view import limit_config
from tfrec.data.dataset import PreparedData
from tfrec.errors import ArtefactError
from tfrec.files import read_json, write_array, write_arrays, write_file, write_json
from tfrec.metrics.diagnosis import Finding

if TYPE_CHECKING:  # TensorFlow is loaded by what really needs it
    import keras

    from tfrec.candidates.build import Arrays
    from tfrec.candidates.order import ListOrder
    from tfrec.index import ItemIndex
    from tfrec.inference.embeddings import Embeddings
    from tfrec.models.ranking import RankingModel
    from tfrec.models.retrieval import RetrievalModel
    from tfrec.recommender.changes import Changes
    from tfrec.training.loop import History

STAGE_FILE, CONFIG_FILE = "stage.json", "config.yaml"
"""What every stage's folder holds beside its artefact."""
RETRIEVAL_TOWERS, RANKING_TOWERS = "retrieval", "ranking/towers"
"""Folders, within that of a run, of the towers, and of those trained further for ranking."""
INDEX, PORTABLE_INDEX = "index", "index/portable"
"""Likewise of the index and of its twin for servers without ScaNN."""
TENSORBOARD = "tensorboard"
"""Likewise, within that of a training, of the curves."""

_TRAININGS = ("pretraining", "retrieval", "ranking")
_MODEL, _EMBEDDINGS, _BACKBONE = "model.npz", "embeddings.npz", "backbone.npz"
_HISTORY, _KEPT, _HEALTH = "history.json", "kept.json", "health.json"
_VOCABULARY, _ITEM_TOKENS, _TEXT_TOKENS = "vocabulary.txt", "items.npy", "texts.npy"
_SOURCES, _ORDER = "sources.npz", "order.json"
_REPORT, _PAGE = "report.json", "report.md"
_SAMPLE, _VERSIONS = "sample.json", "version.json"
_INDEX_REPORT, _CHANGES = "index.json", "changes.json"
_LOG = "run.log"


class Run:
    """The artefacts of one run.

    A stage gets the run as it may read it: `settings` hold what the stage declared, and only the
    folders of stages that it needs can be opened.

    Args:
        config: The run.
        tables: For the source `tables`: data frames by name.

    Attributes:
        settings: The configuration, whole or as far as a stage may read it.
        record: All of it as plain JSON, to be written down.
        folder: Of the artefacts.
        model_folder: Of the exported versions.
        changes_folder: Of the catalogue's changes since the training.
        has_towers: Whether there is a retrieval stage, and what follows from it.
        tables: As given.
        fingerprint: Of the stage that this view of the run is for; empty for the whole run.
    """

    def __init__(self, config: Config, tables: Mapping[str, Any] | None = None) -> None:
        self.settings = config
        self.record = config.model_dump(mode="json")
        self.folder = Path(config.runs) / config.name
        self.model_folder = Path(config.export.folder) / config.name
        self.changes_folder = self.folder / "changes"
        self.has_towers = config.ranking.towers != "none"
        self.tables = tables
        self.fingerprint = ""
        self._reader = ""
        self._readable: frozenset[str] | None = None
        self._loaded: dict[str, PreparedData] = {}  # shared with the views of this run

    @classmethod
    def open(cls, folder: Path, stage: str) -> Run:
        """Opens another run by the configuration that a stage of it left.

        Raises:
            ConfigError: The stage is not done there.
        """
        config = load_config(folder / stage / CONFIG_FILE)
        # The folder may have been moved since.
        return cls(config.model_copy(update={"runs": str(folder.parent), "name": folder.name}))

    def limited(
        self, stage: str, keys: Iterable[str], stages: Iterable[str], fingerprint: str = ""
    ) -> Run:
        """Returns the run as a stage may read it: settings of `keys`, folders of `stages`."""
        view = copy.copy(self)
        view.settings = limit_config(self.settings, keys, f"stage {stage}")
        view.fingerprint = fingerprint
        view._reader, view._readable = stage, frozenset(stages)
        return view

    def path(self, stage: str, *names: str) -> Path:
        """Returns where a stage's folder, or something in it, lies.

        Raises:
            ArtefactError: The stage that asks does not need that one.
        """
        if self._readable is not None and stage.split("/")[0] not in self._readable:
            raise ArtefactError(
                f"stage {self._reader}: reads the folder of the stage {stage}, which it does not "
                "declare; add it to `needs`."
            )
        return self.folder.joinpath(stage, *names)

    @property
    def log(self) -> Path:
        """What the run said, over all its restarts."""
        return self.folder / _LOG

    @property
    def search_towers(self) -> str:
        """Folder of the towers that find candidates."""
        is_shared = self.settings.ranking.towers == "shared"
        return RANKING_TOWERS if is_shared else RETRIEVAL_TOWERS

    @property
    def ranking_towers(self) -> str:
        """Folder of the towers that the ranking model reads."""
        return RANKING_TOWERS if self.settings.ranking.trains_towers else RETRIEVAL_TOWERS

    @property
    def data(self) -> PreparedData:
        """The prepared data set."""
        folder = self.path("prepare")
        if "data" not in self._loaded:
            self._loaded["data"] = PreparedData.load(folder)
        return self._loaded["data"]

    def forget_data(self) -> None:
        """Has the prepared data read anew when they are wanted again."""
        self._loaded.clear()

    def vocabulary(self) -> list[str]:
        """Returns the WordPiece tokens, each at its id."""
        text = self.path("vocabulary", _VOCABULARY).read_text(encoding="utf-8")
        return text.removesuffix("\n").split("\n")

    def item_tokens(self) -> np.ndarray:
        """Returns int32 [num_items + 1, length], row 0 the empty text."""
        return np.load(self.path("tokens", _ITEM_TOKENS))

    def text_tokens(self) -> np.ndarray:
        """Returns int32 [num_texts, length] of the request texts, row 0 the empty one."""
        return np.load(self.path("tokens", _TEXT_TOKENS))

    def load_backbone(self, backbone: Any) -> None:
        """Gives a BERT the pre-trained weights."""
        _load(self.path("pretraining", _BACKBONE), backbone.variables)

    def load_towers(self, model: RetrievalModel, towers: str) -> None:
        """Gives a retrieval model the weights of the towers in a folder."""
        _load(self.path(towers, _MODEL), model.variables)

    def load_ranking(self, model: RankingModel) -> None:
        """Gives a ranking model the trained weights."""
        _load(self.path("ranking", _MODEL), model.variables)

    def embeddings(self, towers: str | None = None) -> Embeddings | None:
        """Reads the embeddings of the towers that find candidates, or of those in a folder."""
        from tfrec.inference.embeddings import Embeddings

        if not self.has_towers:
            return None
        with np.load(self.path(towers or self.search_towers, _EMBEDDINGS)) as saved:
            return Embeddings(saved["items"], saved["requests"], float(saved["temperature"]))

    def health(self) -> list[Finding]:
        """Returns what the finished towers showed that sound ones do not."""
        return [Finding(**found) for found in read_json(self.path("retrieval", _HEALTH))]

    def histories(self) -> dict[str, list[dict[str, float]]]:
        """Returns what each training measured, one mapping a round."""
        stages = _TRAININGS if self.has_towers else _TRAININGS[-1:]
        return {stage: read_json(self.path(stage, _HISTORY)) for stage in stages}

    def kept_round(self, stage: str) -> dict[str, float]:
        """Returns what the round that a training stage kept measured."""
        return read_json(self.path(stage, _KEPT))

    def candidate_arrays(self) -> Arrays:
        """Reads what each source of candidates keeps."""
        from tfrec.candidates.build import load_arrays

        return load_arrays(self.path("candidates", _SOURCES))

    def order(self) -> ListOrder:
        """Reads what answers are sorted by."""
        from tfrec.candidates.order import ListOrder

        return ListOrder(**read_json(self.path("order", _ORDER)))

    def report(self) -> dict[str, Any]:
        """Returns the numbers of the evaluation."""
        return read_json(self.path("evaluation", _REPORT))

    @property
    def report_page(self) -> Path:
        """The report for people."""
        return self.path("evaluation", _PAGE)

    def sample(self) -> dict[str, Any]:
        """Returns the sample user's request and recommendations."""
        return read_json(self.path("export", _SAMPLE))

    def versions(self) -> dict[str, str]:
        """Returns the folders of the exported versions."""
        return read_json(self.path("export", _VERSIONS))

    def changes(self, model: str) -> Changes:
        """Returns what changed in the catalogue since the training.

        Changes of an earlier model do not count: its items have other embeddings.

        Args:
            model: Fingerprint of the model.
        """
        from tfrec.recommender.changes import Changes

        if (self.changes_folder / _CHANGES).is_file():
            changes = Changes.load(self.changes_folder)
            if changes.model == model:
                return changes
        dim = self.settings.retrieval.embedding_dim if self.has_towers else 0
        nothing = np.zeros((0, dim), np.float32)
        ranked = nothing if self.ranking_towers != self.search_towers else None
        return Changes(model, self.data.items.clear(), nothing, ranked)

    def index_folder(self, name: str = INDEX, changes: Changes | None = None) -> Path:
        """Returns the folder of an index: one that was built after the training, if there is."""
        rebuilt = self.changes_folder / name
        is_current = changes is not None and changes.number and rebuilt.is_dir()
        return rebuilt if is_current else self.path(name)

    def index(self, name: str = INDEX, changes: Changes | None = None) -> ItemIndex:
        """Reads an index."""
        from tfrec.index.build import load_index

        return load_index(self.index_folder(name, changes))

    def index_report(self, name: str = INDEX, changes: Changes | None = None) -> dict[str, Any]:
        """Returns what was measured of an index."""
        return read_json(self.index_folder(name, changes) / _INDEX_REPORT)


def read_fingerprint(folder: Path) -> str | None:
    """Returns what a stage's folder is marked with; None where the stage is not done."""
    path = folder / STAGE_FILE
    return read_json(path)["fingerprint"] if path.is_file() else None


def write_vocabulary(folder: Path, vocabulary: Sequence[str]) -> None:
    """Writes one token a line."""
    write_file(folder / _VOCABULARY, "\n".join(vocabulary) + "\n")


def write_tokens(folder: Path, items: np.ndarray, texts: np.ndarray) -> None:
    """Writes the tokens of items and of request texts, int32 [n, length] each."""
    write_array(folder / _ITEM_TOKENS, items)
    write_array(folder / _TEXT_TOKENS, texts)


def write_backbone(folder: Path, backbone: Any) -> None:
    """Writes the weights of a pre-trained BERT."""
    _save(folder / _BACKBONE, backbone.variables)


def write_model(folder: Path, model: RetrievalModel | RankingModel) -> None:
    """Writes the weights of trained towers, or of the ranking model."""
    _save(folder / _MODEL, model.variables)


def write_embeddings(folder: Path, embeddings: Embeddings) -> None:
    """Writes what finished towers say of the prepared data."""
    write_arrays(
        folder / _EMBEDDINGS, {name: np.asarray(v) for name, v in vars(embeddings).items()}
    )


def write_history(folder: Path, history: History) -> None:
    """Writes what each round of a training measured, and what the kept one did."""
    write_json(folder / _HISTORY, history.rounds)
    write_json(folder / _KEPT, history.rounds[history.best_round] if history.rounds else {})


def write_health(folder: Path, findings: Sequence[Finding]) -> None:
    """Writes what finished towers showed that sound ones do not."""
    write_json(folder / _HEALTH, [asdict(finding) for finding in findings])


def write_candidate_arrays(folder: Path, arrays: Arrays) -> None:
    """Writes what each source of candidates keeps."""
    from tfrec.candidates.build import save_arrays

    save_arrays(folder / _SOURCES, arrays)


def write_order(folder: Path, order: ListOrder) -> None:
    """Writes what answers are sorted by."""
    write_json(folder / _ORDER, asdict(order))


def write_export(folder: Path, sample: Mapping[str, Any], versions: Mapping[str, str]) -> None:
    """Writes a sample answer, and the folders of the versions that gave it."""
    write_json(folder / _SAMPLE, sample)
    write_json(folder / _VERSIONS, versions)


def _save(path: Path, variables: Sequence[keras.Variable]) -> None:
    from tfrec.training.checkpoint import save_variables

    save_variables(path, variables)


def _load(path: Path, variables: Sequence[keras.Variable]) -> None:
    from tfrec.training.checkpoint import load_variables

    load_variables(path, variables)
