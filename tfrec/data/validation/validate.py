"""Checks a declaration against its data: every row is read, nothing is kept, all problems are told.

It runs the real preparation into a folder that is thrown away, so what is valid here is what
training accepts, and what is reported is what it would see.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tfrec.config import Config, Data
from tfrec.data.parsing.checks import Findings
from tfrec.data.parsing.privacy import hidden_columns
from tfrec.data.preparing.prepare import prepare
from tfrec.data.reading.sources import RawTables, read_source
from tfrec.data.validation.advice import find_warnings
from tfrec.errors import DataError
from tfrec.schema import SPLITS, Batch, Columns

Report = dict[str, Any]


def validate(config: Config, tables: Mapping[str, Any] | None = None) -> Report:
    """Reads the tables that `config` declares and validates them.

    Args:
        config: The run.
        tables: For the source `tables`, see `read_source`.

    Returns:
        See `validate_tables`; a file that cannot be read is one of the errors.
    """
    try:
        raw = read_source(config.data, config.seed, tables)
    except DataError as error:
        return _judge({"errors": [str(error)]}, config)
    return validate_tables(raw, config)


def validate_tables(raw: RawTables, config: Config) -> Report:
    """Checks every row of raw tables and measures what training would get.

    Args:
        raw: The tables.
        config: The run.

    Returns:
        The report of `prepare`, as far as it came, with

        - ``ok``: whether training accepts the data as they are;
        - ``refused``: the number of findings that it does not accept;
        - ``errors``: what stopped the preparation, one line each;
        - ``warnings``: what it accepts, but a reader should know;
        - ``coverage``: what of the test split the training split knows.
    """
    report: Report = {"errors": []}
    findings = Findings("collect", hidden=hidden_columns(config.data))
    with tempfile.TemporaryDirectory(prefix="tfrec-validate-") as name:
        try:
            prepare(raw, config, Path(name), findings, report)
        except DataError as error:
            report["errors"].append(str(error))
        else:
            report["coverage"] = _measure_coverage(Path(name))
    report["findings"] = findings.to_list()
    return _judge(report, config)


def _judge(report: Report, config: Config) -> Report:
    findings = report.setdefault("findings", [])
    is_strict = config.data.cleaning.bad_cells == "error"
    report["refused"] = sum(is_strict or finding["is_refused"] for finding in findings)
    report["ok"] = not report["refused"] and not report["errors"]
    for table, column in _undeclared(config.data):
        report.get("columns", {}).get(table, {}).pop(column, None)
    report["warnings"] = [*report.get("warnings", []), *find_warnings(report, config)]
    return report


def _undeclared(data: Data) -> list[tuple[str, str]]:
    """Table and name of the typed columns that hold nothing but a default."""
    events = data.events
    sources: dict[tuple[str, str], object] = {
        ("events", Columns.TIME): events.time,
        ("events", "sequence"): events.sequence,
        ("events", Columns.WEIGHT): events.weight or events.kind,
        ("events", Columns.QUERY): events.query,
        ("events", Columns.POSITION): events.position,
        ("events", Columns.WATCH_TIME): events.watch_time,
        ("events", Columns.IMPRESSION): events.impression,
        ("events", Columns.TRUE_PROBABILITY): events.true_probability,
        ("events", Columns.SPLIT): events.split,
        ("items", Columns.TITLE): data.items.title,
        ("items", Columns.TEXT): data.items.text,
        ("users", Columns.TEXT): data.users.text,
    }
    return [place for place, source in sources.items() if not source]


def _measure_coverage(folder: Path) -> dict[str, int]:
    """Counts what the training split knows of a prepared data set; one part in memory at a time."""
    train, test = SPLITS.index("train"), SPLITS.index("test")
    num_items = pl.scan_parquet(folder / "items.parquet").select(pl.len()).collect().item()
    num_users = pl.scan_parquet(folder / "users.parquet").select(pl.len()).collect().item()
    trained_items, trained_users, test_users = (
        np.zeros(number + 1, bool) for number in (num_items, num_users, num_users)
    )
    test_targets = np.zeros(num_items + 1, np.int64)
    first = 0
    for path in sorted((folder / "contexts").glob("*.parquet")):
        contexts = pl.read_parquet(path, columns=[Batch.USER_INDEX, Columns.SPLIT])
        columns = ["context", Batch.ITEM_INDEX, Columns.IS_TARGET]
        examples = pl.read_parquet(folder / "examples" / path.name, columns=columns)
        split, user = contexts[Columns.SPLIT].to_numpy(), contexts[Batch.USER_INDEX].to_numpy()
        of_example = split[examples["context"].to_numpy() - first]
        item = examples[Batch.ITEM_INDEX].to_numpy()
        trained_items[item[of_example == train]] = True
        trained_users[user[split == train]] = True
        test_users[user[split == test]] = True
        is_test_target = examples[Columns.IS_TARGET].to_numpy() & (of_example == test)
        test_targets += np.bincount(item[is_test_target], minlength=num_items + 1)
        first += contexts.height
    return {
        "items": num_items,
        "items_trained": int(trained_items.sum()),
        "test_targets": int(test_targets.sum()),
        "test_targets_of_untrained_items": int(test_targets[~trained_items].sum()),
        "test_users": int(test_users.sum()),
        "test_users_trained": int((test_users & trained_users).sum()),
    }
