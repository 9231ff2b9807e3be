from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tfrec.config import Config, load_config, parse_config
from tfrec.errors import ConfigError

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))
MINIMAL = "name: demo\ndata:\n  source: shop\n"


def tree(**sections: Any) -> dict[str, Any]:
    """Returns a valid nested mapping with `sections` replaced."""
    return {"name": "demo", "data": {"source": "shop"}, **sections}


def data(**settings: Any) -> dict[str, Any]:
    """Returns a valid nested mapping with `settings` in its data section."""
    return tree(data={"source": "shop", **settings})


def message(mapping: dict[str, Any]) -> str:
    """Returns the error of a mapping that is refused."""
    with pytest.raises(ConfigError) as caught:
        parse_config(mapping, origin="demo.yaml")
    return str(caught.value)


@pytest.fixture
def write(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "demo.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


# What is refused, and how it is said


@pytest.mark.parametrize(
    ("mapping", "key", "meant"),
    [
        (tree(retreival={}), "retreival", "retrieval"),
        (tree(retrieval={"temprature": 0.1}), "retrieval.temprature", "temperature"),
        (tree(encoder={"pretraining": {"step": 3}}), "encoder.pretraining.step", "steps"),
        (
            data(events={"kind": "k", "kinds": {"click": {"lable": 1}}}),
            "data.events.kinds.click.lable",
            "label",
        ),
        (
            data(items={"features": {"price": {"type": "number", "scales": "log"}}}),
            "data.items.features.price.scales",
            "scale",
        ),
        (
            tree(data={"source": "files", "tables": {"events": {"pathh": "e.csv"}}}),
            "data.tables.events.pathh",
            "path",
        ),
    ],
)
def test_unknown_key_at_any_depth_names_key_and_nearest(
    mapping: dict[str, Any], key: str, meant: str
):
    assert message(mapping).startswith(
        f"demo.yaml: unknown key {key!r}. Did you mean {meant!r}? Known here: "
    )


def test_unknown_key_resembling_nothing_lists_known_ones_only():
    text = message(tree(export={"zzz": 1}))
    assert text == "demo.yaml: unknown key 'export.zzz'. Known here: folder, k, replay_rows."


@pytest.mark.parametrize(
    ("mapping", "where"),
    [
        (tree(seed="42"), "seed: "),
        (tree(seed=1.5), "seed: "),
        (tree(seed=True), "seed: "),
        (tree(name=7), "name: "),
        (tree(retrieval={"epochs": 2.0}), "retrieval.epochs: "),
        (tree(retrieval={"log_q_correction": "yes"}), "retrieval.log_q_correction: "),
        (tree(retrieval=None), "retrieval: "),
        (tree(retrieval=[1]), "retrieval: "),
        (tree(ranking={"hidden": [64, "32"]}), "ranking.hidden.1: "),
        (data(source="csv"), "data.source: "),
        (data(items={"features": {"price": "numbr"}}), "data.items.features.price.type: "),
        (data(unknown_items="ignore"), "data.unknown_items: "),
        ({1: 2, **tree()}, "1: "),
    ],
)
def test_value_of_wrong_type_names_key(mapping: dict[str, Any], where: str):
    assert message(mapping).startswith(f"demo.yaml: {where}")


@pytest.mark.parametrize(
    ("mapping", "where"),
    [
        (tree(seed=-1), "seed: "),
        (tree(seed=2**31), "seed: "),
        (tree(name="a/b"), "name: "),
        (tree(name=""), "name: "),
        (tree(name=".hidden"), "name: "),
        (tree(retrieval={"temperature": 0}), "retrieval.temperature: "),
        (tree(retrieval={"temperature": float("inf")}), "retrieval.temperature: "),
        (tree(retrieval={"temperature": float("nan")}), "retrieval.temperature: "),
        (tree(retrieval={"batch_size": 1}), "retrieval.batch_size: "),
        (tree(retrieval={"id_dropout": 1.0}), "retrieval.id_dropout: "),
        (tree(text={"max_item_tokens": 3}), "text.max_item_tokens: "),
        (tree(evaluation={"k": []}), "evaluation.k: "),
        (tree(evaluation={"k": [10, 0]}), "evaluation.k.1: "),
        (tree(index={"min_recall": 1.0}), "index.min_recall: "),
        (data(split={"test": 0.0}), "data.split: "),
        (data(split={"test": 0.5, "validation": 0.5}), "data.split: "),
        (data(items={"text": []}), "data.items.text: "),
        (data(scale=0.0), "data.scale: "),
        (data(events={"rating": "r", "positive_rating": float("nan")}), "data.events.positive_rat"),
    ],
)
def test_value_out_of_range_names_key(mapping: dict[str, Any], where: str):
    assert message(mapping).startswith(f"demo.yaml: {where}")


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"name": "demo"}, "demo.yaml: key 'data' is missing."),
        ({"name": "demo", "data": {}}, "demo.yaml: key 'data.source' is missing."),
        (
            tree(data={"source": "files", "tables": {"events": {"path": "e.csv"}}}),
            "demo.yaml: key 'data.tables.items' is missing.",
        ),
        (tree(data={"source": "files"}), "demo.yaml: data: source `files` needs `tables`."),
    ],
)
def test_missing_key_is_named(mapping: dict[str, Any], expected: str):
    assert message(mapping) == expected


def test_several_problems_are_counted():
    text = message(tree(seed=-1, retrieval={"epochs": 0, "temprature": 1}))
    assert "unknown key 'retrieval.temprature'" in text  # first, since it may explain the others
    assert text.endswith("(2 more problems)")


KINDS = {"click": {"label": 1}}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ({"kind": "kind"}, "`kind` and `kinds` go together: give both or neither"),
        ({"kinds": KINDS}, "`kind` and `kinds` go together: give both or neither"),
        ({"rating": "r"}, "`rating` and `positive_rating` go together: give both or neither"),
        ({"positive_rating": 4}, "`rating` and `positive_rating` go together"),
        (
            {"kind": "kind", "kinds": KINDS, "rating": "r", "positive_rating": 4},
            "labels come from `kind` or from `rating`, not from both",
        ),
        ({"context": {"tags": "category_list"}}, "`context` features are of type category or"),
        ({"context": {"image": "vector"}}, "`context` features are of type category or number"),
        ({"kind": "kind", "kinds": {"click": {"label": 2}}}, "data.events.kinds.click.label"),
        ({"kind": "kind", "kinds": {"click": {}}}, "key 'data.events.kinds.click.label' is miss"),
    ],
)
def test_events_that_contradict_themselves_are_refused(events: dict[str, Any], expected: str):
    assert expected in message(data(events=events))


@pytest.mark.parametrize("feature", ["category", "number"])
def test_context_feature_of_allowed_type_is_accepted(feature: str):
    config = parse_config(data(events={"context": {"device": feature}}))
    assert config.data.events.context["device"].type == feature


# Names that would meet in one signature or table


@pytest.mark.parametrize(
    ("settings", "name", "places"),
    [
        ({"users": {"features": {"user_id": "category"}}}, "user_id", "users.features"),
        ({"users": {"features": {"history": "category_list"}}}, "history", "users.features"),
        ({"users": {"text": ["query"]}}, "query", "users.text"),
        ({"events": {"context": {"query": "category"}}}, "query", "events.context"),
        ({"events": {"context": {"item_id": "category"}}}, "item_id", "events.context"),
        ({"users": {"text": ["bio"], "features": {"bio": "category"}}}, "bio", "users.text"),
        (
            {"users": {"features": {"age": "number"}}, "events": {"context": {"age": "number"}}},
            "age",
            "users.features",
        ),
        (
            {"users": {"text": ["place"]}, "events": {"context": {"place": "category"}}},
            "place",
            "users.text",
        ),
        ({"users": {"text": ["bio", "bio"]}}, "bio", "users.text"),
        ({"items": {"text": ["item_id"]}}, "item_id", "items.text"),
        ({"items": {"features": {"item_id": "category"}}}, "item_id", "items.features"),
        ({"items": {"text": ["brand"], "features": {"brand": "category"}}}, "brand", "items.text"),
        ({"items": {"text": ["a"], "features": {"title": "category"}}}, "title", "items.features"),
        ({"users": {"features": {"text": "category"}}}, "text", "users.features"),
        ({"events": {"context": {"position": "number"}}}, "position", "events.context"),
        ({"events": {"context": {"label": "category"}}}, "label", "events.context"),
    ],
)
def test_name_used_twice_in_one_signature_is_refused(
    settings: dict[str, Any], name: str, places: str
):
    text = message(data(**settings))
    assert f"got {name!r} in " in text
    assert places in text


def test_name_in_both_signatures_is_accepted():
    config = parse_config(
        data(
            users={"features": {"category": "category"}, "text": ["title"]},
            items={"features": {"category": "category", "query": "category"}},
        )
    )
    assert list(config.data.items.features) == ["category", "query"]


# Files


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: demo\ndata: [1, 2\nseed: 3\n", ", line 3: not valid YAML: "),
        ("name: demo\n\tdata: 1\n", ", line 2: not valid YAML: "),
        (MINIMAL + "seed: 1\nname: again\n", ", line 5: not valid YAML: "),
        (MINIMAL + "  path: a\n  path: b\n", ", line 5: not valid YAML: "),
        ("", ": wanted a mapping of sections, got NoneType."),
        ("- name\n- data\n", ": wanted a mapping of sections, got list."),
        ("demo\n", ": wanted a mapping of sections, got str."),
    ],
)
def test_file_that_is_no_configuration_names_file_and_line(write, text: str, expected: str):
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}{expected}")
    assert "\n" not in str(caught.value)


def test_duplicate_key_is_named(write):
    with pytest.raises(ConfigError, match='duplicate key "seed"'):
        load_config(write(MINIMAL + "seed: 1\nseed: 2\n"))


def test_missing_file_names_nearest(write):
    path = write(MINIMAL)
    with pytest.raises(ConfigError) as caught:
        load_config(path.with_name("dmo.yaml"))
    assert str(caught.value) == (
        f"{path.with_name('dmo.yaml')}: no such configuration file. Did you mean {str(path)!r}?"
    )


def test_folder_and_bytes_in_place_of_file_are_refused(tmp_path: Path):
    (tmp_path / "latin.yaml").write_bytes("name: é".encode("latin-1"))
    for path in (tmp_path, tmp_path / "latin.yaml"):
        with pytest.raises(ConfigError, match="cannot be read as UTF-8 text"):
            load_config(path)


# Overrides


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("seed=7", "seed", 7),
        ("retrieval.temperature=1e-3", "retrieval.temperature", 0.001),
        ("retrieval.temperature=1", "retrieval.temperature", 1.0),
        ("retrieval.use_user_id=false", "retrieval.use_user_id", False),
        ("evaluation.k=[5, 20]", "evaluation.k", [5, 20]),
        ("data.path=/data/a=b.csv", "data.path", "/data/a=b.csv"),
        ("data.path=null", "data.path", None),
        ("data.path=", "data.path", ""),
        ("data.path=a: b: c", "data.path", "a: b: c"),  # no YAML, so text
        ("encoder.pretraining.steps=0", "encoder.pretraining.steps", 0),  # makes both sections
        ("index={kind: exact}", "index.kind", "exact"),
        ("name='123'", "name", "123"),
    ],
)
def test_override_is_typed_as_yaml(write, override: str, key: str, value: object):
    node: Any = load_config(write(MINIMAL), [override])
    for step in key.split("."):
        node = getattr(node, step)
    assert node == value
    assert type(node) is type(value)


def test_overrides_of_one_key_last_wins_and_neighbours_stay(write):
    path = write(MINIMAL + "retrieval:\n  epochs: 3\n  batch_size: 64\n")
    config = load_config(path, ["retrieval.epochs=4", "retrieval.epochs=5"])
    assert (config.retrieval.epochs, config.retrieval.batch_size) == (5, 64)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "--set seed: wanted section.key=value."),
        ("=3", "--set =3: wanted section.key=value."),
        ("", "--set : wanted section.key=value."),
        ("name.first=3", "--set name.first=3: 'name' is a value, not a section."),
        ("data.source.a=3", "--set data.source.a=3: 'source' is a value, not a section."),
        ("retrieval=3", "retrieval: input should be"),
        ("retrieval.epoch=3", "unknown key 'retrieval.epoch'. Did you mean 'epochs'?"),
        ("retrieval.epochs=three", "retrieval.epochs: input should be a valid integer"),
    ],
)
def test_override_that_does_not_fit_is_refused(write, override: str, expected: str):
    with pytest.raises(ConfigError) as caught:
        load_config(write(MINIMAL), [override])
    assert expected in str(caught.value)


# What is accepted


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_configuration_loads_and_round_trips(path: Path):
    config = load_config(path)
    again = parse_config(YAML(typ="safe", pure=True).load(config.to_yaml()))
    assert again == config
    assert path.stem == config.name  # `tfrec train configs/x.yaml` writes runs/x


def test_shipped_configurations_exist():
    assert {"shop.yaml", "movielens.yaml"} <= {path.name for path in CONFIGS}


def test_round_trip_of_unusual_values_keeps_them():
    config = parse_config(
        tree(
            name="no.1",
            seed=0,
            retrieval={"temperature": 1e-07, "weight_decay": 0},
            data={
                "source": "files",
                "tables": {
                    "events": {"path": "é\t#.csv", "delimiter": "\t"},
                    "items": {"path": "no", "delimiter": "|", "columns": ["1", "yes", "~"]},
                },
                "items": {"item_id": "1", "text": ["yes"], "features": {"null": "number"}},
            },
        )
    )
    again = parse_config(YAML(typ="safe", pure=True).load(config.to_yaml()))
    assert again == config
    assert again.data.tables is not None
    assert again.data.tables.items.columns == ["1", "yes", "~"]


def test_feature_in_short_and_long_form_is_equal():
    short = parse_config(data(items={"features": {"brand": "category"}}))
    long = parse_config(data(items={"features": {"brand": {"type": "category", "min_count": 1}}}))
    assert short == long


def test_config_is_frozen():
    config: Config = parse_config(tree())
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3
