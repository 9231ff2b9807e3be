"""A configuration of which only some keys can be read."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from typing import Any, cast

from pydantic import BaseModel

from tfrec.config.run import Config
from tfrec.errors import ConfigError, TfrecError, did_you_mean

RUNNING = "run"
"""The section of what only runs, which anybody may read."""


class UndeclaredSettingError(TfrecError):
    """A setting is read by somebody who did not declare it."""


def limit_config(config: Config, keys: Iterable[str], reader: str) -> Config:
    """Returns the configuration as somebody may read it who declared `keys`.

    Args:
        config: The whole.
        keys: Sections and values: ``retrieval``, ``encoder.source``. `RUNNING` comes with them.
        reader: Who it is, for messages.

    Returns:
        What reads like a `Config`. Any other key raises `UndeclaredSettingError`.
    """
    paths = frozenset(tuple(key.split(".")) for key in (*keys, RUNNING))
    return cast(Config, _View(config, paths, (), reader))


def pick_settings(config: Config, keys: Iterable[str]) -> dict[str, Any]:
    """Returns the values of some keys as plain JSON.

    Raises:
        ConfigError: There is no such key.
    """
    whole = config.model_dump(mode="json")
    return {key: _pick(whole, key) for key in sorted(keys)}


class _View:
    """A section of which only some keys can be read; `paths` begin at the configuration."""

    def __init__(
        self,
        section: BaseModel,
        paths: Collection[tuple[str, ...]],
        at: tuple[str, ...],
        reader: str,
    ) -> None:
        object.__setattr__(self, "_inside", (section, paths, at, reader))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a configuration is read only, tried to set {name}")

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        section, paths, at, reader = self._inside
        if name not in type(section).model_fields:
            computed = inspect.getattr_static(type(section), name, None)
            if isinstance(computed, property) and computed.fget is not None:
                return computed.fget(self)  # it reads what it needs through this view
            raise AttributeError(f"{type(section).__name__} has no key {name!r}")
        path = (*at, name)
        if any(path[: len(declared)] == declared for declared in paths):
            return getattr(section, name)
        value = getattr(section, name)
        is_above = any(declared[: len(path)] == path for declared in paths)
        if is_above and isinstance(value, BaseModel):
            return _View(value, paths, path, reader)
        raise UndeclaredSettingError(
            f"{reader}: reads the setting {'.'.join(path)}, which it does not declare; add it to "
            "`determined_by`."
        )


def _pick(tree: Any, key: str) -> Any:
    for name in key.split("."):
        if not isinstance(tree, Mapping) or name not in tree:
            known = list(tree) if isinstance(tree, Mapping) else []
            raise ConfigError(f"the configuration has no key {key!r}.{did_you_mean(name, known)}")
        tree = tree[name]
    return tree
