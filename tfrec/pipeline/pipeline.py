"""The stages of a run, in order: from raw tables to a verified SavedModel.

Each stage reads the folders of earlier ones and writes its own, so any of them can run in another
process or on another machine. TensorFlow is loaded only by a stage that really runs.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from pydantic import BaseModel

import tfrec
from tfrec.config import Config, load_config
from tfrec.data.dataset import PreparedData
from tfrec.data.parsing.privacy import pseudonym_stamp
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading.sources import read_oracle, read_source, source_files, table_stamps
from tfrec.errors import ArtefactError, ConfigError
from tfrec.files import file_stamps
from tfrec.pipeline.stage import CHECKPOINTS, Stage, StageRunner
from tfrec.schema import Columns, ExportFiles

if TYPE_CHECKING:
    from tfrec.candidates.order import ListOrder
    from tfrec.candidates.sources import CandidateSources
    from tfrec.encoders.bert import TextEncoder
    from tfrec.inference.embedder import Embedder
    from tfrec.inference.embeddings import Embeddings
    from tfrec.inference.pair_scorer import PairScorer
    from tfrec.inputs.batches import InputTables
    from tfrec.inputs.ranked_rows import RankedRows
    from tfrec.models.ranking import RankingModel
    from tfrec.models.retrieval import RetrievalModel
    from tfrec.recommender import Recommender
    from tfrec.recommender.changes import Changes
    from tfrec.training.candidate_lists import CandidateLists
    from tfrec.training.loop import History
    from tfrec.training.strategy import Replicas

RANKING_TOWERS = "ranking/towers"
"""The folder, within that of a run, of towers that were trained further with the ranking model."""


class Pipeline:
    """All stages of one configuration.

    Args:
        config: The run.
        announce: Called with a line for people as stages start and end.
        tables: For the source `tables`: data frames (pandas, polars or pyarrow) by name: events
            and, as declared, items, users and relations.
        donors: Folders of other runs, from which stages that would be the same are taken over.
    """

    def __init__(
        self,
        config: Config,
        announce: Callable[[str], None] = print,
        tables: Mapping[str, Any] | None = None,
        donors: Sequence[Path] = (),
    ) -> None:
        self.config = config
        self._raw_tables = tables
        self.folder = Path(config.runs) / config.name
        self.model_folder = Path(config.export.folder) / config.name
        self._announce = announce
        self._replicas: Replicas | None = None
        self._runner = StageRunner(self.folder, config.to_yaml(), announce, donors)

    def run(self, until: str = "export") -> None:
        """Runs every stage up to `until` that is missing or changed.

        Raises:
            ConfigError: There is no such stage.
        """
        stages = self._stages()
        names = [stage.name for stage in stages]
        if until not in names:
            raise ConfigError(f"stage: wanted one of {', '.join(names)}, got {until!r}.")
        stages = stages[: names.index(until) + 1]
        if self.config.retrieval.strategy == "multi_worker" and "retrieval" in names:
            self._join_workers(stages)
        if self.works_along:
            self._runner.work_along(stages, "retrieval")
        else:
            self._runner.run(stages)

    def _join_workers(self, stages: list[Stage]) -> None:
        """Meets the other workers, if there is work for them; before TensorFlow computes."""
        from tfrec.training.strategy import make_replicas

        if not self._runner.is_published(stages, "retrieval"):
            self._announce("retrieval: waiting for all workers of TF_CONFIG")
            self._replicas = make_replicas("multi_worker")

    @property
    def works_along(self) -> bool:
        """Whether this process is a further worker, which only shares in training the towers."""
        if self.config.retrieval.strategy != "multi_worker":
            return False
        return not is_chief_of(os.environ.get("TF_CONFIG", ""))

    def report(self) -> dict[str, Any]:
        """Returns the numbers of the evaluation stage."""
        return _read_json(self.folder / "evaluation" / "report.json")

    def kept_round(self, stage: str) -> dict[str, float]:
        """Returns what the round that a training stage kept measured."""
        return _read_json(self.folder / stage / "kept.json")

    def sample(self) -> dict[str, Any]:
        """Returns the sample user's request and recommendations of the export stage."""
        return _read_json(self.folder / "export" / "sample.json")

    def exported_folder(self) -> str:
        """Returns the folder of the exported version."""
        return str(_read_json(self.folder / "export" / "version.json")["folder"])

    def exports(self) -> dict[str, str]:
        """Returns all exported versions' folders, each with which servers can load it."""
        versions = _read_json(self.folder / "export" / "version.json").values()
        manifests = {v: _read_json(Path(v) / ExportFiles.MANIFEST) for v in versions}
        return {version: manifest["servers"]["note"] for version, manifest in manifests.items()}

    @cached_property
    def data(self) -> PreparedData:
        """The prepared data set."""
        return PreparedData.load(self.folder / "prepare")

    def recommender(self, index: str = "index") -> Recommender:
        """Builds the trained two-stage recommender in memory, as it is exported.

        Args:
            index: Folder of its index, within that of the run.
        """
        from tfrec.index.build import load_index
        from tfrec.index.delta import DeltaIndex
        from tfrec.recommender import Catalogue, Inputs, Recommender
        from tfrec.recommender.catalogue import changed_catalogue, item_filters

        data, config, changes = self.data, self.config, self.changes()
        embeddings = self._embeddings()
        has_towers = embeddings is not None
        retrieval = own_towers = ranked = None
        if has_towers:
            retrieval = self._trained_retrieval(self._retrieving)
            if self._ranking != self._retrieving:
                own_towers = self._trained_retrieval(self._ranking, retrieval.encoder)
                ranked = self._embeddings(self._ranking)
            if config.export.encoder == "int8":
                retrieval.encoder.to_int8()
        searched = None
        if has_towers:
            searched = load_index(self._index_folder(index))
            if len(added := self._embeddings_of_all(changes)[1 + searched.num_items :]):
                searched = DeltaIndex(searched, added)
        catalogue = Catalogue(
            item_ids=data.items[Columns.ITEM_ID].to_list(),
            item_id_rows=data.item_id_rows,
            item_inputs=data.item_inputs,
            user_ids=data.users[Columns.USER_ID].to_list(),
            user_id_rows=data.user_id_rows,
            item_embeddings=None if embeddings is None else embeddings.items,
            ranked_embeddings=None if ranked is None else ranked.items,
        )
        items = data.items
        if changes.number:
            items = pl.concat([data.items, changes.items], how="diagonal_relaxed")
            catalogue = changed_catalogue(catalogue, changes, items, data.item_features)
        catalogue = replace(catalogue, **item_filters(items, config.filters, changes.gone))
        return Recommender(
            retrieval,
            self._trained_ranking(),
            searched,
            catalogue,
            Inputs(
                user_text=config.data.users.text,
                request_features=[*data.user_features, *data.context_features],
                item_text=config.data.items.text,
                item_features=data.item_features,
                event_kinds=data.event_kinds,
            ),
            vocabulary=self._vocabulary() if has_towers else [],
            max_item_tokens=config.text.max_item_tokens,
            max_query_tokens=config.text.max_query_tokens,
            ranking_towers=own_towers,
            sources=self._sources() if has_towers else None,
            order=self._order() if has_towers else None,
            k=config.export.k,
            caps=config.filters.caps,
            precision=config.index.precision,
        )

    @property
    def changes_folder(self) -> Path:
        """Where the catalogue's changes since the training lie."""
        return self.folder / "changes"

    def changes(self) -> Changes:
        """Returns what changed in the catalogue since the training.

        Changes of an earlier model do not count: its items have other embeddings.
        """
        from tfrec.recommender.changes import Changes

        model = self._model_stamp()
        if (self.changes_folder / "changes.json").is_file():
            changes = Changes.load(self.changes_folder)
            if changes.model == model:
                return changes
        dim = self.config.retrieval.embedding_dim
        nothing = np.zeros((0, dim), np.float32)
        ranked = nothing if self._ranking != self._retrieving else None
        return Changes(model, self.data.items.clear(), nothing, ranked)

    def check_is_finished(self) -> None:
        """Checks that there is a trained and exported model.

        Raises:
            ArtefactError: There is none, or the configuration says another one by now.
        """
        names = [stage.name for stage in self._stages()]
        missing = [n for n in names if not self._runner.is_published(self._stages(), n)]
        if missing:
            raise ArtefactError(
                f"{self.folder}: the stage {missing[0]} is not done for this configuration; "
                "run `tfrec train` first."
            )

    def embed_items(self, items: pl.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
        """Embeds items that training may never have seen.

        Args:
            items: Typed as the prepared items.

        Returns:
            float32 [n, embedding_dim] from the item tower, and the same from the ranking model's
            own towers, None where it has none.
        """
        from tfrec.export.replay import encode_in_blocks, raw_items

        self._start_tensorflow()
        recommender = self.recommender()
        raw = raw_items(items, self.data.item_features, self.config)
        encode = recommender.encode_item
        found = encode_in_blocks(encode, raw)
        if self._ranking == self._retrieving:
            return found, None
        return found, encode_in_blocks(partial(encode, for_ranking=True), raw)

    def index_report(self) -> dict[str, Any]:
        """Returns what was measured of the index that is searched."""
        return _read_json(self._index_folder("index") / "index.json")

    def build_indexes(self, folder: Path, changes: Changes) -> None:
        """Builds the index, and its portable twin, over all items."""
        self._start_tensorflow()
        folder.mkdir(parents=True)
        self._write_indexes(folder, self._embeddings_of_all(changes)[1:])

    def keep_rebuilt_index(self, folder: Path) -> None:
        """Carries an index that was built after the training over to another folder."""
        rebuilt = self.changes_folder / "index"
        if rebuilt.is_dir() and self.changes().number:
            shutil.copytree(rebuilt, folder, copy_function=os.link)

    def export_changed(self) -> list[str]:
        """Exports the model with its changed catalogue; returns the new versions' folders."""
        self._start_tensorflow()
        stamp = f"{self._model_stamp()}-{self.changes().number}"
        rebuilt = self.changes_folder / "index"
        if rebuilt.is_dir():
            stamp += f"-{_read_json(rebuilt / 'index.json')['num_items']}"
        return list(self._export_all(stamp).values())

    def _index_folder(self, name: str) -> Path:
        """Returns the folder of an index: one that was built after the training, if there is."""
        rebuilt = self.changes_folder / name
        is_current = rebuilt.is_dir() and self.changes().number
        return rebuilt if is_current else self.folder / name

    def _embeddings_of_all(self, changes: Changes) -> np.ndarray:
        """Returns float32 [n + 1, embedding_dim], trained items and added ones; row 0 zeros."""
        embeddings = self._embeddings()
        assert embeddings is not None  # there are towers
        return np.concatenate([embeddings.items, changes.embeddings])

    def _model_stamp(self) -> str:
        """Tells this model from one that was trained anew."""
        return self._runner.fingerprints(self._stages())["export"]

    @property
    def has_towers(self) -> bool:
        """Whether the configuration has a retrieval stage."""
        return self.config.ranking.towers != "none"

    def _stages(self) -> list[Stage]:
        """Lists all stages in order, each with what determines it."""
        config = self.config

        def stage(
            name: str, needs: str, run: Callable[[Path], None], *settings: Any, **more: Any
        ) -> Stage:
            determined_by = {
                "tfrec": tfrec.__version__,
                "seed": config.seed,
                "settings": [
                    part.model_dump(mode="json") if isinstance(part, BaseModel) else part
                    for part in settings
                ],
            }
            return Stage(name, tuple(needs.split()), determined_by, run, **more)

        encoder = config.encoder
        stamps = file_stamps(source_files(config.data)) + table_stamps(self._raw_tables)
        # A pseudonym of nobody stands for the key: another key makes other data.
        key_stamp = pseudonym_stamp(config.data.privacy)
        prepare = stage("prepare", "", self._prepare, config.data, stamps, key_stamp)
        towers = [
            stage("vocabulary", "prepare", self._make_vocabulary, config.text, encoder.source),
            stage("tokens", "vocabulary", self._tokenize, config.text),
            stage(
                "pretraining",
                "tokens",
                self._pretrain,
                encoder.source,
                encoder.dropout,
                encoder.pretraining,
            ),
            stage(
                "retrieval",
                "pretraining",
                self._train_retrieval,
                config.retrieval,
                encoder.adaptation,
                encoder.trained_layers,
                encoder.lora_rank,
                encoder.pooling,
                config.evaluation.k,
                config.evaluation.remove_seen,
            ),
        ]
        finds = "ranking" if config.ranking.towers == "shared" else "retrieval"
        index = stage("index", finds, self._build_index, config.index, config.export.portable)
        candidates = stage("candidates", "tokens", self._build_candidates, config.candidates)
        last = towers[-1].name if self.has_towers else prepare.name
        ranking = stage("ranking", last, self._train_ranking, config.ranking, self._teacher_stamp())
        order = stage(
            "order",
            f"{ranking.name} {candidates.name}",
            self._learn_order,
            config.ranking.retrieval_weight,
            config.index.candidates,
            config.evaluation.remove_seen,
        )
        evaluation = stage(
            "evaluation",
            order.name if self.has_towers else ranking.name,
            self._evaluate,
            config.evaluation,
            config.name,
        )
        export = stage(
            "export",
            f"{evaluation.name} {index.name}" if self.has_towers else evaluation.name,
            self._export,
            config.export,
            config.filters,
            config.name,
            is_complete=self._is_exported,
        )
        if self.has_towers:
            return [prepare, *towers, candidates, ranking, order, evaluation, index, export]
        return [prepare, ranking, evaluation, export]

    def _prepare(self, folder: Path) -> None:
        raw = read_source(self.config.data, self.config.seed, self._raw_tables)
        prepare(raw, self.config, folder)
        self.__dict__.pop("data", None)

    def _make_vocabulary(self, folder: Path) -> None:
        from tfrec.encoders.bert import is_pretrained, load_vocabulary
        from tfrec.encoders.tokenizer import train_vocabulary

        source = self.config.encoder.source
        if is_pretrained(source):
            vocabulary = load_vocabulary(source)
        else:
            texts = [*self.data.items[Columns.TEXT].to_list(), *self.data.train_texts()]
            vocabulary = train_vocabulary(texts, self.config.text.vocabulary_size)
        text = "\n".join(vocabulary) + "\n"
        (folder / "vocabulary.txt").write_text(text, encoding="utf-8")

    def _tokenize(self, folder: Path) -> None:
        from tfrec.encoders.tokenizer import tokenize_texts

        limits = self.config.text
        vocabulary = self._vocabulary()
        items = ["", *self.data.items[Columns.TEXT].to_list()]
        tokens = tokenize_texts(vocabulary, items, limits.max_item_tokens, "tokens of items")
        np.save(folder / "items.npy", tokens)
        tokens = tokenize_texts(
            vocabulary, self.data.texts, limits.max_query_tokens, "tokens of requests"
        )
        np.save(folder / "texts.npy", tokens)

    def _pretrain(self, folder: Path) -> None:
        from tfrec.encoders.tokenizer import special_tokens
        from tfrec.training.checkpoint import save_variables
        from tfrec.training.pretraining import pretrain

        self._start_tensorflow()
        backbone = self._new_backbone()
        mask_token_id, num_special = special_tokens(self._vocabulary())
        history = pretrain(
            backbone,
            np.load(self.folder / "tokens" / "items.npy"),
            mask_token_id=mask_token_id,
            num_special=num_special,
            config=self.config.encoder.pretraining,
            seed=self.config.seed,
            checkpoint_folder=folder / CHECKPOINTS,
        )
        save_variables(folder / "backbone.npz", backbone.variables)
        _write_history(folder, history)

    def _train_retrieval(self, folder: Path) -> None:
        from tfrec.encoders.adaptation import adapt
        from tfrec.inference.embedder import Embedder
        from tfrec.training.checkpoint import load_variables
        from tfrec.training.retrieval import train_retrieval
        from tfrec.training.strategy import make_replicas
        from tfrec.training.tensorboard import write_projector

        replicas = self._replicas or make_replicas(self.config.retrieval.strategy)
        self._start_tensorflow()
        data, settings = self.data, self.config.encoder
        model = self._new_retrieval()
        backbone_weights = self.folder / "pretraining" / "backbone.npz"
        load_variables(backbone_weights, model.encoder.backbone.variables)
        adapt(model.encoder, settings.adaptation, settings.trained_layers, settings.lora_rank)
        tables = self._tables()
        history = train_retrieval(
            model, data, tables, self.config, folder / CHECKPOINTS, replicas=replicas
        )
        if not replicas.is_chief:
            return
        embedder = Embedder(model, tables, live=False)
        embedder.renew_cache()
        items = self._save_towers(folder, embedder)
        write_projector(
            folder / "tensorboard",
            items[1:],
            {name: data.items[name].to_list() for name in (Columns.TITLE, Columns.ITEM_ID)},
            data.item_counts()[1:],
        )
        _write_history(folder, history)

    def _train_ranking(self, folder: Path) -> None:
        from tfrec.inference.embedder import Embedder
        from tfrec.training.checkpoint import save_variables
        from tfrec.training.ranking import train_ranking

        self._start_tensorflow()
        model, tables, towers = self._new_ranking(), self._tables(), None
        if self.config.ranking.trains_towers:
            towers = Embedder(self._trained_retrieval("retrieval"), tables, live=False)
            towers.renew_cache()
        history = train_ranking(
            model,
            self.data,
            tables,
            self._embeddings("retrieval") if self.has_towers else None,
            self.config,
            folder / CHECKPOINTS,
            towers,
            self._teach(),
        )
        save_variables(folder / "model.npz", model.variables)
        if towers is not None:
            (folder / "towers").mkdir(exist_ok=True)
            self._save_towers(folder / "towers", towers)
        _write_history(folder, history)

    @cached_property
    def _teacher(self) -> Pipeline | None:
        """The run of `ranking.teacher`.

        Raises:
            ConfigError: It has no trained ranking model.
        """
        settings = self.config.ranking.teacher
        if settings is None:
            return None
        folder = Path(settings.run)
        try:
            config = load_config(folder / "ranking" / "config.yaml")
        except ConfigError as error:
            raise ConfigError(
                f"ranking.teacher.run: {folder}: wanted a run with a trained ranking model "
                "(`tfrec train` makes one), found none."
            ) from error
        # The folder may have been moved since.
        teacher = config.model_copy(update={"runs": str(folder.parent), "name": folder.name})
        return Pipeline(teacher, self._announce, self._raw_tables)

    def _teacher_stamp(self) -> str | None:
        """Tells one training of the teacher from another."""
        teacher = self._teacher
        if teacher is None:
            return None
        return str(_read_json(teacher.folder / "ranking" / "stage.json")["fingerprint"])

    def _teach(self) -> Callable[[RankedRows], np.ndarray] | None:
        """Returns what tells the teacher's log odds of a click for rows of the data.

        Raises:
            ConfigError: The teacher learned from other data.
        """
        teacher = self._teacher
        if teacher is None:
            return None
        for name in ("examples", "contexts", "items"):
            if not getattr(teacher.data, name).equals(getattr(self.data, name)):
                raise ConfigError(
                    f"ranking.teacher.run: {teacher.folder}: wanted a run on the same data, seed "
                    f"and splits, got one with other {name}."
                )
        return teacher._pair_scorer().logits

    def _build_candidates(self, folder: Path) -> None:
        from tfrec.candidates.tables import build_tables, save_tables
        from tfrec.encoders.tokenizer import special_tokens

        vocabulary = self._vocabulary()
        tables = build_tables(
            self.data,
            np.load(self.folder / "tokens" / "items.npy"),
            num_tokens=len(vocabulary),
            first_word=special_tokens(vocabulary)[1],
            config=self.config.candidates,
        )
        save_tables(folder / "tables.npz", tables)

    def _learn_order(self, folder: Path) -> None:
        from tfrec.training.candidate_lists import learn_order

        self._start_tensorflow()
        lists = self._candidate_lists()
        _write_json(folder / "order.json", asdict(learn_order(lists, self.data, self.config)))

    def _evaluate(self, folder: Path) -> None:
        from tfrec.evaluation.answers import write_predictions, write_ranks
        from tfrec.evaluation.ranking import evaluate_ranking
        from tfrec.evaluation.report import write_report
        from tfrec.evaluation.retrieval import TwoStages, evaluate_retrieval

        self._start_tensorflow()
        data, config, embeddings = self.data, self.config, self._embeddings()
        retrieval = None
        if embeddings is not None:
            oracle = read_oracle(config.data, config.seed)
            stages = TwoStages(self._candidate_lists(), self._order())
            retrieval, ranked = evaluate_retrieval(data, embeddings, oracle, config, stages)
            write_ranks(folder, data, ranked)
        ranking, predictions = evaluate_ranking(data, self._pair_scorer(), embeddings, config)
        write_predictions(folder, data, predictions)
        write_report(
            folder,
            name=config.name,
            retrieval=retrieval,
            ranking=ranking,
            predictions=predictions,
            histories={
                stage: _read_json(self.folder / stage / "history.json")
                for stage in ("pretraining", "retrieval", "ranking")
                if self.has_towers or stage == "ranking"
            },
            data_report=data.report,
        )

    def _build_index(self, folder: Path) -> None:
        self._start_tensorflow()
        embeddings = self._embeddings()
        assert embeddings is not None  # the stage is part of runs with towers only
        self._write_indexes(folder, embeddings.items[1:])

    def _write_indexes(self, folder: Path, items: np.ndarray) -> None:
        """Builds the index over float32 [n, embedding_dim], and its portable twin."""
        from tfrec.index.build import build_index, save_index

        embeddings, settings = self._embeddings(), self.config.index
        assert embeddings is not None  # there are towers
        contexts = self.data.examples["context"].to_numpy()[self.data.target_rows("test")]
        kinds = {folder: settings.kind}
        if self._has_portable_twin:
            kinds[folder / "portable"] = "portable"
        for place, kind in kinds.items():
            place.mkdir(exist_ok=True)
            index, report = build_index(
                kind,
                items,
                embeddings.requests[contexts[:1000]],
                k=settings.candidates,
                min_recall=settings.min_recall,
                precision=settings.precision,
            )
            save_index(place, index, report)

    @property
    def _has_portable_twin(self) -> bool:
        """Whether the model is exported a second time, for servers without ScaNN."""
        config = self.config
        return self.has_towers and config.index.kind == "scann" and config.export.portable

    def _export(self, folder: Path) -> None:
        from tfrec.export.replay import sample_request

        self._start_tensorflow()
        recommender = self.recommender()
        _write_json(folder / "sample.json", sample_request(self.data, self.config, recommender))
        versions = self._export_all(self._model_stamp(), recommender)
        _write_json(folder / "version.json", versions)

    def _export_all(self, stamp: str, recommender: Recommender | None = None) -> dict[str, str]:
        """Exports the model, and its portable twin; returns their folders.

        One is verified, in a process of its own, while the other is written.
        """
        with ExitStack() as staged:
            model = recommender or self.recommender()
            publish = {"folder": self._stage(staged, model, "index", self.model_folder, stamp)}
            if self._has_portable_twin:
                twin = self.model_folder.with_name(f"{self.model_folder.name}-portable")
                model = self.recommender("index/portable")
                publish["portable"] = self._stage(staged, model, "index/portable", twin, stamp)
            return {name: str(published()) for name, published in publish.items()}

    def _stage(
        self,
        staged: ExitStack,
        recommender: Recommender,
        index: str,
        model_folder: Path,
        stamp: str,
    ) -> Callable[[], Path]:
        """Writes a version beside the others; see `staged_export`."""
        from tfrec.export.replay import replay_requests
        from tfrec.export.saved_model import staged_export
        from tfrec.export.signatures import build_signatures

        report, changes = self.report(), self.changes()
        titles = pl.concat(
            frame.select(Columns.ITEM_ID, Columns.TITLE)
            for frame in (self.data.items, changes.items)
        ).unique(Columns.ITEM_ID, keep="last", maintain_order=True)
        manifest = {
            "name": model_folder.name,
            "fingerprint": stamp,
            "metrics": {p: report[p] for p in ("retrieval", "ranking") if p in report},
            "index": _read_json(self._index_folder(index) / "index.json")
            if self.has_towers
            else None,
            "catalogue": {
                "added": changes.items.height,
                "gone": len(changes.gone),
                "changes": changes.number,
            },
            "config": self.config.model_dump(mode="json"),
        }
        requests = replay_requests(self.data, self.config, recommender)
        signatures = build_signatures(recommender)
        return staged.enter_context(
            staged_export(recommender, signatures, model_folder, requests, titles, manifest)
        )

    def _is_exported(self, folder: Path) -> bool:
        versions = _read_json(folder / "version.json").values()
        return all((Path(version) / ExportFiles.MANIFEST).is_file() for version in versions)

    def _start_tensorflow(self) -> None:
        from tfrec.environment import start_tensorflow

        start_tensorflow(self.config.seed)

    def _vocabulary(self) -> list[str]:
        text = (self.folder / "vocabulary" / "vocabulary.txt").read_text(encoding="utf-8")
        return text.removesuffix("\n").split("\n")

    def _tables(self) -> InputTables:
        from tfrec.inputs.batches import InputTables

        if not self.has_towers:  # no text is read
            no_tokens = np.zeros((self.data.num_items + 1, 0), np.int32)
            return InputTables(self.data, no_tokens, no_tokens[:1])
        tokens = self.folder / "tokens"
        history = self.config.retrieval.user.history
        return InputTables(
            self.data,
            np.load(tokens / "items.npy"),
            np.load(tokens / "texts.npy"),
            event_kinds=history.event_kinds,
            time_gaps=history.time_gaps,
        )

    @property
    def _retrieving(self) -> str:
        """The folder, within that of the run, of the towers that find candidates."""
        return RANKING_TOWERS if self.config.ranking.towers == "shared" else "retrieval"

    @property
    def _ranking(self) -> str:
        """The folder, within that of the run, of the towers that the ranking model reads."""
        return RANKING_TOWERS if self.config.ranking.trains_towers else "retrieval"

    def _save_towers(self, folder: Path, embedder: Embedder) -> np.ndarray:
        """Writes towers and all embeddings; returns those of items."""
        from tfrec.training.checkpoint import save_arrays, save_variables

        items = embedder.catalogue()
        requests = embedder.requests(np.arange(self.data.contexts.height), items)
        save_variables(folder / "model.npz", embedder.model.variables)
        temperature = np.array(embedder.model.temperature)
        save_arrays(
            folder / "embeddings.npz",
            {"items": items, "requests": requests, "temperature": temperature},
        )
        return items

    def _embeddings(self, towers: str | None = None) -> Embeddings | None:
        """Reads the embeddings of the towers that find candidates, or of those in a folder."""
        from tfrec.inference.embeddings import Embeddings

        if not self.has_towers:
            return None
        with np.load(self.folder / (towers or self._retrieving) / "embeddings.npz") as saved:
            return Embeddings(saved["items"], saved["requests"], float(saved["temperature"]))

    def _new_backbone(self) -> Any:
        from tfrec.models.build import new_backbone

        return new_backbone(self.config, len(self._vocabulary()))

    def _new_retrieval(self, encoder: TextEncoder | None = None) -> RetrievalModel:
        from tfrec.encoders.bert import TextEncoder
        from tfrec.models.build import new_retrieval

        encoder = encoder or TextEncoder(self._new_backbone(), self.config.encoder.pooling)
        return new_retrieval(self.config, self.data, encoder)

    def _trained_retrieval(self, towers: str, encoder: TextEncoder | None = None) -> RetrievalModel:
        """Reads the towers of a folder; with `encoder` for their own, which equals it."""
        from tfrec.encoders.adaptation import adapt
        from tfrec.training.checkpoint import load_variables

        model, settings = self._new_retrieval(encoder), self.config.encoder
        if encoder is None:
            adapt(model.encoder, settings.adaptation, settings.trained_layers, settings.lora_rank)
        load_variables(self.folder / towers / "model.npz", model.variables)
        return model

    def _pair_scorer(self) -> PairScorer:
        from tfrec.inference.pair_scorer import PairScorer
        from tfrec.inputs.item_statistics import live_statistics

        return PairScorer(
            self._trained_ranking(),
            self._tables(),
            self._embeddings(self._ranking),
            live_statistics(self.data, self.config),
        )

    def _sources(self) -> CandidateSources:
        from tfrec.candidates.sources import CandidateSources
        from tfrec.candidates.tables import load_tables

        return CandidateSources(
            load_tables(self.folder / "candidates" / "tables.npz"),
            self.config.candidates,
            min(self.config.index.candidates, self.data.num_items),
        )

    def _order(self) -> ListOrder:
        from tfrec.candidates.order import ListOrder

        return ListOrder(**_read_json(self.folder / "order" / "order.json"))

    def _candidate_lists(self) -> CandidateLists:
        from tfrec.encoders.tokenizer import build_tokenizer, pack_tokens
        from tfrec.training.candidate_lists import CandidateLists

        embeddings, tokenizer = self._embeddings(), build_tokenizer(self._vocabulary())
        assert embeddings is not None  # the stages are part of runs with towers only
        return CandidateLists(
            self.data,
            embeddings,
            self._sources(),
            lambda texts: pack_tokens(tokenizer, texts, self.config.text.max_query_tokens),
            self._pair_scorer(),
            remove_seen=self.config.evaluation.remove_seen,
        )

    def _new_ranking(self) -> RankingModel:
        from tfrec.models.build import new_ranking

        return new_ranking(self.config, self.data)

    def _trained_ranking(self) -> RankingModel:
        from tfrec.training.checkpoint import load_variables

        model = self._new_ranking()
        load_variables(self.folder / "ranking" / "model.npz", model.variables)
        return model


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


def _write_history(folder: Path, history: History) -> None:
    _write_json(folder / "history.json", history.rounds)
    kept = history.rounds[history.best_round] if history.rounds else {}
    _write_json(folder / "kept.json", kept)


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
