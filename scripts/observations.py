"""Remake docs/observations.md: transfer matrices at three budgets, diminishing returns, rising spillover.

    python scripts/observations.py                 # 8 one-hot runs a seed, 10 seeds, then the page
    python scripts/observations.py --processes 1   # interrupted, the same command goes on

The budgets and seeds were fixed before the first run: 20,000 tokens, at which a pilot on seeds
9001 and 9002 had shown both signs of transfer, one budget below and one above. The seeds here were
used for no setting.
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
    parser.add_argument("--budgets", type=int, nargs="*", default=[10_000, 20_000, 60_000])
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(7001, 7011)))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("runs/observations"))
    args = parser.parse_args()

    # Nothing is decided here, so steps can be long; and the teacher is asked for much of each stream.
    config = load_preset(args.preset, {"budget": {"step_tokens": 10_000}, "distill": {"block_size": 96}})
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
