"""Measures how fast the embedded shop is generated and written, and how much memory it takes.

Usage: python benchmarks/shop_generation.py [scale ...]

Each scale runs in a fresh process, so that the peak memory is its own.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path


def measure(scale: float, seed: int) -> dict[str, float]:
    """Writes a shop to a temporary folder; run in a process of its own."""
    start = time.perf_counter()
    import polars as pl

    from tfrec.shop import Shop

    with tempfile.TemporaryDirectory() as parent:
        folder = Shop(scale, seed).write(Path(parent) / "shop")
        seconds = time.perf_counter() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        num_rows = (
            pl.scan_parquet(folder / "events" / "*.parquet").select(pl.len()).collect().item()
        )
        num_bytes = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    # Linux counts in KiB, macOS in bytes.
    peak_bytes = peak if sys.platform == "darwin" else peak * 1024
    return {
        "scale": scale,
        "rows": num_rows,
        "seconds": seconds,
        "peak_mb": peak_bytes / 1e6,
        "file_mb": num_bytes / 1e6,
    }


def main() -> None:
    """Prints one line for each scale."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scales", nargs="*", type=float, default=[1.0, 3.0, 20.0])
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    arguments = parser.parse_args()

    if not arguments.json:
        print(f"{'scale':>7} {'rows':>12} {'seconds':>9} {'peak RSS MB':>12} {'files MB':>9}")
    fresh = multiprocessing.get_context("spawn")
    for scale in arguments.scales:
        with fresh.Pool(1) as pool:
            row = pool.apply(measure, (scale, arguments.seed))
        if arguments.json:
            print(json.dumps(row), flush=True)
        else:
            print(
                f"{row['scale']:>7g} {row['rows']:>12,} {row['seconds']:>9.1f} "
                f"{row['peak_mb']:>12.0f} {row['file_mb']:>9.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
