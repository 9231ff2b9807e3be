"""Artefact folders of stages: skipped when unchanged, published whole, resumed when killed.

A stage's folder is named after it and holds ``stage.json`` with a fingerprint of everything that
determines it: its part of the configuration, the fingerprints of the stages before it, the input
files and the package version. The stage works in a hidden folder beside, which becomes the
artefact by a rename. A killed stage leaves the hidden folder; the next run with the same
fingerprint finds its checkpoints there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfrec.files import lock_folder, swap_folder, write_folder

_POLL_SECONDS = 0.5
_STAGE_FILE = "stage.json"
_FINGERPRINT_FILE = "fingerprint"
CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Stage:
    """One step of a pipeline.

    Attributes:
        name: Names the folder.
        needs: Stages whose artefacts it reads.
        settings: Whatever determines it besides; must be JSON.
        run: Writes the artefact into the given folder, whose subfolder `CHECKPOINTS` survives a
            kill and is removed at the end.
        is_complete: Tells, where the folder alone does not, whether the artefact is still there.
    """

    name: str
    needs: tuple[str, ...]
    settings: Mapping[str, Any]
    run: Callable[[Path], None]
    is_complete: Callable[[Path], bool] = lambda folder: True


class StageRunner:
    """Runs stages in order below one folder.

    Args:
        folder: Folder of the run.
        config_text: Resolved configuration, written beside every artefact.
        announce: Called with a line for people.
        donors: Folders of other runs. A stage that one of them holds with the same fingerprint is
            taken over from there.
    """

    def __init__(
        self,
        folder: Path,
        config_text: str,
        announce: Callable[[str], None],
        donors: Sequence[Path] = (),
    ) -> None:
        self.folder = folder
        self._config_text = config_text
        self._announce = announce
        self._donors = donors
        self._fingerprints: dict[str, str] = {}

    def run(self, stages: list[Stage]) -> None:
        """Runs what is missing or changed.

        Raises:
            ArtefactError: Another process works on the same folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with lock_folder(self.folder):
            for number, stage in enumerate(stages, start=1):
                self._run_one(stage, f"[{number}/{len(stages)}] {stage.name}")

    def fingerprints(self, stages: list[Stage]) -> dict[str, str]:
        """Returns what each stage's folder would be marked with now."""
        for stage in stages:
            self._fingerprints[stage.name] = self._fingerprint(stage)
        return dict(self._fingerprints)

    def is_published(self, stages: list[Stage], name: str) -> bool:
        """Tells whether a stage's folder holds what it would write now."""
        wanted = self.fingerprints(stages)[name]
        return _read_stage(self.folder / name / _STAGE_FILE) == wanted

    def work_along(self, stages: list[Stage], name: str) -> None:
        """Takes part in one stage of a run that another process, the chief, runs and writes.

        Waits for the stages before it, runs it in the chief's folder, which it must leave to the
        chief to write, and waits until the chief has published it.

        Args:
            stages: Of the run, as the chief's.
            name: Of the stage.
        """
        if self.is_published(stages, name):
            self._announce(f"{name}: unchanged")
            return
        (stage,) = [stage for stage in stages if stage.name == name]
        work = self.folder / f".{name}.partial"

        def is_running() -> bool:
            return _read_text(work / _FINGERPRINT_FILE) == self._fingerprints[name]

        self._announce(f"{name}: waiting for the chief to come to this stage of {self.folder}")
        while not is_running():
            time.sleep(_POLL_SECONDS)
        self._announce(f"{name}: running along")
        stage.run(work)
        while is_running():
            time.sleep(_POLL_SECONDS)
        self._announce(f"{name}: done, the chief goes on alone")

    def _run_one(self, stage: Stage, title: str) -> None:
        fingerprint = self._fingerprint(stage)
        self._fingerprints[stage.name] = fingerprint
        target = self.folder / stage.name
        if _read_stage(target / _STAGE_FILE) == fingerprint and stage.is_complete(target):
            self._announce(f"{title}: unchanged")
            return
        donor = self._find_donor(stage.name, fingerprint)
        if donor is not None:
            # Stages are never changed once they are whole, so their files can be shared.
            write_folder(target, lambda beside: _link_files(donor, beside))
            self._announce(f"{title}: taken over from {donor}")
            return
        work = self.folder / f".{stage.name}.partial"
        is_resumed = _read_text(work / _FINGERPRINT_FILE) == fingerprint
        if not is_resumed:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            (work / _FINGERPRINT_FILE).write_text(fingerprint, encoding="utf-8")
        (work / CHECKPOINTS).mkdir(exist_ok=True)
        self._announce(f"{title}: {'resuming' if is_resumed else 'running'}")
        start = time.monotonic()
        try:
            stage.run(work)
        except Exception:
            if not any((work / CHECKPOINTS).iterdir()):  # nothing to resume from
                shutil.rmtree(work, ignore_errors=True)
            raise
        seconds = time.monotonic() - start
        (work / "config.yaml").write_text(self._config_text, encoding="utf-8")
        facts = {"stage": stage.name, "fingerprint": fingerprint, "seconds": round(seconds, 1)}
        (work / _STAGE_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        _publish(work, target)
        self._announce(f"{title}: done in {seconds:.1f} s")

    def _find_donor(self, name: str, fingerprint: str) -> Path | None:
        found = (donor / name for donor in self._donors)
        return next((f for f in found if _read_stage(f / _STAGE_FILE) == fingerprint), None)

    def _fingerprint(self, stage: Stage) -> str:
        needed = {name: self._fingerprints[name] for name in stage.needs}
        text = json.dumps([stage.name, dict(stage.settings), needed], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _publish(work: Path, target: Path) -> None:
    """Puts a finished stage in place; a kill in between costs a rerun, never a broken artefact."""
    shutil.rmtree(work / CHECKPOINTS)
    swap_folder(work, target)
    (target / _FINGERPRINT_FILE).unlink()


def _link_files(source: Path, target: Path) -> None:
    shutil.copytree(source, target, copy_function=os.link, dirs_exist_ok=True)


def _read_text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _read_stage(path: Path) -> str | None:
    text = _read_text(path)
    return json.loads(text)["fingerprint"] if text else None
