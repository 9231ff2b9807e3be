"""Fixtures that several folders of tests share."""

import os
from pathlib import Path

import pytest

import tfrec  # noqa: F401  sets what TensorFlow reads when it is imported, so it comes first


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Returns the folder of public data sets that TFREC_DATA names; skips without it."""
    name = os.environ.get("TFREC_DATA")
    if not name:
        pytest.skip("TFREC_DATA does not name a folder of public data sets")
    folder = Path(name)
    if not folder.is_dir():
        pytest.fail(f"TFREC_DATA={name}: no such folder")
    return folder


def pytest_make_parametrize_id(val: object) -> str | None:
    """Names parameters whose own text differs from process to process, or is long, by their type.

    The processes that share a run must collect the same names. Bytes may hold the time of day
    (gzip), sets have no order.
    """
    return type(val).__name__ if isinstance(val, bytes | set | frozenset) else None
