import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tfrec.cli import app
from tfrec.config import load_config
from tfrec.errors import ConfigError
from tfrec.pipeline.tuning import Search, Trial, check_ranges, tune

CONFIG = """\
name: small
data:
  source: shop
  scale: 0.02
  events:
    kind: kind
    kinds:
      impression: {label: 0}
      click: {label: 1}
      cart: {label: 1, ranked: false, target: false}
      purchase: {label: 1, ranked: false, target: false}
  items:
    title: title
    features: {category: category, price: number}
ranking:
  towers: none   # tables alone
  hidden: [8]
  epochs: 2
  batch_size: 512
tuning:
  metric: ranking.validation_log_loss
  trials: 3
  ranges:
    ranking.learning_rate: {low: 0.0001, high: 0.1, log: true}
    ranking.hidden: {choices: [[8], [4, 4]]}
"""


def write_config(folder: Path, text: str = CONFIG) -> tuple[Path, list[str]]:
    path = folder / "small.yaml"
    path.write_text(text)
    return path, [f"runs={folder / 'runs'}"]


def test_trials_are_ranked_by_what_they_keep_and_the_rest_is_computed_once(tmp_path: Path):
    path, overrides = write_config(tmp_path)
    lines: list[str] = []
    search = tune(path, overrides, announce=lines.append)
    assert [trial.number for trial in search.trials] == [0, 1, 2]
    folder = tmp_path / "runs" / "small" / "trials"
    for trial in search.trials:
        run = folder / str(trial.number)
        rounds = json.loads((run / "ranking" / "history.json").read_text())
        kept = json.loads((run / "ranking" / "kept.json").read_text())
        assert trial.value == kept["validation_log_loss"]
        assert trial.value == min(r["validation_log_loss"] for r in rounds)
        assert not (run / "evaluation").exists()  # the test is never looked at
        resolved = load_config(run / "ranking" / "config.yaml")
        assert resolved.ranking.hidden == trial.settings["ranking.hidden"]
        assert resolved.ranking.learning_rate == trial.settings["ranking.learning_rate"]
    assert len({json.dumps(trial.settings) for trial in search.trials}) == 3
    assert sum("prepare: running" in line for line in lines) == 1
    assert sum("prepare: taken over from" in line for line in lines) == 2

    best = min(search.trials, key=lambda trial: trial.value or 0.0)
    assert search.best() == best
    chosen = load_config(folder / "best.yaml", overrides)
    assert chosen.ranking.learning_rate == best.settings["ranking.learning_rate"]
    assert "# tables alone" in (folder / "best.yaml").read_text()
    entries = json.loads((folder / "leaderboard.json").read_text())
    assert [entry["value"] for entry in entries] == sorted(entry["value"] for entry in entries)
    assert f"{best.value:.5f}" in (folder / "leaderboard.md").read_text()
    assert (folder / "trials.png").stat().st_size > 5000

    # As many as were asked for are there.
    lines.clear()
    assert tune(path, overrides, announce=lines.append) == search
    assert lines == []
    # A search that is stopped and goes on asks for the same as one that is not.
    other = tmp_path / "other"
    for number in (1, 2, 3):
        again = tune(path, [f"runs={other}"], trials=number, announce=lines.append)
    assert [trial.settings for trial in again.trials] == [t.settings for t in search.trials]
    assert [trial.value for trial in again.trials] == [t.value for t in search.trials]


def test_killed_search_goes_on_with_the_trial_it_was_at(tmp_path: Path):
    path, overrides = write_config(tmp_path, CONFIG.replace("epochs: 2", "epochs: 200"))
    command = [sys.executable, "-m", "tfrec", "tune", str(path), "--set", *overrides]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stdout
        for line in process.stdout:
            if b"ranking: running" in line:
                break
        time.sleep(1.0)
        process.send_signal(signal.SIGKILL)
    folder = tmp_path / "runs" / "small" / "trials"
    assert not (folder / "0" / "trial.json").exists()
    lines: list[str] = []
    search = tune(path, [*overrides, "ranking.epochs=2"], trials=1, announce=lines.append)
    assert [trial.number for trial in search.trials] == [0]
    assert any("prepare: unchanged" in line for line in lines)


def test_failed_trial_is_noted_and_the_search_goes_on(tmp_path: Path):
    # No item has so many events: half of the trials fail while preparing.
    text = CONFIG.replace(
        "ranking.hidden: {choices: [[8], [4, 4]]}",
        "data.cleaning.k_core.items: {choices: [100000, 1]}",
    )
    path, overrides = write_config(tmp_path, text)
    lines: list[str] = []
    search = tune(path, overrides, trials=4, announce=lines.append)
    failed = [trial for trial in search.trials if trial.value is None]
    assert 0 < len(failed) < 4
    assert all(trial.reason for trial in failed)
    assert search.leaderboard()[-1].value is None
    page = (tmp_path / "runs" / "small" / "trials" / "leaderboard.md").read_text()
    assert f"trial {failed[0].number} failed: {failed[0].reason}" in page


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ranking.learning_rate:", "ranking.learning_rat:", r"unknown key 'ranking.learning_rat'"),
        ("low: 0.0001", "low: -1.0", r"`log: true` goes with `low` above 0"),
        ("log: true}", "log: false, step: -1}", r"`step`: wanted a number above 0"),
        ("low: 0.0001", "low: 1.0", r"wanted `low` up to `high`"),
        ("[4, 4]]", "[-4]]", r"tuning\.ranges\.ranking\.hidden: \[-4\]: .*greater than 0"),
        ("ranking.hidden:", "name:", r"tuning\.ranges\.name: this key cannot be searched"),
        ("ranking.hidden:", "run.strategy:", r"tuning\.ranges\.run\.strategy: this key cannot be"),
        ("ranking.validation_log_loss", "ranking.loss", r"tuning\.metric"),
        ("choices: [[8], [4, 4]]", "choices: [[8]], low: 1", r"wanted `choices` alone, got `low`"),
        ("choices: [[8], [4, 4]]", "low: 1", r"wanted `low` and `high`, or `choices`"),
    ],
)
def test_ranges_that_are_no_settings_are_refused_before_the_first_trial(
    tmp_path: Path, old: str, new: str, message: str
):
    path, overrides = write_config(tmp_path, CONFIG.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        tune(path, overrides)
    assert not (tmp_path / "runs").exists()


def test_configuration_without_ranges_says_what_is_wanted(tmp_path: Path):
    path, overrides = write_config(tmp_path, CONFIG[: CONFIG.index("tuning:")])
    with pytest.raises(ConfigError, match=r"tuning\.ranges: wanted at least one setting"):
        check_ranges(path, overrides, load_config(path, overrides))


def test_unknown_metric_names_those_that_there_are(tmp_path: Path):
    text = CONFIG.replace("validation_log_loss", "validation_ndcg")
    path, overrides = write_config(tmp_path, text)
    with pytest.raises(ConfigError, match=r"wanted one of validation_auc, validation_log_loss"):
        tune(path, overrides, announce=lambda line: None)


def search_of(values: list[float | None], *, is_small_good: bool) -> Search:
    trials = [Trial(n, {}, value, 1.0) for n, value in enumerate(values)]
    return Search("x", "m", is_small_good, {}, trials)


@pytest.mark.parametrize(("is_small_good", "expected"), [(True, [2, 0, 1]), (False, [0, 2, 1])])
def test_leaderboard_has_the_best_first_and_failed_trials_last(is_small_good, expected):
    search = search_of([0.5, None, 0.0], is_small_good=is_small_good)
    assert [trial.number for trial in search.leaderboard()] == expected
    assert search_of([None], is_small_good=is_small_good).best() is None


def test_command_prints_the_leaderboard(tmp_path: Path, capsys: Any):
    path, overrides = write_config(tmp_path)
    app(["tune", str(path), "--set", overrides[0], "--trials", "1"], standalone_mode=False)
    printed = capsys.readouterr().out
    assert "small: 1 trials" in printed
    assert f"train {tmp_path / 'runs' / 'small' / 'trials' / 'best.yaml'}" in printed
