"""Builds clear-mini and tofu-mini: `python -m minibench.build --out data`. Offline, seconds, the same bytes for the
same seed."""

import argparse
from pathlib import Path

from minibench.folders import DATASETS, ROOT, build


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "data", help="folder that gets clear-mini/ and tofu-mini/")
    parser.add_argument(
        "--seed", type=int, default=None, help="of people, faces and facts (default: the shipped models' own)"
    )
    options = parser.parse_args()
    for name in DATASETS:
        print(f"wrote {build(name, options.out / name, options.seed)}")


if __name__ == "__main__":
    main()
