"""Searches settings by what they reach on validation; every trial is a run of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfrec.config import Config, TuningRange, load_config
from tfrec.config.reading import override_file
from tfrec.errors import ConfigError, TfrecError
from tfrec.files import lock_folder, read_json, write_file, write_json, write_stream
from tfrec.log import tell
from tfrec.pipeline import Pipeline

if TYPE_CHECKING:
    import optuna

_SMALL_IS_GOOD = ("loss", "mse")
_TRIAL_FILE, _JOURNAL = "trial.json", "journal.log"


@dataclass(frozen=True)
class Trial:
    """One run of the search.

    Attributes:
        number: From 0; the run is ``<runs>/<name>/trials/<number>``.
        settings: Key of the configuration to value.
        value: The metric; None for a failed trial.
        seconds: Wall time.
        reason: Why it failed.
    """

    number: int
    settings: dict[str, Any]
    value: float | None
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Search:
    """All trials of a search.

    Attributes:
        name: Of the configuration.
        metric: What is searched for.
        is_small_good: Whether it is made small.
        ranges: What is searched.
        trials: In the order of their numbers.
    """

    name: str
    metric: str
    is_small_good: bool
    ranges: dict[str, TuningRange]
    trials: list[Trial]

    def leaderboard(self) -> list[Trial]:
        """Returns the trials, the best first, failed ones last."""
        sign = 1.0 if self.is_small_good else -1.0

        def key(trial: Trial) -> tuple[bool, float, int]:
            return trial.value is None, sign * (trial.value or 0.0), trial.number

        return sorted(self.trials, key=key)

    def best(self) -> Trial | None:
        """Returns the best trial; None if none has ended well."""
        return next((trial for trial in self.leaderboard() if trial.value is not None), None)


def tune(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    trials: int | None = None,
    announce: Callable[[str], None] = tell,
    tables: Mapping[str, Any] | None = None,
) -> Search:
    """Runs trials until there are as many as asked for; earlier ones of the same search count.

    A trial is trained up to the stage of the metric. Stages that no setting touches are taken over
    from earlier trials. A trial that fails is noted and the search goes on; one that was killed
    goes on from its checkpoints. Settings of trial n depend on the seed and the trials before.

    Args:
        path: Configuration with the section `tuning`.
        overrides: As for `load_config`.
        trials: In place of `tuning.trials`.
        announce: Called with lines for people.
        tables: For the source `tables`, see `Pipeline`.

    Returns:
        All trials. ``<runs>/<name>/trials/`` holds ``leaderboard.json``, ``leaderboard.md``,
        ``trials.png`` and ``best.yaml``, the configuration with the best settings put in.

    Raises:
        ConfigError: No range is declared, or a key or value of one is no valid setting.
        ArtefactError: Another process tunes the same run.
    """
    config = load_config(path, overrides)
    check_ranges(path, overrides, config)
    folder = Path(config.runs) / config.name / "trials"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = trials or config.tuning.trials
    with lock_folder(folder):
        study = _open_study(folder, config)
        done = _read_trials(folder)
        while len(done) < wanted:
            number, settings = _next_trial(study, config)
            announce(f"trial {len(done) + 1} of {wanted}: {_say(settings)}")
            trial = _run_trial(path, overrides, folder, number, settings, announce, tables)
            write_json(folder / str(number) / _TRIAL_FILE, asdict(trial))
            _tell(study, trial)
            done.append(trial)
            search = _search(config, done)
            _write_results(folder, search, path, overrides)
            found = trial.reason if trial.value is None else f"{trial.value:.5f}"
            announce(f"trial {len(done)} of {wanted}: {config.tuning.metric} {found}")
    return _search(config, done)


def check_ranges(path: Path, overrides: Sequence[str], config: Config) -> None:
    """Checks that both ends of every range, and every choice, are settings the configuration takes.

    Raises:
        ConfigError: Names the first that is not.
    """
    if not config.tuning.ranges:
        raise ConfigError(
            f"{path}: tuning.ranges: wanted at least one setting to search, such as "
            "`ranking.learning_rate: {low: 0.0003, high: 0.01, log: true}`."
        )
    for key, values in config.tuning.ranges.items():
        if key.split(".")[0] in ("name", "runs", "run", "tuning", "seed"):
            raise ConfigError(f"{path}: tuning.ranges.{key}: this key cannot be searched.")
        for value in values.choices or (values.low, values.high):
            try:
                load_config(path, [*overrides, _override(key, value)])
            except ConfigError as error:
                raise ConfigError(f"tuning.ranges.{key}: {json.dumps(value)}: {error}") from None


def leaderboard_table(search: Search) -> tuple[list[str], list[list[str]]]:
    """Lays the trials out: columns, and a row each, the best first."""
    keys = list(search.ranges)
    rows = [
        [
            str(place),
            str(trial.number),
            "failed" if trial.value is None else f"{trial.value:.5f}",
            *(json.dumps(_rounded(trial.settings.get(key))) for key in keys),
            f"{trial.seconds / 60:.1f}",
        ]
        for place, trial in enumerate(search.leaderboard(), start=1)
    ]
    return ["", "trial", search.metric, *keys, "minutes"], rows


def _search(config: Config, trials: list[Trial]) -> Search:
    settings = config.tuning
    return Search(config.name, settings.metric, _is_small_good(config), settings.ranges, trials)


def _open_study(folder: Path, config: Config) -> optuna.Study:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = JournalFileBackend(str(folder / _JOURNAL))
    return optuna.create_study(
        study_name=config.name,
        storage=optuna.storages.JournalStorage(backend),
        direction="minimize" if _is_small_good(config) else "maximize",
        load_if_exists=True,
    )


def _next_trial(study: optuna.Study, config: Config) -> tuple[int, dict[str, Any]]:
    """Asks for the settings of the next trial, or gives back those of a killed one."""
    import optuna

    ranges = config.tuning.ranges
    for old in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        if old.params.keys() == ranges.keys():
            return old.number, {key: _setting(ranges[key], v) for key, v in old.params.items()}
        study.tell(old.number, state=optuna.trial.TrialState.FAIL)  # of other ranges
    # Seeded by the number of trials, so that a search that was stopped goes on as if it had not.
    number = len(study.get_trials(deepcopy=False))
    study.sampler = optuna.samplers.TPESampler(seed=config.seed + number, multivariate=True)
    trial = study.ask({key: _distribution(values) for key, values in ranges.items()})
    return trial.number, {key: _setting(ranges[key], v) for key, v in trial.params.items()}


def _run_trial(
    path: Path,
    overrides: Sequence[str],
    folder: Path,
    number: int,
    settings: Mapping[str, Any],
    announce: Callable[[str], None],
    tables: Mapping[str, Any] | None,
) -> Trial:
    start = time.monotonic()
    value, reason = None, ""
    own = [_override("name", str(number)), _override("runs", str(folder))]
    try:
        config = load_config(path, [*overrides, *map(_override, *_columns(settings)), *own])
        stage, metric = config.tuning.metric.split(".")
        donors = [other for other in _runs(folder) if other.name != str(number)]
        pipeline = Pipeline(config, announce, tables, donors=[folder.parent, *donors])
        pipeline.run(until=stage)
        value = pipeline.kept_round(stage).get(metric)
        if value is None:
            known = ", ".join(n for n in pipeline.kept_round(stage) if n.startswith("validation_"))
            raise ConfigError(f"tuning.metric: wanted one of {known} after {stage}., got {metric}.")
    except ConfigError:
        raise
    except TfrecError as error:
        reason = str(error)
    return Trial(number, dict(settings), value, round(time.monotonic() - start, 1), reason)


def _columns(settings: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
    return list(settings), list(settings.values())


def _tell(study: optuna.Study, trial: Trial) -> None:
    import optuna

    if trial.value is None:
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial.number, trial.value)


def _write_results(folder: Path, search: Search, path: Path, overrides: Sequence[str]) -> None:
    columns, rows = leaderboard_table(search)
    best = search.best()
    lines = [
        f"# {search.name}: {len(search.trials)} trials by {search.metric}",
        "",
        "| " + " | ".join(columns) + " |",
        "|" + "---|" * len(columns),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        *(f"- trial {t.number} failed: {t.reason}" for t in search.trials if t.value is None),
        "![value of each trial, and of each setting](trials.png)",
    ]
    write_file(folder / "leaderboard.md", "\n".join(lines) + "\n")
    entries = [asdict(trial) for trial in search.leaderboard()]
    write_json(folder / "leaderboard.json", entries)
    if best is not None:
        chosen = [*overrides, *map(_override, *_columns(best.settings))]
        write_file(folder / "best.yaml", override_file(path, chosen))
        _draw(folder / "trials.png", search)


def _draw(path: Path, search: Search) -> None:
    """Draws the value of each trial with the best so far, and one panel a setting."""
    from matplotlib.figure import Figure

    known = [trial for trial in search.trials if trial.value is not None]
    values = [trial.value or 0.0 for trial in known]
    keys = list(search.ranges)
    figure = Figure(figsize=(4.0 * (1 + len(keys)), 3.4), layout="constrained")
    panels = figure.subplots(1, 1 + len(keys), sharey=True, squeeze=False)[0]
    choose = min if search.is_small_good else max
    so_far = [choose(values[: n + 1]) for n in range(len(values))]
    panels[0].plot([trial.number for trial in known], values, "o")
    panels[0].step([trial.number for trial in known], so_far, where="post", color="tab:green")
    panels[0].set_xlabel("trial")
    panels[0].set_ylabel(search.metric)
    for panel, key in zip(panels[1:], keys, strict=True):
        at: list[Any] = [trial.settings.get(key) for trial in known]
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in at):
            at = [json.dumps(value) for value in at]
        elif search.ranges[key].log:
            panel.set_xscale("log")
        panel.plot(at, values, "o")
        panel.set_xlabel(key)
    write_stream(path, lambda file: figure.savefig(file, dpi=120, format="png"))


def _read_trials(folder: Path) -> list[Trial]:
    found = (run / _TRIAL_FILE for run in _runs(folder))
    return [Trial(**read_json(file)) for file in found if file.is_file()]


def _runs(folder: Path) -> list[Path]:
    return sorted((p for p in folder.iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))


def _is_small_good(config: Config) -> bool:
    return config.tuning.metric.endswith(_SMALL_IS_GOOD)


def _distribution(values: TuningRange) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if values.choices is not None:
        return CategoricalDistribution([json.dumps(choice) for choice in values.choices])
    low, high, step = values.low, values.high, values.step
    assert low is not None  # a range without choices has both ends
    assert high is not None
    if all(isinstance(number, int) for number in (low, high, step or 1)):
        return IntDistribution(int(low), int(high), log=values.log, step=int(step or 1))
    return FloatDistribution(low, high, log=values.log, step=step)


def _setting(values: TuningRange, found: Any) -> Any:
    return json.loads(found) if values.choices is not None else found


def _override(key: str, value: Any) -> str:
    return f"{key}={json.dumps(value)}"


def _rounded(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _say(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {json.dumps(_rounded(value))}" for key, value in settings.items())
