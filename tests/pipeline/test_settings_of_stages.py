"""Of every key of the configuration: which stage runs again first when it changes.

Nothing is trained: a stage runs again exactly if its fingerprint is another.
"""

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel

from tfrec.config import Config, ExtraStage, load_config
from tfrec.config.ranking import Teacher
from tfrec.config.tables import TableFiles
from tfrec.files import write_file, write_json
from tfrec.pipeline import Pipeline
from tfrec.pipeline.run import CONFIG_FILE, STAGE_FILE, Run
from tfrec.pipeline.stage import Stage

CONFIGS = Path(__file__).parents[2] / "configs"

NONE = "none"
FIRST_STAGES = {
    NONE: """
        runs stages run.strategy run.jit_compile run.checkpoint_seconds run.health_alarm
        tuning.metric tuning.trials tuning.ranges
    """,
    "prepare": """
        seed data.source data.path data.tfds_name data.scale data.tables data.unknown_items
        data.max_history data.events.user_id data.events.item_id data.events.time
        data.events.time_format data.events.time_unit data.events.sequence data.events.order
        data.events.kind data.events.kinds data.events.label data.events.rating
        data.events.positive_rating data.events.watch_time data.events.positive_watch_time
        data.events.weight data.events.impression data.events.query data.events.position
        data.events.split data.events.true_probability data.events.context data.items.item_id
        data.items.title data.items.text data.items.features data.items.duplicates
        data.users.user_id data.users.text data.users.features data.users.duplicates
        data.relations.head data.relations.relation data.relations.tail data.relations.features
        data.cleaning.bad_cells data.cleaning.duplicates data.cleaning.earliest
        data.cleaning.latest data.cleaning.sessions data.cleaning.k_core data.cleaning.html
        data.cleaning.max_text_chars data.split.kind data.split.validation data.split.test
        data.split.validation_from data.split.test_from data.split.folds data.split.fold
        data.split.by data.privacy.pseudonym_key data.privacy.never_write
    """,
    "vocabulary": "text.vocabulary_size encoder.source",
    "tokens": "text.max_item_tokens text.max_query_tokens",
    "pretraining": """
        encoder.kind encoder.options encoder.dropout encoder.pretraining.steps
        encoder.pretraining.batch_size
        encoder.pretraining.learning_rate encoder.pretraining.mask_rate
    """,
    "retrieval": """
        encoder.adaptation encoder.trained_layers encoder.lora_rank encoder.pooling
        retrieval.embedding_dim retrieval.item.use_id retrieval.item.fusion.kind
        retrieval.item.fusion.options retrieval.item.parts retrieval.user.parts
        retrieval.user.history.options
        retrieval.item.text_scale retrieval.item.id_dropout retrieval.item.feature_dropout
        retrieval.user.use_id retrieval.user.id_dropout retrieval.user.dropout
        retrieval.user.hidden_layer retrieval.user.history.kind retrieval.user.history.layers
        retrieval.user.history.heads retrieval.user.history.dropout
        retrieval.user.history.event_kinds retrieval.user.history.time_gaps retrieval.loss.kind
        retrieval.loss.options retrieval.loss.negatives.samplers retrieval.optimizer.kind
        retrieval.optimizer.options retrieval.loss.targets retrieval.loss.similarity
        retrieval.loss.temperature
        retrieval.loss.learn_temperature retrieval.loss.log_q retrieval.loss.mask_known_positives
        retrieval.loss.label_smoothing retrieval.loss.negatives.in_batch
        retrieval.loss.negatives.uniform retrieval.loss.negatives.popular
        retrieval.loss.negatives.per_target retrieval.loss.negatives.impressed
        retrieval.loss.negatives.mined retrieval.loss.negatives.mined_depth
        retrieval.loss.negatives.queue retrieval.loss.adversarial.method
        retrieval.loss.adversarial.epsilon retrieval.loss.adversarial.steps
        retrieval.loss.adversarial.weight retrieval.batch_size retrieval.epochs
        retrieval.learning_rate retrieval.encoder_learning_rate retrieval.weight_decay
        retrieval.id_weight_decay retrieval.gradient_memory retrieval.schedule.kind
        retrieval.schedule.warmup retrieval.average_decay retrieval.patience
        retrieval.gradient_cache retrieval.mixed_precision retrieval.validation_k
        retrieval.validation_remove_seen
    """,
    "candidates": """
        candidates.sources candidates.rank_constant candidates.neighbours candidates.matches
        candidates.item_knn.neighbours candidates.item_knn.shrinkage candidates.ease.penalty
        candidates.ease.max_items
    """,
    "ranking": """
        ranking.towers ranking.tower_learning_rate ranking.retrieval_loss_weight ranking.hidden
        ranking.cross_layers ranking.cross_rank ranking.feature_dim ranking.attention.use
        ranking.attention.heads ranking.attention.units ranking.time_features
        ranking.item_statistics ranking.heads ranking.negatives.uniform
        ranking.negatives.retrieved ranking.negatives.depth ranking.batch_size ranking.epochs
        ranking.learning_rate ranking.weight_decay ranking.dropout ranking.patience
        ranking.calibration.kind ranking.calibration.options ranking.layers
        ranking.sparsity ranking.teacher ranking.optimizer.kind ranking.optimizer.options
    """,
    "order": "ranking.retrieval_weight index.candidates",
    "index": "index.kind index.options index.min_recall index.precision export.portable",
    "evaluation": """
        name evaluation.k evaluation.max_contexts evaluation.remove_seen evaluation.bootstrap
        evaluation.baselines evaluation.ranking_baselines evaluation.item_knn.neighbours
        evaluation.item_knn.shrinkage evaluation.ease.penalty evaluation.ease.max_items
        evaluation.ials.factors evaluation.ials.regularization evaluation.ials.alpha
        evaluation.ials.iterations evaluation.metrics export.encoder export.k
        filters.attributes filters.available filters.unsafe filters.caps
    """,
    "export": "export.folder export.replay_rows",
}
FIRST_STAGE = {key: stage for stage, keys in FIRST_STAGES.items() for key in keys.split()}


def section_of(annotation: Any) -> type[BaseModel] | None:
    """Returns the section that stands at a key by itself, not in a list or a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Annotated, Union, UnionType):
        found = (section_of(argument) for argument in get_args(annotation))
        return next((section for section in found if section), None)
    return None


def walk(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields dotted key and annotation of every value; a list or a mapping is one value."""
    for name, field in section.model_fields.items():
        inner = section_of(field.annotation)
        if inner is None or field.get_default(call_default_factory=True) is None:
            yield f"{prefix}{name}", field.annotation
        else:
            yield from walk(inner, f"{prefix}{name}.")


ANNOTATIONS = dict(walk(Config))


class Own(Stage):
    """A stage of somebody else."""

    name = "own"

    def write(self, run: Run, folder: Path) -> None:
        raise NotImplementedError


def other_value(key: str, value: Any, folder: Path) -> Any:
    """Returns a value that the key does not have, of a kind that it may have."""
    own = {
        "data.source": lambda: "movielens",
        "data.tables": lambda: TableFiles.model_validate({"events": "events.csv"}),
        "ranking.towers": lambda: "tuned",
        "ranking.teacher": lambda: Teacher(run=str(make_teacher(folder))),
        "stages": lambda: [ExtraStage(kind=f"{__name__}:Own", after="tokens")],
    }
    words = literals(ANNOTATIONS[key])
    if key in own:
        return own[key]()
    if words:
        return next(word for word in words if word != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [*value, 7]
    return {**value, "other": 1} if isinstance(value, dict) else f"{value}x"


def make_teacher(folder: Path) -> Path:
    """Makes what another run looks like whose ranking model is trained."""
    ranking = folder / "teacher" / "ranking"
    ranking.mkdir(parents=True)
    write_file(ranking / CONFIG_FILE, load_config(CONFIGS / "shop.yaml").to_yaml())
    write_json(ranking / STAGE_FILE, {"fingerprint": "taught"})
    return ranking.parent


def literals(annotation: Any) -> tuple[Any, ...]:
    """Returns the words that a single value may be one of."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Annotated, Union, UnionType):
        return tuple(word for argument in get_args(annotation) for word in literals(argument))
    return ()


def changed(section: BaseModel, key: str, value: Any) -> Any:
    """Returns the section with another value at a dotted key."""
    name, _, rest = key.partition(".")
    inner = getattr(section, name)
    return section.model_copy(update={name: changed(inner, rest, value) if rest else value})


def value_at(section: Any, key: str) -> Any:
    for name in key.split("."):
        section = getattr(section, name)
    return section


def rerun(before: dict[str, str], config: Config) -> list[str]:
    """Returns the stages that would run again, in order."""
    after = Pipeline(config, announce=print).fingerprints()
    return [stage for stage in after if stage in before and after[stage] != before[stage]]


@pytest.fixture(scope="module")
def shop() -> Config:
    return load_config(CONFIGS / "shop.yaml")


@pytest.fixture(scope="module")
def before(shop: Config) -> dict[str, str]:
    return Pipeline(shop, announce=print).fingerprints()


def test_table_names_every_key_once_and_no_other():
    listed = [key for keys in FIRST_STAGES.values() for key in keys.split()]
    assert sorted(listed) == sorted(ANNOTATIONS)


# Values of another kind than declared stand in some sections here, as they are only hashed.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("key", ANNOTATIONS)
def test_changed_key_runs_this_stage_again_first(
    key: str, shop, before, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    value = other_value(key, value_at(shop, key), tmp_path)
    if key == "data.privacy.pseudonym_key":  # the name of the environment variable that has it
        monkeypatch.setenv(value, "a key that nobody guesses")
    found = rerun(before, changed(shop, key, value))
    assert (found or [NONE])[0] == FIRST_STAGE[key]


def test_settings_that_only_run_are_all_in_one_section():
    running = {key for key, stage in FIRST_STAGE.items() if stage == NONE}
    assert {key for key in ANNOTATIONS if key.startswith("run.")} <= running


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("evaluation.k", [1, 2]),
        ("evaluation.remove_seen", False),
        ("evaluation.bootstrap", 3),
    ],
)
def test_what_is_measured_trains_nothing(key: str, value: Any, shop, before):
    assert rerun(before, changed(shop, key, value)) == ["evaluation", "export"]


def test_towers_that_are_trained_further_are_what_is_indexed(shop, before):
    assert rerun(before, changed(shop, "ranking.epochs", 77)) == [
        "ranking",
        "order",
        "evaluation",
        "export",
    ]
    shared = changed(shop, "ranking.towers", "shared")
    of_shared = Pipeline(shared, announce=print).fingerprints()
    found = rerun(of_shared, changed(shared, "ranking.epochs", 77))
    assert found == ["ranking", "order", "index", "evaluation", "export"]


@pytest.mark.parametrize("key", ["retrieval.epochs", "encoder.source", "candidates.rank_constant"])
def test_run_without_towers_does_not_depend_on_them(key: str, tmp_path: Path):
    config = load_config(CONFIGS / "tabular_mlp.yaml")
    of_tables = Pipeline(config, announce=print).fingerprints()
    value = other_value(key, value_at(config, key), tmp_path)
    assert rerun(of_tables, changed(config, key, value)) == []
