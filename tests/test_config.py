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


def table(*parts: Any, **tables: Any) -> dict[str, Any]:
    """Returns a valid nested mapping of source `files`, the event table made of `parts`."""
    events = parts[0] if len(parts) == 1 else list(parts)
    return tree(data={"source": "files", "tables": {"events": events, **tables}})


def message(mapping: dict[str, Any]) -> str:
    """Returns the error of a mapping that is refused."""
    with pytest.raises(ConfigError) as caught:
        parse_config(mapping, origin="demo.yaml")
    return str(caught.value)


def reload(config: Config) -> Config:
    """Returns the configuration that the resolved form gives."""
    return parse_config(YAML(typ="safe", pure=True).load(config.to_yaml()))


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
        (tree(retrieval={"loss": {"temprature": 0.1}}), "retrieval.loss.temprature", "temperature"),
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
            data(source="files", tables={"events": {"pathh": "e.csv"}}),
            "data.tables.events.pathh",
            "path",
        ),
        (
            data(source="files", tables={"events": [{"path": "a.csv"}, {"pathh": "e.csv"}]}),
            "data.tables.events.1.pathh",
            "path",
        ),
        (
            table({"path": "e.csv", "steps": [{"where": "a"}, {"explod": ["a"]}]}),
            "data.tables.events.steps.1.explod",
            "explode",
        ),
        (
            table({"path": "e", "steps": [{"join": {"tabel": "m.csv", "on": ["a"]}}]}),
            "data.tables.events.steps.0.join.tabel",
            "table",
        ),
        (
            data(users={"features": {"age": {"type": "number", "missing": {"metod": "mean"}}}}),
            "data.users.features.age.missing.metod",
            "method",
        ),
        (data(cleaning={"k_core": {"user": 5}}), "data.cleaning.k_core.user", "users"),
        # Names of one's own may be those of keys.
        (
            data(items={"features": {"type": {"type": "number", "scales": "log"}}}),
            "data.items.features.type.scales",
            "scale",
        ),
        (
            data(events={"kind": "k", "kinds": {"label": {"lable": 1}}}),
            "data.events.kinds.label.lable",
            "label",
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
    known = "encoder, folder, k, portable, replay_rows"
    assert text == f"demo.yaml: unknown key 'export.zzz'. Known here: {known}."


@pytest.mark.parametrize(
    ("mapping", "where"),
    [
        (tree(seed="42"), "seed: "),
        (tree(seed=1.5), "seed: "),
        (tree(seed=True), "seed: "),
        (tree(name=7), "name: "),
        (tree(retrieval={"epochs": 2.0}), "retrieval.epochs: "),
        (tree(retrieval={"item": {"use_id": "yes"}}), "retrieval.item.use_id: "),
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
        (tree(retrieval={"loss": {"temperature": 0}}), "retrieval.loss.temperature: "),
        (tree(retrieval={"learning_rate": float("inf")}), "retrieval.learning_rate: "),
        (tree(retrieval={"learning_rate": float("nan")}), "retrieval.learning_rate: "),
        (tree(retrieval={"batch_size": 1}), "retrieval.batch_size: "),
        (tree(retrieval={"item": {"id_dropout": 1.0}}), "retrieval.item.id_dropout: "),
        (tree(retrieval={"loss": {"log_q": "yes"}}), "retrieval.loss.log_q: "),
        (tree(text={"max_item_tokens": 3}), "text.max_item_tokens: "),
        (tree(evaluation={"k": []}), "evaluation.k: "),
        (tree(evaluation={"k": [10, 0]}), "evaluation.k.1: "),
        (tree(index={"min_recall": 1.0}), "index.min_recall: "),
        (data(split={"test": 0.0}), "data.split: "),
        (data(split={"test": 0.5, "validation": 0.5}), "data.split: "),
        (data(items={"text": [""]}), "data.items.text.0: "),
        (data(events={"time": ""}), "data.events.time: "),
        (data(split={"folds": 2}), "data.split.folds: "),
        (data(split={"fold": -1}), "data.split.fold: "),
        (data(cleaning={"k_core": {"items": 0}}), "data.cleaning.k_core.items: "),
        (data(cleaning={"sessions": {"gap_minutes": 0}}), "data.cleaning.sessions.gap_minutes: "),
        (table([]), "data.tables.events: "),
        (table({"path": []}), "data.tables.events.path: "),
        (table({"path": ""}), "data.tables.events.path: "),
        (table({"path": "e", "columns": []}), "data.tables.events.columns: "),
        (table({"path": "e", "quote": "''"}), "data.tables.events.quote: "),
        (table({"path": "e", "steps": [{"explode": []}]}), "data.tables.events.steps.0.explode: "),
        (table({"path": "e", "steps": [{"compute": {}}]}), "data.tables.events.steps.0.compute: "),
        (table({"path": "e", "steps": [{"where": ""}]}), "data.tables.events.steps.0.where: "),
        (
            table({"path": "e", "steps": [{"join": {"table": "m", "on": []}}]}),
            "data.tables.events.steps.0.join.on: ",
        ),
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
            tree(data={"source": "files", "tables": {"items": "i.csv"}}),
            "demo.yaml: key 'data.tables.events' is missing.",
        ),
        (
            table({"path": "e", "steps": [{"join": {"table": "m.csv"}}]}),
            "demo.yaml: key 'data.tables.events.steps.0.join.on' is missing.",
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
            "`rating`, `positive_watch_time`, got `kind` and `rating`.",
        ),
        (
            {"label": "y", "watch_time": "w", "positive_watch_time": 3.0},
            "got `label` and `positive_",
        ),
        ({"positive_watch_time": 3.0}, "`positive_watch_time` needs `watch_time`"),
        (
            {"context": {"tags": "category_list"}},
            "`context.tags`: wanted a feature of type category or number or",
        ),
        ({"context": {"image": "vector"}}, "or date, got vector"),
        ({"kind": "kind", "kinds": {"click": {"label": 2}}}, "data.events.kinds.click.label"),
        ({"kind": "kind", "kinds": {"click": {}}}, "key 'data.events.kinds.click.label' is miss"),
        ({"kind": "kind", "kinds": {"view": {"label": 0}}}, "at least one of `kinds` with `label"),
        (
            {"kind": "kind", "kinds": {"view": {"label": 0}, "buy": {"label": 1, "target": False}}},
            "at least one of `kinds` with `label: 1` and `target: true`",
        ),
        ({"time": None, "time_format": "%Y"}, "`time_format` needs `time`"),
        ({"order": "shuffled"}, "without `time` and `sequence`, got `time: time`"),
        (
            {"time": None, "sequence": "n", "order": "shuffled"},
            "without `time` and `sequence`, got `sequence: n`",
        ),
        ({"user_id": "id", "item_id": "id"}, "two columns for `user_id` and `item_id`, got 'id'"),
        ({"sequence": "time"}, "two columns for `time` and `sequence`, got 'time'"),
        ({"label": "y", "weight": "y"}, "two columns for `label` and `weight`, got 'y'"),
        ({"query": "q", "impression": "q"}, "two columns for `query` and `impression`, got 'q'"),
        (
            {"rating": "stars", "positive_rating": 4, "context": {"stars": "number"}},
            "got 'stars' in events.context, the column of `rating`",
        ),
        (
            {"watch_time": "seconds", "context": {"seconds": "number"}},
            "got 'seconds' in events.context, the column of `watch_time`",
        ),
        (
            {"context": {"n": {"type": "number", "missing": "nearest"}}},
            "`context.n`: `missing: nearest` is for numbers of items and users",
        ),
    ],
)
def test_events_that_contradict_themselves_are_refused(events: dict[str, Any], expected: str):
    assert expected in message(data(events=events))


@pytest.mark.parametrize(
    "events",
    [
        {"rating": "stars", "positive_rating": 4, "weight": "stars"},
        {"watch_time": "s", "positive_watch_time": 10.0, "weight": "s"},
        {"time": "at", "context": {"at": "date"}},  # the hour is known before the answer
        {"time": None, "sequence": "n", "position": "n"},
    ],
)
def test_column_with_two_roles_that_agree_is_accepted(events: dict[str, Any]):
    parse_config(data(events=events, split={"kind": "leave_one_out"}))


@pytest.mark.parametrize("feature", ["category", "number", "date"])
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
        ({"events": {"context": {"sequence": "number"}}}, "sequence", "events.context"),
        ({"events": {"context": {"rating": "number"}}}, "rating", "events.context"),
        ({"events": {"context": {"last_gap": "number"}}}, "last_gap", "events.context"),
        ({"users": {"features": {"time": "date"}}}, "time", "users.features"),
        ({"users": {"text": ["history_kind"]}}, "history_kind", "users.text"),
        ({"items": {"item_id": "sku", "text": ["sku"]}}, "sku", "items.text"),
        ({"items": {"item_id": "sku", "features": {"sku": "category"}}}, "sku", "items.features"),
        ({"users": {"user_id": "uid", "features": {"uid": "category"}}}, "uid", "users.features"),
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


# Tables


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({}, "data.tables.events: wanted one of `path` and `tfds`."),
        ({"path": "a", "tfds": "b"}, "data.tables.events: wanted one of `path` and `tfds`."),
        ({"tfds": "b", "columns": ["a"]}, "`format` and `columns` are for `path`"),
        ({"tfds": "b", "format": "csv"}, "`format` and `columns` are for `path`"),
        ({"path": 3}, "data.tables.events.path: input should be a valid string or a valid list, g"),
        (
            {"path": ["a", 3]},
            "data.tables.events.path.1: input should be a valid string, got 3.",
        ),
        ({"path": "a", "columns": ["x", "y", "x"]}, "wanted each column once, got 'x' twice"),
        ({"path": "a", "format": "parquet", "columns": ["x"]}, "`columns` is for csv, parquet bri"),
        ({"path": "a", "delimiter": "'", "quote": "'"}, "wanted `quote` and `delimiter` to differ"),
        ({"path": "a", "delimiter": "", "columns": ["x", "y"]}, "give `columns` one name"),
        ({"path": "a", "encoding": "latin-11"}, "got 'latin-11'. Did you mean 'latin-1'?"),
        (
            {"path": "a", "encoding": "base64"},
            "events.encoding: wanted a text encoding that Python",
        ),
        ({"path": "a", "steps": {"where": "x"}}, "data.tables.events.steps: input should be a val"),
        ({"path": "a", "steps": ["x"]}, "data.tables.events.steps.0: input should be a mapping of"),
        (
            {"path": "a", "steps": [{}]},
            "wanted one of explode, compute, where, join a step, got 0.",
        ),
        (
            {"path": "a", "steps": [{"where": "x"}, {"where": "x", "explode": ["y"]}]},
            "data.tables.events.steps.1: wanted one of explode, compute, where, join a step, got "
            "explode, where.",
        ),
        (
            {"path": "a", "steps": [{"join": {"table": {}, "on": ["x"]}}]},
            "data.tables.events.steps.0.join.table: wanted one of `path` and `tfds`.",
        ),
    ],
)
def test_table_that_contradicts_itself_is_refused(part: dict[str, Any], expected: str):
    assert expected in message(table(part))


@pytest.mark.parametrize(
    "encoding",
    ["utf8", "UTF-8", "utf-8-sig", "utf-16", "latin-1", "cp1252", "shift_jis", "gb18030"],
)
def test_encoding_that_python_knows_is_accepted(encoding: str):
    assert parse_config(table({"path": "a", "encoding": encoding})).data.tables


def test_part_of_a_table_is_named_by_its_number_only_in_a_list():
    assert "data.tables.events.1.quote: " in message(table("a.csv", {"path": "a", "quote": 1}))
    assert "data.tables.events.quote: " in message(table({"path": "a", "quote": 1}))


SHORT_AND_LONG = [
    ("events.csv", [{"path": "events.csv"}]),
    ({"path": "events.csv"}, [{"path": "events.csv"}]),
    (["a.csv", {"path": "b.csv"}], [{"path": "a.csv"}, {"path": "b.csv"}]),
    (
        {"path": "a", "steps": [{"join": {"table": "m.csv", "on": ["x"]}}]},
        [{"path": "a", "steps": [{"join": {"table": {"path": "m.csv"}, "on": ["x"]}}]}],
    ),
]


@pytest.mark.parametrize(("short", "long"), SHORT_AND_LONG)
def test_table_in_short_and_long_form_is_equal(short: Any, long: Any):
    config = parse_config(table(short))
    assert config == parse_config(table(long))
    assert config.data.tables is not None
    assert [part.path for part in config.data.tables.events] == [part["path"] for part in long]


ITEMS = {"features": {"price": "number"}}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"source": "shop", "tables": {"events": "e"}},
            "`tables` is for source `files`, got sourc",
        ),
        ({"source": "tables", "tables": {"events": "e"}}, "`tables` is for source `files`, got so"),
        ({"items": ITEMS}, "`items.text` and `items.features` need `tables.items`"),
        ({"items": {"text": ["name"]}}, "`items.text` and `items.features` need `tables.items`"),
        ({"users": {"text": ["bio"]}}, "`users.text` and `users.features` need `tables.users`"),
        ({"users": ITEMS}, "`users.text` and `users.features` need `tables.users`"),
        (
            {"relations": {"features": {"by": "category_list"}}},
            "`tables.relations` and `relations.features` go together",
        ),
        (
            {"tables": {"events": "e", "items": "i", "relations": "r"}},
            "`tables.relations` and `relations.features` go together",
        ),
        (
            {
                "tables": {"events": "e", "relations": "r"},
                "relations": {"features": {"by": "category_list"}},
            },
            "`tables.relations` needs `tables.items`",
        ),
        (
            {
                "source": "shop",
                "tables": None,
                "relations": {"features": {"by": "category_list"}},
            },
            "source `shop` has no relations",
        ),
    ],
)
def test_declaration_without_its_table_is_refused(settings: dict[str, Any], expected: str):
    mapping = {"source": "files", "tables": {"events": "e"}, **settings}
    assert expected in message(tree(data=mapping))


def test_events_alone_are_accepted_and_round_trip():
    config = parse_config(table("e.csv"))
    assert reload(config) == config  # though the resolved form gives `items.text` its default


@pytest.mark.parametrize(
    ("relations", "expected"),
    [
        (
            {"features": {"by": "category"}},
            "`features.by`: wanted a feature of type category_list",
        ),
        ({"head": "a", "tail": "a"}, "wanted three columns for `head`, `relation` and `tail`"),
        (
            {"features": {"brand": "category_list"}},
            "got 'brand' in relations.features and in items",
        ),
        (
            {"features": {"name": "category_list"}},
            "got 'name' in relations.features and in items.t",
        ),
        ({"features": {"title": "category_list"}}, "got 'title' in relations.features and in res"),
    ],
)
def test_relations_that_meet_item_columns_are_refused(relations: dict[str, Any], expected: str):
    items = {"text": ["name"], "features": {"brand": "category"}}
    assert expected in message(data(source="tables", items=items, relations=relations))


def test_item_features_are_those_of_the_catalogue_then_of_relations():
    config = parse_config(
        data(
            source="tables",
            items=ITEMS,
            relations={"features": {"directed_by": "category_list"}},
        )
    )
    assert list(config.data.item_features) == ["price", "directed_by"]


# Features


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("category", {"type": "category", "min_count": 1}),
        (
            {"type": "number", "missing": "median"},
            {"type": "number", "missing": {"method": "median", "indicator": True}},
        ),
        (
            {"type": "number", "clip": "quantile"},
            {"type": "number", "clip": {"method": "quantile", "low": 0.01, "high": 0.99}},
        ),
        (
            {"type": "number", "clip": "z_score"},
            {"type": "number", "clip": {"method": "z_score", "limit": 4.0}},
        ),
    ],
)
def test_feature_in_short_and_long_form_is_equal(short: Any, long: Any):
    features = [parse_config(data(items={"features": {"x": form}})) for form in (short, long)]
    assert features[0] == features[1]


NUMBER = {"type": "number"}


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        ("numbr", "x.type: wanted one of category, category_list, number, vector, date, or pack"),
        ("numbr", "got 'numbr'. Did you mean 'number'?"),
        ({**NUMBER, "missing": "meadian"}, "x.missing.method: input should be 'unknown', "),
        ({**NUMBER, "missing": "meadian"}, "got 'meadian'. Did you mean 'median'?"),
        ({**NUMBER, "clip": "quantil"}, "got 'quantil'. Did you mean 'quantile'?"),
        ({**NUMBER, "missing": "constant"}, "x.missing: `value` goes with `method: constant`"),
        (
            {**NUMBER, "missing": {"method": "mean", "value": 1}},
            "x.missing: `value` goes with `method: constant`",
        ),
        (
            {**NUMBER, "missing": {"method": "constant", "value": True}},
            "x.missing.value: input should be a valid number or a valid string, got True.",
        ),
        (
            {**NUMBER, "missing": {"method": "constant", "value": "1"}},
            "x: wanted a number for missing values, got '1'",
        ),
        (
            {"type": "category", "missing": {"method": "constant", "value": 1}},
            "x: wanted text for missing values, got 1",
        ),
        (
            {"type": "category", "missing": {"method": "constant", "value": ""}},
            "x.missing: wanted a `value` that is not empty",
        ),
        (
            {**NUMBER, "missing": {"method": "mean", "neighbours": 3}},
            "x.missing: `neighbours` goes with `method: nearest`",
        ),
        (
            {"type": "category", "missing": {"indicator": False}},
            "x: `missing.indicator` does not go with `type: category`",
        ),
        (
            {"type": "category", "missing": "median"},
            "wanted `missing` to be one of unknown, constant, most_frequent, got 'median'",
        ),
        ({"type": "category_list", "missing": "most_frequent"}, "`missing` does not go with"),
        ({"type": "vector", "missing": "mean"}, "`missing` does not go with `type: vector`"),
        (
            {**NUMBER, "missing": "interpolate"},
            "`missing: interpolate` is for numbers of `events.c",
        ),
        (
            {"type": "category", "clip": "quantile"},
            "`clip` does not go with `type: category`",
        ),
        ({"type": "vector", "scale": "log"}, "`scale` does not go with `type: vector`"),
        ({**NUMBER, "oov_buckets": 3}, "`oov_buckets` does not go with `type: number`"),
        (
            {**NUMBER, "min_count": 3},
            "`min_count` does not go with `type: number`",
        ),
        (
            {"type": "category", "options": {"a": 1}},
            "x: `options` are for a type of your own, not for category",
        ),
        ({"type": "category", "oov_buckets": -1}, "x.oov_buckets: input should be greater than or"),
        ({"type": "category", "separator": ","}, "`separator` does not go with `type: category`"),
        ({"type": "category_list", "separator": ""}, "x.separator: wanted text that is not empty"),
        ({**NUMBER, "clip": {"method": "quantile", "low": 0.9, "high": 0.9}}, "`low` below `high`"),
        ({**NUMBER, "clip": {"method": "quantile", "low": 0.9, "high": 0.1}}, "`low` below `high`"),
        (
            {**NUMBER, "clip": {"method": "quantile", "high": 1.5}},
            "x.clip.high: input should be le",
        ),
        ({**NUMBER, "clip": {"method": "quantile", "limit": 3}}, "`limit` does not go with `metho"),
        (
            {**NUMBER, "clip": {"method": "z_score", "low": 0.1}},
            "`low` does not go with `method: z",
        ),
        (
            {**NUMBER, "clip": {"method": "z_score", "limit": 0}},
            "x.clip.limit: input should be gre",
        ),
        ({**NUMBER, "clip": {"low": 0.1}}, "key 'data.items.features.x.clip.method' is missing."),
    ],
)
def test_feature_that_contradicts_itself_is_refused(feature: Any, expected: str):
    text = message(data(items={"features": {"x": feature}}))
    assert "data.items" in text
    assert expected in text


@pytest.mark.parametrize(
    "feature",
    [
        {"type": "number", "scale": "log", "clip": "quantile", "missing": "nearest"},
        {"type": "date", "missing": "median", "clip": "z_score"},
        {"type": "number", "missing": {"method": "constant", "value": 3, "indicator": False}},
        {"type": "category", "missing": {"method": "constant", "value": "none"}, "oov_buckets": 8},
        {"type": "category_list", "separator": " > ", "min_count": 2, "oov_buckets": 4},
        {"type": "vector", "missing": "unknown"},
    ],
)
def test_feature_of_agreeing_settings_is_accepted(feature: Any):
    parse_config(data(items={"features": {"x": feature}}))


# Cleaning, splits, privacy


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"cleaning": {"earliest": "31.1.2020"}},
            "cleaning.earliest: wanted a date or time in ISO",
        ),
        (
            {"cleaning": {"earliest": "2020-02-01", "latest": "2020-01-01"}},
            "data.cleaning: wanted `latest` after `earliest`, got 2020-01-01 and 2020-02-01.",
        ),
        (
            {"cleaning": {"latest": "1969-12-31"}},
            "wanted `latest` after `earliest`, got 1969-12-31 and 1970-01-01",
        ),
        (
            {"cleaning": {"sessions": {"min_events": 3, "max_events": 2}}},
            "data.cleaning.sessions: wanted `max_events` not below `min_events`",
        ),
        (
            {
                "events": {"time": None},
                "split": {"kind": "user_ratio"},
                "cleaning": {"sessions": {"max_events": 100}},
            },
            "data: `test_from` and `sessions` need `events.time`.",
        ),
        ({"events": {"time": None}}, "data: `split.kind: time` needs `events.time`"),
        ({"split": {"kind": "given"}}, "`split.kind: given` needs `events.split`"),
        ({"split": {"kind": "timee"}}, "got 'timee'. Did you mean 'time'?"),
        ({"split": {"test_from": "2020-01-01"}}, "`validation_from` and `test_from` go together"),
        (
            {
                "split": {
                    "kind": "random",
                    "validation_from": "2020-01-01",
                    "test_from": "2020-01-02",
                }
            },
            "`test_from` is for `kind: time`",
        ),
        (
            {"split": {"validation_from": "2020-01-02", "test_from": "2020-01-02"}},
            "wanted `test_from` after `validation_from`, got 2020-01-02 and 2020-01-02",
        ),
        (
            # 23:30 in London is before 01:00 in Berlin of the next day, but only by half an hour.
            {
                "split": {
                    "validation_from": "2020-01-01T23:30:00",
                    "test_from": "2020-01-02T00:00:00+01:00",
                }
            },
            "wanted `test_from` after `validation_from`",
        ),
        (
            {"split": {"kind": "k_fold", "fold": 5}},
            "`fold` counts from 0 and must be below `folds`",
        ),
        ({"split": {"fold": 1}}, "`folds`, `fold` and `by` are for `kind: k_fold`."),
        (
            {"split": {"kind": "random", "by": "users"}},
            "`folds`, `fold` and `by` are for `kind: k_fold`; `kind: users` splits by users",
        ),
        (
            {"privacy": {"never_write": "zip"}},
            "data.privacy.never_write: input should be a valid l",
        ),
        (
            {"privacy": {"never_write": ["user_id"]}},
            "names 'user_id', which `events.user_id` reads",
        ),
        ({"privacy": {"never_write": ["time"]}}, "names 'time', which `events.time` reads"),
        ({"privacy": {"never_write": ["title"]}}, "names 'title', which `items.title` reads"),
        (
            {"privacy": {"never_write": ["what"]}, "events": {"kind": "what", "kinds": KINDS}},
            "names 'what', which `events.kind` reads",
        ),
        (
            {"privacy": {"never_write": ["age"]}, "users": {"features": {"age": "number"}}},
            "names 'age', which `users.features` reads",
        ),
        (
            {"privacy": {"never_write": ["place"]}, "events": {"context": {"place": "category"}}},
            "names 'place', which `events.context` reads",
        ),
        (
            {
                "source": "files",
                "tables": {"events": {"path": "e", "steps": [{"explode": ["ids"]}]}},
                "privacy": {"never_write": ["ids"]},
            },
            "names 'ids', which `tables.events` reads",
        ),
        (
            {
                "source": "files",
                "tables": {
                    "events": "e",
                    "users": [
                        "u.csv",
                        {"path": "v.csv", "steps": [{"join": {"table": "z.csv", "on": ["zip"]}}]},
                    ],
                },
                "privacy": {"never_write": ["zip"]},
            },
            "names 'zip', which `tables.users` reads",
        ),
        (
            {
                "source": "tables",
                "privacy": {"never_write": ["tail"]},
                "relations": {"features": {"by": "category_list"}},
            },
            "names 'tail', which `relations.tail` reads",
        ),
    ],
)
def test_cleaning_split_or_privacy_that_contradicts_is_refused(
    settings: dict[str, Any], expected: str
):
    assert expected in message(data(**settings))


@pytest.mark.parametrize("key", ["deadbeef42", "s3cret!", "correct horse", "", "1KEY"])
def test_pseudonym_key_in_place_of_its_name_is_refused_and_not_shown(key: str):
    text = message(data(privacy={"pseudonym_key": key}))
    assert "wanted the name of an environment variable" in text
    assert not key or key not in text


def test_column_that_only_an_absent_table_would_read_may_stay_unwritten():
    mapping = table("e.csv")  # without items the role `items.title`, by default title, is idle
    mapping["data"]["privacy"] = {"never_write": ["zip", "title"], "pseudonym_key": "TFREC_KEY"}
    assert parse_config(mapping).data.privacy.never_write == ["zip", "title"]
    mapping["data"]["tables"]["items"] = "i.csv"
    assert "names 'title', which `items.title` reads" in message(mapping)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2020-01-31", "2020-01-31"),
        ("'2020-01-31'", "2020-01-31"),
        ("2020-01-31T07:30:00", "2020-01-31T07:30:00"),
        ("2020-01-31 07:30:00+02:00", "2020-01-31T07:30:00+02:00"),
    ],
)
def test_moment_with_and_without_quotes_is_read_and_round_trips(write, written: str, expected: str):
    config = load_config(write(MINIMAL + f"  cleaning:\n    earliest: {written}\n"))
    assert config.data.cleaning.earliest == expected
    assert reload(config) == config


def test_name_that_yaml_reads_as_number_is_to_be_quoted():
    assert message(data(events={"kind": "kind", "kinds": {1: {"label": 1}}})) == (
        "demo.yaml: data.events.kinds.1: wanted text as name, got 1. Put it in quotes."
    )


def test_long_value_is_cut_in_the_message():
    text = message(data(privacy={"never_write": {"a": 1}}, source=["x" * 500]))
    assert len(text) < 250


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


@pytest.mark.parametrize(
    ("retrieval", "words"),
    [
        ({"loss": {"kind": "full_softmax", "negatives": {"uniform": 5}}}, "negatives.uniform"),
        ({"loss": {"kind": "mse", "targets": "positions"}}, "targets: positions"),
        ({"loss": {"targets": "users"}}, "kind: full_softmax"),
        ({"loss": {"kind": "full_softmax", "targets": "users"}}, "history.kind: none"),
        ({"loss": {"negatives": {"in_batch": False}}}, "wanted negatives"),
        ({"embedding_dim": 10, "user": {"history": {"kind": "transformer", "heads": 4}}}, "heads"),
    ],
)
def test_retrieval_settings_that_contradict_are_refused(retrieval: dict[str, Any], words: str):
    assert words in message(tree(retrieval=retrieval))


# Overrides


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("seed=7", "seed", 7),
        ("retrieval.loss.temperature=1e-3", "retrieval.loss.temperature", 0.001),
        ("retrieval.loss.temperature=1", "retrieval.loss.temperature", 1.0),
        ("retrieval.user.use_id=false", "retrieval.user.use_id", False),
        ("evaluation.k=[5, 20]", "evaluation.k", [5, 20]),
        ("data.path=/data/a=b.csv", "data.path", "/data/a=b.csv"),
        ("data.path=null", "data.path", None),
        ("data.path=", "data.path", ""),
        ("data.path=a: b: c", "data.path", "a: b: c"),  # no YAML, so text
        ("encoder.pretraining.steps=0", "encoder.pretraining.steps", 0),  # makes both sections
        ("index={kind: exact}", "index.kind", "exact"),
        ("name='123'", "name", "123"),
        ("data.split.kind=users", "data.split.kind", "users"),
        ("data.split={kind: k_fold, fold: 1}", "data.split.fold", 1),
        ("data.cleaning.k_core.users=5", "data.cleaning.k_core.users", 5),
        ("data.cleaning.latest=2026-01-31", "data.cleaning.latest", "2026-01-31"),
        ("data.privacy.never_write=[zip]", "data.privacy.never_write", ["zip"]),
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


TABLES = """
name: demo
data:
  source: files
  tables:
    events:
      - a.csv
      - {path: b.csv, steps: [{where: x}]}
    items: {path: i.csv}
  split: {kind: k_fold}
"""


def test_override_reaches_into_lists_and_short_forms(write):
    overrides = [
        "data.tables.events.0=c.csv",
        "data.tables.events.1.encoding=latin-1",
        "data.tables.events.1.steps.0.where=y",
        "data.tables.items=j.csv",
        "data.split.fold=1",
    ]
    config = load_config(write(TABLES), overrides)
    assert config.data.tables is not None
    assert config.data.tables.items is not None
    first, second = config.data.tables.events
    assert (first.path, second.encoding, second.steps[0].where) == ("c.csv", "latin-1", "y")
    assert config.data.tables.items[0].path == "j.csv"
    assert config.data.split.fold == 1


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "data.tables.events.2.path=x",
            "wanted the number of a part of the list, 0 to 1, got '2'.",
        ),
        (
            "data.tables.events.path=x",
            "wanted the number of a part of the list, 0 to 1, got 'path'",
        ),
        ("data.tables.events.-1=x", "wanted the number of a part of the list, 0 to 1, got '-1'."),
        ("data.tables.events.0.path=x", "'0' is a value, not a section."),
        (
            "data.tables.items.pathh=x",
            "unknown key 'data.tables.items.pathh'. Did you mean 'path'?",
        ),
        ("data.split.fold=5", "data.split: `fold` counts from 0 and must be below `folds`."),
    ],
)
def test_override_that_misses_a_part_of_a_list_is_refused(write, override: str, expected: str):
    with pytest.raises(ConfigError) as caught:
        load_config(write(TABLES), [override])
    assert expected in str(caught.value)


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
    assert reload(config) == config
    assert path.stem == config.name  # `tfrec train configs/x.yaml` writes runs/x


def test_shipped_configurations_exist():
    assert {"shop.yaml", "movielens.yaml"} <= {path.name for path in CONFIGS}


def test_round_trip_of_unusual_values_keeps_them():
    config = parse_config(
        tree(
            name="no.1",
            seed=0,
            retrieval={"loss": {"temperature": 1e-07}, "weight_decay": 0},
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
    again = reload(config)
    assert again == config
    assert again.data.tables is not None
    assert again.data.tables.items is not None
    assert again.data.tables.items[0].columns == ["1", "yes", "~"]


EVERYTHING = """
name: everything
data:
  source: files
  path: raw
  tables:
    events:
      - path: [a/*.csv.gz, b.csv]
        format: csv
        delimiter: "::"
        quote: ""
        encoding: latin-1
        columns: [u, i, t, k, extra]
        steps:
          - explode: [i, k]
          - compute: {day: "CAST(t AS DATE)", "null": "'~'"}
          - where: k <> 'robot'
          - join: {table: {path: ids.csv, steps: [{where: a > 1}]}, on: [i]}
      - {tfds: movielens/100k-ratings, tfds_split: test}
    items: items.parquet
    users: [u.jsonl, v.jsonl]
    relations: {path: triples.tsv}
  events:
    user_id: u
    item_id: i
    time: t
    time_format: "%m/%d/%Y"
    time_unit: ms
    sequence: n
    kind: k
    kinds:
      "1": {label: 1, weight: 2.5, ranked: false}
      "yes": {label: 0, target: false}
    watch_time: w
    weight: w
    impression: list
    query: q
    position: place
    split: part
    true_probability: p
    context:
      device: {type: category, oov_buckets: 4, missing: most_frequent}
      temperature: {type: number, missing: interpolate, clip: z_score}
      since: date
  items:
    item_id: sku
    title:
    text: []
    features:
      price:
        type: number
        scale: log
        clip: {method: quantile, low: 0.0, high: 0.9}
        missing: {method: nearest, neighbours: 3, indicator: false}
      brand: {type: category, min_count: 3, missing: {method: constant, value: none}}
      tags: {type: category_list, separator: ";"}
      image: vector
    duplicates: last
  users:
    user_id: u
    text: [bio]
    features:
      age: {type: number, missing: median}
    duplicates: first
  relations: {head: h, relation: r, tail: t, features: {directed_by: category_list}}
  unknown_items: drop
  cleaning:
    bad_cells: repair
    duplicates: keep
    earliest: 2019-12-31
    latest: 2026-01-01T12:00:00+01:00
    sessions: {gap_minutes: 20.5, min_events: 2, max_events: 500}
    k_core: {users: 5, items: 3}
    html: false
    max_text_chars: 100
  split: {kind: k_fold, folds: 4, fold: 3, by: users, validation: 0.2, test: 0.3}
  privacy: {pseudonym_key: TFREC_KEY, never_write: [zip, email]}
  max_history: 7
"""


def test_round_trip_of_a_configuration_that_uses_every_section(write):
    config = load_config(write(EVERYTHING))
    again = load_config(write(config.to_yaml()))
    assert again == config
    assert again.to_yaml() == config.to_yaml()
    assert again.data.tables is not None
    assert [part.tfds for part in again.data.tables.events] == [None, "movielens/100k-ratings"]
    assert list(again.data.events.kinds) == ["1", "yes"]
    assert again.data.items.features["brand"].missing.value == "none"
    assert again.data.cleaning.earliest == "2019-12-31"


def test_config_is_frozen():
    config: Config = parse_config(tree())
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3
