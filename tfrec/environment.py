"""What must hold of the process before TensorFlow is loaded, and of the installed packages.

TFRS needs Keras 2 under ``tf.keras`` while keras-nlp is Keras 3. Both live in one process when
``TF_USE_LEGACY_KERAS=1`` is set before TensorFlow is imported: ``import keras`` is Keras 3,
``tf.keras`` is tf-keras. `prepare` runs on ``import tfrec``, which loads neither.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from dataclasses import dataclass
from importlib import metadata

from tfrec.errors import InstallationError, reason_of

_LEGACY_KERAS = "TF_USE_LEGACY_KERAS"
_OTHERS = (
    r"(absl|google|implicit|keras|keras_hub|keras_nlp|lightgbm|matplotlib|sklearn|tensorboard"
    r"|tensorflow|tensorflow_\w+|tf_keras)(\..*)?$"
)
"""Modules whose warnings say nothing that the user of a command could mend."""


def prepare() -> None:
    """Sets the variables that TensorFlow and Keras read when they are imported.

    Raises:
        InstallationError: TensorFlow was imported first, without the variable that TFRS needs.
    """
    if "tensorflow" in sys.modules and os.environ.get(_LEGACY_KERAS) not in ("1", "true", "True"):
        raise InstallationError(
            "TensorFlow was imported before tfrec without TF_USE_LEGACY_KERAS=1, which "
            "TensorFlow Recommenders needs. Import tfrec first, or set the variable."
        )
    os.environ.setdefault(_LEGACY_KERAS, "1")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def quiet() -> None:
    """Has other people's code start and run without its notes, unless the user asked for them.

    For the commands, before TensorFlow is imported: `prepare` has silenced what TensorFlow itself
    says (oneDNN, CPU features, CUDA that is not there); this is gRPC and Python's warnings.
    """
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    if not sys.warnoptions:  # neither -W nor PYTHONWARNINGS
        warnings.filterwarnings("ignore", module=_OTHERS)


def start_tensorflow(seed: int) -> None:
    """Loads TensorFlow, seeds every library and asks TensorFlow for repeatable kernels."""
    import keras
    import tensorflow as tf

    tf.get_logger().setLevel("ERROR")  # its notes on retracing and assets are no help to users
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()


@dataclass(frozen=True)
class Check:
    """One fact about the installation.

    Attributes:
        name: What was looked at.
        is_ok: Whether it holds.
        found: Version, or what went wrong.
        fix: What to do where it does not hold.
    """

    name: str
    is_ok: bool
    found: str
    fix: str


_FIX = "install the tested set: pip install -e . -c constraints.txt"

_MODULES = {
    "tensorflow": "tensorflow",
    "keras": "keras",
    "keras-nlp": "keras_nlp",
    "tensorflow-text": "tensorflow_text",
    "tensorflow-recommenders": "tensorflow_recommenders",
    "scann": "scann.scann_ops.py.scann_ops",
}
"""Packages that load compiled operations or look for one another; importing them is the proof."""


def check_installation() -> list[Check]:
    """Checks Python, the declared version ranges, and that the compiled packages load together."""
    found = ".".join(str(part) for part in sys.version_info[:3])
    is_supported = (3, 11) <= sys.version_info[:2] < (3, 13)
    checks = [Check("Python", is_supported, found, "use Python 3.11 or 3.12")]
    checks += _check_ranges()
    checks += [_check_import(package, module) for package, module in _MODULES.items()]
    return [*checks, _check_keras()]


def _check_ranges() -> list[Check]:
    from packaging.requirements import Requirement

    try:
        declared = metadata.requires("tfrec") or []
    except metadata.PackageNotFoundError:
        return [Check("tfrec", False, "not installed", "pip install -e . -c constraints.txt")]
    checks = []
    for text in declared:
        requirement = Requirement(text)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        wanted = f"{requirement.name} {requirement.specifier}"
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            checks.append(Check(wanted, False, "not installed", _FIX))
            continue
        checks.append(Check(wanted, requirement.specifier.contains(version), version, _FIX))
    return checks


def _check_import(package: str, module: str) -> Check:
    name = f"{package} loads"
    try:
        importlib.import_module(module)
    except Exception as error:  # a broken binary raises whatever its loader raises
        reason = reason_of(error)[:160]
        return Check(name, False, reason, _FIX)
    return Check(name, True, "yes", "")


def _check_keras() -> Check:
    name = "Keras 3 beside Keras 2"
    try:
        import keras
        import tensorflow as tf

        home = tf.keras.Model.__module__.split(".")[0]
        found = f"keras {keras.__version__}, tf.keras from {home}"
        is_ok = keras.__version__.startswith("3.") and home == "tf_keras"
    except Exception as error:  # as above
        found, is_ok = reason_of(error)[:160], False
    return Check(name, is_ok, found, f"set {_LEGACY_KERAS}=1 before TensorFlow is imported")
