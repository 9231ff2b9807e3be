import subprocess
import sys

import pytest

from tfrec import environment
from tfrec.environment import check_installation


def test_check_installation_here_finds_nothing_wrong():
    wrong = [(check.name, check.found) for check in check_installation() if not check.is_ok]
    assert wrong == []


def test_check_installation_with_another_version_names_package_and_fix(monkeypatch):
    real = environment.metadata.version
    monkeypatch.setattr(
        environment.metadata, "version", lambda n: "2.21.0" if n == "tensorflow" else real(n)
    )
    wrong = [check for check in check_installation() if not check.is_ok]
    assert [(check.name, check.found) for check in wrong] == [("tensorflow ~=2.20.0", "2.21.0")]
    assert "constraints.txt" in wrong[0].fix


def test_check_installation_with_a_module_that_does_not_load_says_why(monkeypatch):
    monkeypatch.setitem(environment._MODULES, "scann", "tfrec.no_such_module")
    wrong = [check for check in check_installation() if not check.is_ok]
    assert [check.name for check in wrong] == ["scann loads"]
    assert "no_such_module" in wrong[0].found


@pytest.mark.parametrize(("value", "code"), [("1", 0), ("0", 1), (None, 1)])
def test_import_after_tensorflow_without_the_variable_is_refused(value, code):
    setting = f"os.environ['TF_USE_LEGACY_KERAS'] = {value!r}" if value else "pass"
    source = (
        "import os, sys, types; os.environ.pop('TF_USE_LEGACY_KERAS', None)\n"
        f"{setting}\nsys.modules['tensorflow'] = types.ModuleType('tensorflow')\nimport tfrec"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.returncode == code
    assert ("Import tfrec first, or set the variable" in done.stderr) == bool(code)
