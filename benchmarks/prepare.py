"""Measures how long `validate` and `prepare` take on a generated shop in Parquet, and their memory.

Usage: python benchmarks/prepare.py [scale ...]

Scale 1 is about half a million events. Each measurement runs in a fresh process, so that the peak
memory is its own; generating the shop is not part of it.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path

CONFIG = Path(__file__).parents[1] / "configs" / "shop.yaml"


def write_shop(scale: float, seed: int, folder: str) -> float:
    """Writes the shop; returns the megabytes of its files."""
    from tfrec.shop import Shop

    written = Shop(scale, seed).write(folder)
    return sum(path.stat().st_size for path in written.rglob("*.parquet")) / 1e6


def measure(step: str, folder: str, work: str) -> dict[str, float]:
    """Runs one step over the files in `folder`; run in a process of its own."""
    start = time.perf_counter()
    from tfrec.config import load_config
    from tfrec.data.preparing.prepare import prepare
    from tfrec.data.reading.sources import read_source
    from tfrec.data.validation.validate import validate

    tables = "{events: events, items: items.parquet, users: users.parquet}"
    settings = ["data.source=files", f"data.path={folder}", f"data.tables={tables}"]
    config = load_config(CONFIG, settings)
    if step == "validate":
        report = validate(config)
    else:
        Path(work).mkdir()
        report = prepare(read_source(config.data, config.seed), config, Path(work))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    peak_bytes = peak if sys.platform == "darwin" else peak * 1024
    return {
        "rows": report["rows"]["events"]["read"],
        "seconds": seconds,
        "peak_mb": peak_bytes / 1e6,
    }


def main() -> None:
    """Prints one line for each scale and step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scales", nargs="*", type=float, default=[2.0, 6.0, 20.0])
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()

    if not arguments.json:
        print(f"{'step':>9} {'events':>12} {'seconds':>9} {'events/s':>10} {'peak RSS MB':>12}")
    fresh = multiprocessing.get_context("spawn")
    for scale in arguments.scales:
        with tempfile.TemporaryDirectory() as parent:
            folder = str(Path(parent) / "shop")
            with fresh.Pool(1) as pool:
                pool.apply(write_shop, (scale, arguments.seed, folder))
            for step in ("validate", "prepare"):
                with fresh.Pool(1) as pool:
                    row = pool.apply(measure, (step, folder, str(Path(parent) / "prepared")))
                if arguments.json:
                    print(json.dumps({"step": step, **row}), flush=True)
                    continue
                print(
                    f"{step:>9} {row['rows']:>12,} {row['seconds']:>9.1f} "
                    f"{row['rows'] / row['seconds']:>10,.0f} {row['peak_mb']:>12.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
