"""A configuration of which only some keys can be read, and keys that have moved."""

from pathlib import Path

import pytest

from tfrec.config import load_config, parse_config
from tfrec.config.moved import MOVED, find_moved
from tfrec.config.view import UndeclaredSettingError, limit_config, pick_settings
from tfrec.errors import ConfigError

CONFIG = parse_config({"name": "shop", "data": {"source": "shop"}, "ranking": {"towers": "tuned"}})


def test_declared_sections_and_values_read_as_they_are():
    view = limit_config(CONFIG, ["retrieval", "encoder.source"], "stage towers")
    assert view.retrieval == CONFIG.retrieval
    assert view.encoder.source == "tiny"
    assert view.run == CONFIG.run  # determines nothing, so anybody may read it


@pytest.mark.parametrize(
    ("read", "key"),
    [
        (lambda view: view.seed, "seed"),
        (lambda view: view.evaluation.k, "evaluation"),
        (lambda view: view.encoder.dropout, "encoder.dropout"),
        (lambda view: view.encoder.pretraining, "encoder.pretraining"),
    ],
    ids=["value", "section", "value of a section", "section of a section"],
)
def test_undeclared_read_raises_at_once_and_names_reader_and_key(read, key: str):
    view = limit_config(CONFIG, ["retrieval", "encoder.source"], "stage towers")
    with pytest.raises(UndeclaredSettingError) as caught:
        read(view)
    assert str(caught.value).startswith(
        f"stage towers: reads the setting {key}, which it does not declare"
    )


def test_what_a_section_computes_reads_through_the_view():
    assert limit_config(CONFIG, ["ranking.towers"], "stage a").ranking.trains_towers
    with pytest.raises(UndeclaredSettingError, match=r"ranking\.towers"):
        _ = limit_config(CONFIG, ["ranking.epochs"], "stage a").ranking.trains_towers


def test_view_cannot_be_written_and_has_no_unknown_keys():
    view = limit_config(CONFIG, ["encoder.source"], "stage towers")
    with pytest.raises(AttributeError, match="read only"):
        view.encoder.source = "nano"
    with pytest.raises(AttributeError, match="no key 'sauce'"):
        _ = view.encoder.sauce
    with pytest.raises(AttributeError):  # what would tell everything at once
        view.encoder.model_dump()


def test_picked_settings_are_those_of_the_keys():
    assert pick_settings(CONFIG, ["seed", "encoder.source"]) == {
        "encoder.source": "tiny",
        "seed": 42,
    }
    with pytest.raises(ConfigError, match=r"no key 'encoder.sauce'\. Did you mean 'source'"):
        pick_settings(CONFIG, ["encoder.sauce"])


# Moved keys


def write(path: Path, text: str) -> Path:
    path.write_text(f"name: x\ndata: {{source: shop}}\n{text}\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("retrieval: {strategy: mirrored}", "retrieval.strategy", "run.strategy"),
        ("retrieval: {health: {alarm: warn}}", "retrieval.health.alarm", "run.health_alarm"),
    ],
)
def test_moved_key_is_refused_in_one_line_that_names_the_new_one(
    text: str, old: str, new: str, tmp_path: Path
):
    path = write(tmp_path / "x.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value) == f"{path}: '{old}' is now '{new}'."


def test_moved_key_in_an_override_is_refused_alike(tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path / "x.yaml", ""), ["retrieval.strategy=mirrored"])
    assert str(caught.value) == (
        "--set retrieval.strategy=mirrored: 'retrieval.strategy' is now 'run.strategy'."
    )


def test_star_stands_for_any_name_and_a_sentence_for_itself(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(MOVED, "ranking.heads.*.task", "is gone: say `event` or `value`.")
    assert find_moved(iter(["ranking.heads.like.task"])) == (
        "'ranking.heads.like.task' is gone: say `event` or `value`."
    )
    assert find_moved(iter(["ranking.heads.task", "ranking.heads.like.task.x"])) is None


def test_every_moved_key_names_one_that_there_is():
    keys = [new for new in MOVED.values() if " " not in new and "*" not in new]
    assert pick_settings(CONFIG, keys).keys() == set(keys)
    for old in MOVED:
        with pytest.raises(ConfigError):
            pick_settings(CONFIG, [old])
