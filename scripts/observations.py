"""Remake docs/observations.md: transfer matrices at three budgets, diminishing returns, rising spillover.

    python scripts/observations.py                 # 8 one-hot runs a seed, 8 seeds, then the page
    python scripts/observations.py --processes 1   # interrupted, the same command goes on

The budgets and seeds were fixed before the first run; these seeds were used for no setting.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from read_env.config import load_preset
from read_env.reporting import transfer_report
from read_env.running.transfer import TransferRequest, transfer

DOCS = Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="micro")
    parser.add_argument("--budgets", type=int, nargs="*", default=[20_000, 60_000, 120_000])
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(7001, 7009)))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/observations"))
    args = parser.parse_args()

    # Ten steps of the largest budget at most: nothing is decided here, so fewer probes are needed.
    config = load_preset(args.preset, {"budget": {"step_tokens": 20_000}})
    request = TransferRequest(config, tuple(args.budgets), tuple(args.seeds), args.out, processes=args.processes)
    failures = transfer(request)
    report = transfer_report(args.out)
    pictures = DOCS / "observations"
    pictures.mkdir(parents=True, exist_ok=True)
    text = report.read_text()
    for picture in args.out.glob("*.png"):
        shutil.copy(picture, pictures / picture.name)
        text = text.replace(f"]({picture.name})", f"](observations/{picture.name})")
    shutil.copy(args.out / "transfer.json", pictures / "transfer.json")
    (DOCS / "observations.md").write_text(text)
    print(DOCS / "observations.md")
    if failures:
        raise SystemExit("\n".join(f"{name}: {error}" for name, error in failures.items()))


if __name__ == "__main__":
    main()
