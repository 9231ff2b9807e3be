import os
import subprocess
import sys
import warnings

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


@pytest.mark.parametrize(("given", "found"), [({}, "3 ERROR"), ({"both": "0"}, "0 0")])
def test_notes_of_tensorflow_are_off_unless_the_user_set_them(given, found):
    names = ("TF_CPP_MIN_LOG_LEVEL", "GRPC_VERBOSITY")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    set_by_user = dict.fromkeys(names, given["both"]) if given else {}
    source = (
        "import os; from tfrec import environment; environment.quiet()\n"
        f"print(*(os.environ[name] for name in {names}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source], env=kept | set_by_user, capture_output=True, text=True
    )
    assert done.stdout.strip() == found


def test_warnings_of_other_libraries_are_hushed_and_ours_are_not(monkeypatch):
    monkeypatch.setattr("sys.warnoptions", [])
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        environment.quiet()
        for module in ("keras.src.trainers", "tensorflow", "tfrec.training.loop", "kerasish"):
            warnings.warn_explicit("look", UserWarning, "x.py", 1, module=module)
    assert len(heard) == 2


def test_warnings_that_the_user_asked_for_are_heard(monkeypatch):
    monkeypatch.setattr("sys.warnoptions", ["default"])
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        environment.quiet()
        warnings.warn_explicit("look", UserWarning, "x.py", 1, module="keras.src")
    assert len(heard) == 1
