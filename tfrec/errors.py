"""The errors tfrec raises for what a user can mend.

Each message is one line that says where (file, key or row), what was wanted and what came.
The command line prints it without a traceback and exits with code 2.
"""

from __future__ import annotations

import difflib
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
