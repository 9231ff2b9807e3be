"""Keyed pseudonyms: what stands in for user ids in everything that is written."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping

import polars as pl

from tfrec.config import Data, Privacy
from tfrec.errors import DataError

_MIN_KEY_CHARS = 16
_PSEUDONYM_CHARS = 32


class Pseudonymiser:
    """Replaces user ids by pseudonyms; the same id and key always give the same one.

    Args:
        key: Secret. It is kept in memory only and shown nowhere.
    """

    def __init__(self, key: bytes) -> None:
        self.__key = key

    def __call__(self, ids: pl.Series) -> pl.Series:
        """Returns the pseudonyms of ids, String [n]; nulls stay null."""
        distinct = ids.drop_nulls().unique()
        pseudonyms = pl.Series(
            [pseudonym(user_id, self.__key) for user_id in distinct], dtype=pl.String
        )
        return ids.replace_strict(distinct, pseudonyms, default=None, return_dtype=pl.String)

    def __repr__(self) -> str:
        return "Pseudonymiser(key=<secret>)"

    def __reduce__(self) -> str:
        raise TypeError("A Pseudonymiser cannot be stored: its key must not be.")


def pseudonymiser(
    privacy: Privacy, environ: Mapping[str, str] = os.environ
) -> Pseudonymiser | None:
    """Returns what replaces user ids, or None where the declaration names no key.

    Args:
        privacy: The declaration.
        environ: Where the key is looked up.

    Raises:
        DataError: The variable is missing or empty, or its key is too short to be one.
    """
    name = privacy.pseudonym_key
    if name is None:
        return None
    key = environ.get(name, "")
    if not key.strip():
        raise DataError(
            f"data.privacy.pseudonym_key: wanted the key in the environment variable {name}, got "
            f"nothing. Set {name} to a secret of {_MIN_KEY_CHARS} or more characters, the same "
            "for all data that are to fit together."
        )
    if len(key) < _MIN_KEY_CHARS:
        raise DataError(
            f"data.privacy.pseudonym_key: wanted {_MIN_KEY_CHARS} or more characters in the "
            f"environment variable {name}, got {len(key)}: a short key can be guessed."
        )
    return Pseudonymiser(key.encode())


def pseudonym_stamp(privacy: Privacy, environ: Mapping[str, str] = os.environ) -> str | None:
    """Returns what tells two keys apart and neither of them, or None without pseudonyms."""
    pseudonymise = pseudonymiser(privacy, environ)
    return pseudonymise(pl.Series([""]))[0] if pseudonymise else None


def hidden_columns(data: Data) -> list[str]:
    """Columns whose cells no message shows: who wants pseudonyms wants no user id either."""
    hidden = list(data.privacy.never_write)
    if data.privacy.pseudonym_key:
        hidden += [data.events.user_id, data.users.user_id]
    return hidden


def pseudonym(user_id: str, key: bytes) -> str:
    """Returns the first 128 bits of HMAC-SHA-256 of an id, as 32 hexadecimal characters.

    Source: RFC 2104 (HMAC); section 5 there allows the cut.
    """
    return hmac.digest(key, user_id.encode(), "sha256").hex()[:_PSEUDONYM_CHARS]
