"""Stages: skipped when unchanged, published whole, resumed when killed.

A stage's folder is named after it and holds ``stage.json`` with a fingerprint of everything that
determines it: the settings that it declares, the fingerprints of the stages before it, the input
files, the code of parts that somebody else brought, and the package version. The stage works in a
hidden folder beside, which becomes the artefact by a rename. A killed stage leaves the hidden
folder; the next run with the same fingerprint finds its checkpoints there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tfrec
from tfrec.config.view import RUNNING, pick_settings
from tfrec.errors import ArtefactError, ConfigError, did_you_mean
from tfrec.files import lock_folder, swap_folder, write_file, write_folder, write_json
from tfrec.pipeline.run import CONFIG_FILE, STAGE_FILE, Run, read_fingerprint
from tfrec.registry import foreign_stamps

CHECKPOINTS = "checkpoints"
"""Subfolder of the folder that a stage writes to; it survives a kill and is removed at the end."""

_POLL_SECONDS = 0.5
_FINGERPRINT_FILE = "fingerprint"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Stage(ABC):
    """One step of a run, which writes a folder that later ones read.

    A stage of your own is made with the ``options`` of its entry in the configuration:

        class LongTexts(Stage):
            name = "long_texts"
            needs = ("tokens",)
            determined_by = ("text.max_item_tokens",)
            writes = ("long_texts.json",)

            def __init__(self, share: float = 0.9) -> None:
                self.share = share

            def write(self, run: Run, folder: Path) -> None:
                used = (run.item_tokens() != 0).sum(axis=1)
                limit = run.settings.text.max_item_tokens
                write_json(folder / "long_texts.json", int((used >= self.share * limit).sum()))

    Its folder is ``<runs>/<name>/long_texts``; it is skipped, resumed and published as ours are.

    Attributes:
        name: Names the folder: small letters, digits and ``_``.
        needs: Stages whose folders it reads.
        determined_by: Keys of the configuration that it reads: sections and values. It may also
            read those of the stages that it needs. Those of the section `run` determine nothing,
            and every stage may read them.
        writes: Files and folders that it always leaves.
        origin: What else tells it from another stage of its name; the pipeline puts kind and
            options of a stage of your own there.
    """

    name: str = ""
    needs: Sequence[str] = ()
    determined_by: Sequence[str] = ()
    writes: Sequence[str] = ()
    origin: Any = None

    @abstractmethod
    def write(self, run: Run, folder: Path) -> None:
        """Writes the artefact.

        Args:
            run: The run, as far as this stage may read it.
            folder: Existing folder, in which an earlier attempt that was killed may have left
                files; so has its subfolder `CHECKPOINTS`.
        """

    def outside(self, run: Run) -> Any:
        """Returns what determines the artefact besides, as JSON: stamps of files, for example."""
        return None

    def is_complete(self, run: Run) -> bool:
        """Tells, where the folder alone does not, whether the artefact is still there."""
        return True

    def use(self, run: Run) -> None:  # noqa: B027  most stages have nothing to do
        """Is called each time that the stage is done, whether it had to run or not."""


class StageRunner:
    """Runs stages in order below the folder of a run.

    Args:
        run: The run.
        stages: In order.
        announce: Called with a line for people.
        donors: Folders of other runs. A stage that one of them holds with the same fingerprint is
            taken over from there.

    Raises:
        ConfigError: A stage is not well declared.
    """

    def __init__(
        self,
        run: Run,
        stages: Sequence[Stage],
        announce: Callable[[str], None],
        donors: Sequence[Path] = (),
    ) -> None:
        check_stages(stages)
        self._run = run
        self._stages = {stage.name: stage for stage in stages}
        self._announce = announce
        self._donors = donors
        self._keys: dict[str, set[str]] = {}
        self._readable: dict[str, set[str]] = {}
        for name, stage in self._stages.items():
            self._keys[name] = set(stage.determined_by).union(
                *(self._keys[needed] for needed in stage.needs)
            )
            self._readable[name] = {name}.union(*(self._readable[needed] for needed in stage.needs))
            try:
                pick_settings(run.settings, stage.determined_by)
            except ConfigError as error:
                raise ConfigError(f"stage {name}: determined_by: {error}") from None

    def run(self, until: str) -> None:
        """Runs what is missing or changed, up to a stage.

        Raises:
            ArtefactError: Another process works on the same folder, or a stage did not write what
                it declares.
        """
        names = list(self._stages)
        names = names[: names.index(until) + 1]
        self._run.folder.mkdir(parents=True, exist_ok=True)
        with lock_folder(self._run.folder):
            fingerprints: dict[str, str] = {}
            for number, name in enumerate(names, start=1):
                fingerprints[name] = self._fingerprint(name, fingerprints)
                self._run_one(name, fingerprints[name], f"[{number}/{len(names)}] {name}")

    def fingerprints(self) -> dict[str, str]:
        """Returns what each stage's folder would be marked with now."""
        found: dict[str, str] = {}
        for name in self._stages:
            found[name] = self._fingerprint(name, found)
        return found

    def is_published(self, name: str) -> bool:
        """Tells whether a stage's folder holds what it would write now."""
        return read_fingerprint(self._run.folder / name) == self.fingerprints()[name]

    def work_along(self, name: str) -> None:
        """Takes part in one stage of a run that another process, the chief, runs and writes.

        Waits for the stages before it, runs it in the chief's folder, which it must leave to the
        chief to write, and waits until the chief has published it.
        """
        if self.is_published(name):
            self._announce(f"{name}: unchanged")
            return
        wanted = self.fingerprints()[name]
        work = self._work(name)

        def is_running() -> bool:
            return _read_text(work / _FINGERPRINT_FILE) == wanted

        where = self._run.folder
        self._announce(f"{name}: waiting for the chief to come to this stage of {where}")
        while not is_running():
            time.sleep(_POLL_SECONDS)
        self._announce(f"{name}: running along")
        self._stages[name].write(self._view(name, wanted), work)
        while is_running():
            time.sleep(_POLL_SECONDS)
        self._announce(f"{name}: done, the chief goes on alone")

    def _run_one(self, name: str, fingerprint: str, title: str) -> None:
        stage, view, target = self._stages[name], self._view(name, fingerprint), self._target(name)
        donor = self._find_donor(name, fingerprint)
        if read_fingerprint(target) == fingerprint and stage.is_complete(view):
            self._announce(f"{title}: unchanged")
        elif donor is not None:
            # Stages are never changed once they are whole, so their files can be shared.
            write_folder(target, lambda beside: _link_files(donor, beside))
            self._announce(f"{title}: taken over from {donor}")
        else:
            self._write(stage, view, title)
        stage.use(view)

    def _write(self, stage: Stage, view: Run, title: str) -> None:
        work, fingerprint = self._work(stage.name), view.fingerprint
        is_resumed = _read_text(work / _FINGERPRINT_FILE) == fingerprint
        if not is_resumed:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            write_file(work / _FINGERPRINT_FILE, fingerprint)
        (work / CHECKPOINTS).mkdir(exist_ok=True)
        self._announce(f"{title}: {'resuming' if is_resumed else 'running'}")
        start = time.monotonic()
        try:
            stage.write(view, work)
            _check_written(stage, work)
        except Exception:
            if not any((work / CHECKPOINTS).iterdir()):  # nothing to resume from
                shutil.rmtree(work, ignore_errors=True)
            raise
        seconds = time.monotonic() - start
        write_file(work / CONFIG_FILE, self._run.settings.to_yaml())
        facts = {"stage": stage.name, "fingerprint": fingerprint, "seconds": round(seconds, 1)}
        write_json(work / STAGE_FILE, facts)
        _publish(work, self._target(stage.name))
        self._announce(f"{title}: done in {seconds:.1f} s")

    def _view(self, name: str, fingerprint: str = "") -> Run:
        return self._run.limited(name, self._keys[name], self._readable[name], fingerprint)

    def _target(self, name: str) -> Path:
        return self._run.folder / name

    def _work(self, name: str) -> Path:
        return self._run.folder / f".{name}.partial"

    def _find_donor(self, name: str, fingerprint: str) -> Path | None:
        found = (donor / name for donor in self._donors)
        return next((f for f in found if read_fingerprint(f) == fingerprint), None)

    def _fingerprint(self, name: str, before: Mapping[str, str]) -> str:
        stage = self._stages[name]
        settings = pick_settings(self._run.settings, stage.determined_by)
        determined_by = {
            "tfrec": tfrec.__version__,
            "stage": name,
            "origin": stage.origin,
            "settings": settings,
            "parts": foreign_stamps([settings, stage.origin]),
            "outside": stage.outside(self._view(name)),
            "needs": {needed: before[needed] for needed in stage.needs},
        }
        text = json.dumps(determined_by, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_stages(stages: Sequence[Stage]) -> None:
    """Checks that stages can follow each other.

    Raises:
        ConfigError: A name is no name of a folder or stands twice, a stage needs one that does not
            come before it, or says that a setting of `run` determines it.
    """
    before: list[str] = []
    for stage in stages:
        if not _NAME.fullmatch(stage.name) or stage.name in before:
            raise ConfigError(
                f"stage {type(stage).__name__}: wanted a `name` of its own, of small letters, "
                f"digits and _, got {stage.name!r}; there are {', '.join(before) or 'none'} before."
            )
        for needed in stage.needs:
            if needed not in before:
                raise ConfigError(
                    f"stage {stage.name}: needs the stage {needed!r}, which does not come before "
                    f"it.{did_you_mean(needed, before)} Before it: {', '.join(before) or 'none'}."
                )
        for key in stage.determined_by:
            if key.split(".")[0] == RUNNING:
                raise ConfigError(f"stage {stage.name}: determined_by: {key} determines nothing.")
        before.append(stage.name)


def _check_written(stage: Stage, folder: Path) -> None:
    missing = [name for name in stage.writes if not (folder / name).exists()]
    if missing:
        raise ArtefactError(
            f"stage {stage.name}: wanted {', '.join(stage.writes)} in its folder, as `writes` "
            f"says, got no {missing[0]}."
        )


def _publish(work: Path, target: Path) -> None:
    """Puts a finished stage in place; a kill in between costs a rerun, never a broken artefact."""
    shutil.rmtree(work / CHECKPOINTS)
    swap_folder(work, target)
    (target / _FINGERPRINT_FILE).unlink()


def _link_files(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=os.link, dirs_exist_ok=True)


def _read_text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None
