"""The errors tfrec raises for what a user can mend.

Each message is one line that says where (file, key or row), what was wanted and what came.
The command line prints it without a traceback and exits with code 2.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable


class TfrecError(Exception):
    """Base of every error that the reader can mend."""


class ConfigError(TfrecError):
    """A configuration file or an override is not valid."""


class DataError(TfrecError):
    """A table, a column or a row is not what the configuration declares."""


class ArtefactError(TfrecError):
    """A stored artefact (stage folder, model folder) is missing or cannot be used."""


class ExportError(TfrecError):
    """An exported model does not answer as the model in memory does."""


class InstallationError(TfrecError):
    """The installed packages do not work together."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `` Did you mean 'x'?`` for the known name closest to `name`, or an empty string."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {matches[0]!r}?" if matches else ""


def reason_of(error: Exception) -> str:
    r"""Returns the line that says what happened, or the error's name where it says nothing.

    That is the first one. Keras puts another above it, in bold, that says where.

    >>> reason_of(ValueError("too long\nby 3")), reason_of(KeyError())
    ('too long', 'KeyError')
    """
    text = re.sub(r"\x1b\[\d+m", "", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Exception encountered when calling")]
    return lines[0] if lines else type(error).__name__


def place_of(part: object) -> str:
    """Returns ``package.module:Class`` of an object, as a configuration names it.

    >>> place_of(Exception())
    'builtins:Exception'
    """
    return f"{type(part).__module__}:{type(part).__qualname__}"
