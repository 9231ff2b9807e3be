"""A stage of somebody else: its folder, fingerprint and skipping are as of ours."""

import json
import sys
from pathlib import Path

import pytest

from tfrec.config import load_config, parse_config
from tfrec.config.view import UndeclaredSettingError
from tfrec.errors import ArtefactError, ConfigError
from tfrec.pipeline import Pipeline

CONFIG = Path(__file__).parents[2] / "configs" / "tabular_mlp.yaml"
CODE = """
from tfrec.files import write_json
from tfrec.pipeline.stage import Stage


class CountItems(Stage):
    name = "count_items"
    needs = ("prepare",)
    determined_by = ("data.source",)
    writes = ("count.json",)

    def __init__(self, times: int = 1):
        self.times = times

    def write(self, run, folder):
        write_json(folder / "count.json", self.times * run.data.num_items)


class Curious(CountItems):
    def write(self, run, folder):
        write_json(folder / "count.json", run.settings.ranking.epochs)


class Nosy(CountItems):
    needs = ()

    def write(self, run, folder):
        run.data


class Idle(CountItems):
    def write(self, run, folder):
        pass


class Early(CountItems):
    needs = ("ranking",)


class Nameless(CountItems):
    name = "Count Items"


class Astray(CountItems):
    determined_by = ("data.sauce",)


class Running(CountItems):
    determined_by = ("run.strategy",)


class NoStage:
    pass
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The module of a package outside."""
    monkeypatch.syspath_prepend(str(tmp_path / "outside"))
    monkeypatch.delitem(sys.modules, "own_stages", raising=False)
    path = tmp_path / "outside" / "own_stages.py"
    path.parent.mkdir()
    path.write_text(CODE)
    return path


def pipeline(folder: Path, name: str = "CountItems", lines: list[str] | None = None, **entry):
    stage = {"kind": f"own_stages:{name}", "after": "prepare", **entry}
    config = load_config(
        CONFIG, [f"runs={folder}", "name=own", "data.scale=0.02", f"stages=[{json.dumps(stage)}]"]
    )
    return Pipeline(config, announce=(lines if lines is not None else []).append)


def test_own_stage_is_run_skipped_and_run_again_as_ours_are(code: Path, tmp_path: Path):
    lines: list[str] = []

    def states(**entry) -> dict[str, str]:
        lines.clear()
        pipeline(tmp_path, lines=lines, **entry).run(until="count_items")
        said = [line.split("] ")[1].split(": ") for line in lines]
        return {stage: state.split(" in ")[0] for stage, state in said}

    assert states() == {"prepare": "done", "count_items": "done"}
    folder = tmp_path / "own" / "count_items"
    count = json.loads((folder / "count.json").read_text())
    assert count > 0
    assert {path.name for path in folder.iterdir()} == {"count.json", "config.yaml", "stage.json"}
    assert states() == {"prepare": "unchanged", "count_items": "unchanged"}
    assert states(options={"times": 2}) == {"prepare": "unchanged", "count_items": "done"}
    assert json.loads((folder / "count.json").read_text()) == 2 * count
    code.write_text(CODE + "\n# edited\n")
    assert states(options={"times": 2}) == {"prepare": "unchanged", "count_items": "done"}


def test_own_stage_reads_nothing_that_it_does_not_declare(code: Path, tmp_path: Path):
    with pytest.raises(UndeclaredSettingError, match="reads the setting ranking, which"):
        pipeline(tmp_path, "Curious").run(until="count_items")
    with pytest.raises(ArtefactError, match="stage count_items: reads the folder of the stage pre"):
        pipeline(tmp_path, "Nosy").run(until="count_items")
    with pytest.raises(ArtefactError, match=r"stage count_items: wanted count\.json in its folder"):
        pipeline(tmp_path, "Idle").run(until="count_items")
    assert not (tmp_path / "own" / "count_items").exists()


@pytest.mark.parametrize(
    ("name", "entry", "said"),
    [
        ("Early", {}, "stage count_items: needs the stage 'ranking', which does not come before"),
        ("Nameless", {}, "stage Nameless: wanted a `name` of its own, of small letters"),
        ("Astray", {}, "stage count_items: determined_by: the configuration has no key 'data.sau"),
        ("Running", {}, "stage count_items: determined_by: run.strategy determines nothing."),
        ("NoStage", {}, "stages.0.kind: own_stages:NoStage: wanted a stage, a class that extends"),
        ("Gone", {}, "stages.0.kind: own_stages:Gone: cannot be imported"),
        ("CountItems", {"options": {"time": 2}}, "unknown option 'time'. Did you mean 'times'?"),
        ("CountItems", {"after": "prepaer"}, "stages.0.after: wanted one of prepare, ranking"),
    ],
)
def test_stage_that_cannot_work_is_refused_before_anything_runs(
    name: str, entry: dict, said: str, code: Path, tmp_path: Path
):
    with pytest.raises(ConfigError) as caught:
        pipeline(tmp_path, name, **entry)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_kind_that_is_no_place_is_refused_as_the_configuration_is_read():
    tree = {"name": "x", "data": {"source": "shop"}, "stages": [{"kind": "counting"}]}
    with pytest.raises(ConfigError, match=r"stages\.0\.kind: .*package\.module:Class"):
        parse_config(tree)
