"""The processes of one run must agree on the names of all tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_collection_in_another_process_finds_the_same_names(request: pytest.FixtureRequest):
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:xdist", "tests"],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout[-2000:] + found.stderr[-2000:]
    names = [line for line in found.stdout.splitlines() if "::" in line]
    assert len(set(names)) == len(names)
    here = {item.nodeid for item in request.session.items}
    assert here <= set(names), sorted(here - set(names))[:10]
