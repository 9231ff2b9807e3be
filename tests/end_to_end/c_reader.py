"""Compiles `read_model.c` and asks exported models with it."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

SOURCE = Path(__file__).with_name("read_model.c")
TYPES = {"string": "string", "float32": "float", "int64": "int64"}


def compile_reader(folder: Path) -> Path:
    """Returns the compiled program; skips where there is no compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    root = Path(tf.__file__).parent
    program = folder / "read_model"
    command = [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", str(SOURCE), "-o", str(program)]
    command += ["-isystem", str(root / "include"), f"-L{root}", f"-Wl,-rpath,{root}"]
    command += ["-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"]
    subprocess.run(command, check=True)
    return program


def operation_libraries(names: Sequence[str]) -> list[Path]:
    """Returns the shared objects that register the operations of packages."""
    found: list[Path] = []
    for name in names:
        package = Path(__import__(name).__file__).parent
        found += sorted(package.rglob("*ops/**/_*.so"))
    return found


def ask(
    program: Path,
    model: Path,
    libraries: Sequence[Path],
    signature: str,
    request: Mapping[str, np.ndarray],
    outputs: Sequence[str],
) -> list[str]:
    """Returns the values of the outputs, one after the other, as the program prints them."""
    parsed = saved_model_pb2.SavedModel.FromString((model / "saved_model.pb").read_bytes())
    declared = parsed.meta_graphs[0].signature_def[signature]
    lines = []
    for name, info in declared.inputs.items():
        values = np.asarray(request[name])
        kind = TYPES[tf.as_dtype(info.dtype).name]
        operation, index = info.name.split(":")
        sizes = " ".join(str(size) for size in values.shape)
        lines.append(f"input {operation} {index} {kind} {values.ndim} {sizes}")
        lines += [str(value) for value in values.ravel().tolist()]
    for name in outputs:
        operation, index = declared.outputs[name].name.split(":")
        lines.append(f"output {operation} {index}")
    process = subprocess.run(
        [program, model, *libraries],
        input="\n".join(lines) + "\n",
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert process.returncode == 0, process.stderr[-2000:]
    return process.stdout.splitlines()
