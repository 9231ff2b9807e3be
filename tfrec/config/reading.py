"""Reads a configuration: YAML, overrides, checks; one line that names file and key on any error."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pydantic
from pydantic import BaseModel
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from tfrec.config.moved import dotted_keys, find_moved
from tfrec.config.run import Config
from tfrec.errors import ConfigError, did_you_mean

_MAX_VALUE_CHARS = 80
_KEY_ITSELF = "[key]"  # the last step of pydantic's path to a problem with a name
_SECRET_KEYS = (("pseudonym_key",),)  # who puts the key itself there must not see it in a log
_WORDS = {
    r"a valid dictionary( or instance of \w+)?": "a mapping of keys",
    r"^(List|Value|Dictionary) should have at least (\d+) items?.*": r"wanted at least \2 in it",
    r"^String should have at least 1 character$": "wanted text that is not empty",
}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads, overrides and validates a configuration.

    Args:
        path: YAML file.
        overrides: ``section.key=value`` strings; the value is read as YAML.

    Raises:
        ConfigError: The file is missing or no valid YAML, a key is unknown, a value is wrong.
    """
    path = Path(path)
    tree = _read_yaml(path)
    for override in overrides:
        _apply_override(tree, override)
    return parse_config(tree, origin=str(path))


def override_file(path: str | Path, overrides: Sequence[str]) -> str:
    """Returns the YAML of a configuration file with overrides put in; its comments stay."""
    yaml = YAML()
    yaml.width = 120
    tree = yaml.load(Path(path).read_text(encoding="utf-8"))
    for override in overrides:
        _apply_override(tree, override)
    stream = io.StringIO()
    yaml.dump(tree, stream)
    return stream.getvalue()


def parse_config(tree: Mapping[str, Any], origin: str = "configuration") -> Config:
    """Validates a nested mapping; `origin` names it in errors."""
    moved = find_moved(dotted_keys(tree))
    if moved is not None:
        raise ConfigError(f"{origin}: {moved}")
    try:
        return Config.model_validate(dict(tree))
    except pydantic.ValidationError as error:
        raise ConfigError(_describe(error, tree, origin)) from None


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        near = [p.as_posix() for p in sorted(path.parent.glob("*.yaml"))]
        hint = did_you_mean(path.as_posix(), near)
        raise ConfigError(f"{path}: no such configuration file.{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    try:
        tree = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(error.problem or error.context).split())
        raise ConfigError(f"{path}{line}: not valid YAML: {problem}") from None
    except YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: wanted a mapping of sections, got {type(tree).__name__}.")
    return tree


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: wanted section.key=value.")
    try:
        value = YAML(typ="safe", pure=True).load(text) if text else ""
    except YAMLError:
        value = text
    moved = find_moved(iter([key.strip()]))
    if moved is not None:
        raise ConfigError(f"--set {override}: {moved}")
    *parents, leaf = key.strip().split(".")
    node: Any = tree
    for parent in parents:
        place = _place_in(node, parent, override)
        if isinstance(node, dict) and node.get(place) is None:
            node[place] = {}
        node = node[place]
        if not isinstance(node, dict | list):
            raise ConfigError(f"--set {override}: {parent!r} is a value, not a section.")
    node[_place_in(node, leaf, override)] = value


def _place_in(node: dict[str, Any] | list[Any], key: str, override: str) -> Any:
    """Returns `key` for a section, and its number for the part of a list."""
    if isinstance(node, dict):
        return key
    if key.isdecimal() and int(key) < len(node):
        return int(key)
    last = len(node) - 1
    raise ConfigError(
        f"--set {override}: wanted the number of a part of the list, 0 to {last}, got {key!r}."
        if node
        else f"--set {override}: the list before {key!r} is empty."
    )


def _describe(error: pydantic.ValidationError, tree: Any, origin: str) -> str:
    """Turns pydantic's list into one line about the first problem; unknown keys come first."""
    found: dict[str, list[Any]] = {}
    for problem in sorted(error.errors(), key=lambda p: p["type"] != "extra_forbidden"):
        keys, _ = _locate(problem["loc"], tree)
        found.setdefault(".".join(keys), []).append(problem)
    # Of the alternatives of one value, the one that fits further in is what was meant.
    found = {
        where: problems
        for where, problems in found.items()
        if not any(other.startswith(f"{where}.") for other in found if where)
    }
    where, problems = next(iter(found.items()))
    first = problems[0]
    if first["type"] == "extra_forbidden":
        keys, known = _locate(first["loc"], tree)
        message = f"unknown key {where!r}.{did_you_mean(keys[-1], known)}"
        if known:
            message += f" Known here: {', '.join(sorted(known))}."
    elif first["type"] == "missing":
        message = f"key {where!r} is missing."
    else:
        message = f"{where + ': ' if where else ''}{_describe_value(problems)}"
    more = len(found) - 1
    return f"{origin}: {message}" + (f" ({more} more problem{'s' * (more > 1)})" if more else "")


def _describe_value(problems: Sequence[Any]) -> str:
    """Says what was wanted of one value, with all that could stand there, and what came."""
    value, kind = problems[0]["input"], problems[0]["type"]
    if problems[0]["loc"][-1:] == (_KEY_ITSELF,):
        return f"wanted text as name, got {value!r}. Put it in quotes."
    wanted = list(dict.fromkeys(_clean_message(problem["msg"]) for problem in problems))
    text = " or ".join(
        [wanted[0], *(later.removeprefix("input should be ") for later in wanted[1:])]
    )
    context = problems[0].get("ctx", {})
    known = context.get("known", [])
    if kind == "literal_error":
        known = re.findall("'([^']*)'", context["expected"])
    hint = did_you_mean(value.lower(), known) if isinstance(value, str) else ""
    if isinstance(value, dict) or problems[0]["loc"][-1:] in _SECRET_KEYS:
        return f"{text}."
    if ", got " in text:  # it says by itself what came
        return text if text.endswith((".", "?")) else f"{text}."
    came = repr(value)
    if len(came) > _MAX_VALUE_CHARS:
        came = f"{came[:_MAX_VALUE_CHARS]}..."
    return f"{text}, got {came}.{hint}"


def _clean_message(message: str) -> str:
    """Says what pydantic says in the words of a configuration file."""
    message = message.removeprefix("Value error, ")
    for pattern, words in _WORDS.items():
        message = re.sub(pattern, words, message)
    return message[0].lower() + message[1:]


def _locate(loc: Sequence[int | str], tree: Any) -> tuple[list[str], list[str]]:
    """Follows pydantic's path to a problem through the declaration and through the file.

    Left out are the steps that the file does not have: those of a list given in its short form, and
    the names of alternatives.

    Returns:
        The keys as the file has them, and the keys that may stand where the last one stands.
    """
    keys: list[str] = []
    known: list[str] = []
    kinds: list[Any] = [Config]
    for step in loc[:-1] if loc[-1:] == (_KEY_ITSELF,) else loc:
        element = next((get_args(kind)[0] for kind in kinds if get_origin(kind) is list), None)
        entry = next((get_args(kind)[1] for kind in kinds if get_origin(kind) is dict), None)
        section = next((kind for kind in kinds if _is_section(kind)), None)
        if isinstance(step, int) and element is not None:
            kinds = _alternatives(element)
            if not isinstance(tree, list):
                continue
        elif entry is not None:
            kinds = _alternatives(entry)
        elif section is not None:
            known = list(section.model_fields)
            field = section.model_fields.get(str(step))
            kinds = _alternatives(field.annotation) if field else []
        else:
            continue
        keys.append(str(step))
        has_step = isinstance(tree, list) or (isinstance(tree, dict) and step in tree)
        tree = tree[step] if has_step else None
    return keys, known


def _alternatives(annotation: Any) -> list[Any]:
    """Takes ``Annotated`` and ``X | Y`` apart, down to sections, lists, mappings and values."""
    if get_origin(annotation) is Annotated:
        return _alternatives(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [kind for inner in get_args(annotation) for kind in _alternatives(inner)]
    return [annotation]


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
