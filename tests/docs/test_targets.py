"""Workflow, hooks and documents call targets that the Makefile has, and help lists them."""

import re
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.M)[1].split())
WORKFLOW = YAML(typ="safe").load(ROOT / ".github" / "workflows" / "test.yml")


def called(text: str) -> set[str]:
    """Returns the targets in lines and quoted commands such as `make lint types`."""
    commands = re.findall(r"(?:^|[`\s])make((?: [a-z][a-z-]*)+)", text, re.M)
    return {target for command in commands for target in command.split()}


def test_help_lists_every_target():
    printed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(re.findall(r"^  ([a-z-]+) +\S", printed.stdout, re.M)) == TARGETS


def test_workflow_runs_targets_alone_on_each_supported_python():
    (job,) = WORKFLOW["jobs"].values()
    steps = [step["run"] for step in job["steps"] if "run" in step]
    assert all(step.startswith("make ") for step in steps)
    assert set().union(*map(called, steps)) == {"install", "lint", "types", "test", "coverage"}
    setup = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    declared = re.findall(r"Programming Language :: Python :: (3\.\d+)", setup)
    assert job["strategy"]["matrix"]["python"] == declared


def test_hooks_run_targets():
    hooks = YAML(typ="safe").load(ROOT / ".pre-commit-config.yaml")["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == ["make lint", "make types"]


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/releasing.md", "README.md"])
def test_document_names_targets_that_are_there(name: str):
    quoted = re.findall(r"`(make [^`]*)`", (ROOT / name).read_text(encoding="utf-8"))
    assert set().union(*map(called, quoted)) <= TARGETS
