"""Imports are cheap and point down."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "tfrec"

# From CONTRIBUTING.md, ground first. A module imports from its own floor or from those below.
FLOORS: list[set[str]] = [
    {"tfrec", "schema", "errors"},  # `tfrec` itself: the version, and names loaded on demand
    {
        "environment",
        "log",
        "progress",
        "files",
        "layer_trial",
        "registry",
        "losses",
        "metrics",
        "index",
        "serving",
        "shop",
    },
    {"config"},
    {"features"},
    {"data"},
    {"candidates", "autoconfig", "inputs"},
    {"encoders"},
    {"towers"},
    {"models"},
    {"inference"},
    {"recommender", "training"},
    {"evaluation", "export"},
    {"pipeline"},
    {"cli"},
    {"__main__"},
]
FLOOR_OF = {name: number for number, floor in enumerate(FLOORS) for name in floor}

# Arrays in, arrays out: all they may know of tfrec.
GROUND = {
    "losses": set(),
    "metrics": {"errors"},
    "index": {"errors", "files", "registry", "schema"},
    "serving": {"errors", "schema", "index"},
}

HEAVY = ("tensorflow", "tf_keras", "keras", "keras_nlp", "sklearn", "matplotlib", "scann")


def modules() -> dict[str, Path]:
    """Returns all modules of the package by dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Returns the dotted names of all modules that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: wanted absolute imports"
            assert node.module is not None
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= (inside & MODULES.keys()) or {node.module}
    return names


def own_imports(module: str) -> set[str]:
    """Returns the modules of tfrec that a module of tfrec imports."""
    return {name for name in imports(MODULES[module]) if name.split(".")[0] == "tfrec"}


def part_of(module: str) -> str:
    """Returns the file or folder right below tfrec that holds a module."""
    return module.split(".")[1] if "." in module else "tfrec"


def test_every_part_of_the_package_has_a_floor():
    assert {part_of(module) for module in MODULES} == set(FLOOR_OF)


@pytest.mark.parametrize("module", sorted(MODULES.keys() - {"tfrec"}))
def test_imports_of_module_point_down(module: str):
    floor = FLOOR_OF[part_of(module)]
    upward = {name for name in own_imports(module) if FLOOR_OF[part_of(name)] > floor}
    assert not upward, f"{module} imports from above: {sorted(upward)}"


def test_imports_among_modules_have_no_circle():
    # `import tfrec` stands for its version; what the package loads on demand is no import of it.
    graph = {module: own_imports(module) - {"tfrec"} for module in MODULES.keys() - {"tfrec"}}
    list(TopologicalSorter(graph).static_order())  # raises CycleError and names the circle


def test_imports_among_parts_have_no_circle():
    graph: dict[str, set[str]] = {}
    for module in MODULES.keys() - {"tfrec"}:
        part = part_of(module)
        below = {part_of(name) for name in own_imports(module)} - {part, "tfrec"}
        graph[part] = graph.get(part, set()) | below
    list(TopologicalSorter(graph).static_order())


def test_imports_among_folders_of_data_have_no_circle():
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        if module.startswith("tfrec.data."):
            folder = module.split(".")[2]
            inside = {name for name in own_imports(module) if name.startswith("tfrec.data.")}
            below = {name.split(".")[2] for name in inside} - {folder}
            graph[folder] = graph.get(folder, set()) | below
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("part", sorted(GROUND))
def test_part_on_the_ground_knows_no_models(part: str):
    known = {
        part_of(name)
        for module in MODULES
        if part_of(module) == part
        for name in own_imports(module)
    } - {part}
    assert known <= GROUND[part]


def test_scann_is_imported_by_index_only():
    importers = {
        module
        for module, path in MODULES.items()
        if any(name.split(".")[0] == "scann" for name in imports(path))
    }
    # `verify` plays TF Serving in a fresh process and knows nothing of tfrec.
    assert importers == {"tfrec.index.scann", "tfrec.export.verify"}


def test_verify_knows_nothing_of_tfrec():
    assert own_imports("tfrec.export.verify") == set()


def run_python(code: str) -> str:
    """Runs code in a fresh process, and returns what it printed."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return result.stdout


SHOW_HEAVY = f"import sys; print([name for name in {HEAVY} if name in sys.modules])"


@pytest.mark.parametrize(
    "code",
    [
        "import tfrec; tfrec.__version__; dir(tfrec)",
        "import tfrec; tfrec.load_config; tfrec.Config; tfrec.TfrecError; tfrec.Shop",
        "import tfrec; tfrec.PreparedData; tfrec.Pipeline",
        "import polars as pl; from tfrec.features import Number; Number('x').fit(pl.Series([1.0]))",
    ],
)
def test_import_of_tfrec_loads_no_tensorflow(code: str):
    assert run_python(f"{code}\n{SHOW_HEAVY}") == "[]\n"


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["--version"]])
def test_help_of_command_loads_no_tensorflow(arguments: list[str]):
    code = (
        "from typer.testing import CliRunner\n"
        "from tfrec.cli import app\n"
        f"result = CliRunner().invoke(app, {arguments!r})\n"
        "assert result.exit_code == 0, result.output\n"
        "assert 'tfrec' in result.output, result.output\n"
    )
    assert run_python(code + SHOW_HEAVY) == "[]\n"


def test_names_of_package_are_all_there():
    import tfrec

    for name in tfrec.__all__:
        assert getattr(tfrec, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Recomender'"):
        _ = tfrec.Recomender


def test_import_after_tensorflow_without_legacy_keras_is_refused():
    code = (
        "import os, sys, types\n"
        "os.environ.pop('TF_USE_LEGACY_KERAS', None)\n"
        "sys.modules['tensorflow'] = types.ModuleType('tensorflow')\n"
        "try:\n"
        "    import tfrec\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    assert run_python(code).startswith("InstallationError TensorFlow was imported before tfrec")
