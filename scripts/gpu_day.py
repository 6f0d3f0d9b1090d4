"""Everything that waits for a GPU, in order of value, each part in a process of its own -> docs/gpu.md.

    python scripts/gpu_day.py                       # the parts that have no result on this kind of GPU yet
    python scripts/gpu_day.py --parts tests updates # these, again
    python scripts/gpu_day.py --device cpu --tiny --out /tmp/gpu   # small enough for a CPU: does it run?

A result is kept as soon as its part ends, so that the same command goes on after an interruption. A part that fails, or takes
longer than ``--limit``, is kept with its error and tried again by the next command. Where a package is missing, the part says so.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from gpu_parts import PARTS, ROOT, Missing
from throughput_page import hardware

from read_env import files
from read_env.reporting.markdown import markdown_table


def make(part: str, device: str, tiny: bool) -> dict[str, Any]:
    """Result of a part, in this process."""
    try:
        table = PARTS[part](device, tiny)
    except Missing as missing:
        return {"error": f"{missing} is not installed"}
    return {"header": table.header, "rows": table.rows, "note": table.note}


def in_own_process(part: str, device: str, tiny: bool, limit: float) -> dict[str, Any]:
    """Result of a part, or ``error`` in one line; its output goes to the terminal."""
    command = [sys.executable, __file__, "--one", part, "--device", device, *(["--tiny"] if tiny else [])]
    begun = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {limit:.0f} s"}
    *printed, last = done.stdout.rstrip().split("\n")
    print("\n".join(printed), done.stderr, sep="\n")
    if done.returncode:
        reason = done.stderr.rstrip().rpartition("\n")[2] or last
        found: dict[str, Any] = {"error": f"ended with {done.returncode}: {reason}"}
    else:
        found = json.loads(last)
    return {**found, "seconds": round(time.monotonic() - begun)}


def page(kept: dict[str, dict[str, Any]]) -> str:
    """Text of docs/gpu.md: a section for every kind of device."""
    lines = [
        "# On a GPU", "", "Made by `python scripts/gpu_day.py`, which measures each part in a process of its own. Weights of the Llama "
        "shapes are random. A part without a result names the reason.", "",
    ]  # fmt: skip
    for where, parts in sorted(kept.items()):
        lines += [f"## {where}", ""]
        for part in (name for name in PARTS if name in parts):
            result = parts[part]
            about = (PARTS[part].__doc__ or "").strip()
            lines += [f"### {part}", "", f"{about} {result.get('seconds', 0)} s; {result['versions']}.", ""]
            if "error" in result:
                lines += [f"No result: {result['error']}.", ""]
                continue
            lines += [markdown_table(result["header"], result["rows"]), ""]
            lines += [result["note"], ""] if result["note"] else []
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="made again even if there is a result")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--tiny", action="store_true", help="small enough for a CPU")
    parser.add_argument("--limit", type=float, default=600, help="seconds of a part")
    parser.add_argument("--out", type=Path, default=ROOT / "docs", help="folder of gpu.md and measured/gpu.json")
    parser.add_argument("--one", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(make(args.one, args.device, args.tiny)))
        return
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("this process sees no CUDA device; right would be a machine with one, or --device cpu --tiny")
    results, where = args.out / "measured" / "gpu.json", hardware(torch.device(args.device))
    kept: dict[str, dict[str, Any]] = json.loads(results.read_text()) if results.exists() else {}
    here = kept.setdefault(where, {})
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    for part in args.parts or [name for name in PARTS if "rows" not in here.get(name, {})]:
        print(f"--- {part}", flush=True)
        here[part] = {**in_own_process(part, args.device, args.tiny, args.limit), "versions": versions}
        print(here[part].get("error", "done"), flush=True)
        results.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(results, json.dumps(kept, indent=1) + "\n")
        (args.out / "gpu.md").write_text(page(kept))


if __name__ == "__main__":
    main()
