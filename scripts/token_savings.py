"""Tokens that w = r needs for what another agent gains with the budget of a protocol.

    read-env benchmark --agent pretrained:micro --protocol micro-dev --out docs/measured/micro-dev/pretrained-micro.json
    python scripts/token_savings.py --protocol micro-dev --agent pretrained:micro     # docs/token_savings.md
    python scripts/token_savings.py --protocol micro-v1 --pairs 8 --seeds 9001 9002 9003 9004 9005

The reference of the protocol is run with larger budgets, in as many steps; interrupted, the same command goes on from
docs/measured/token_savings.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import DOCS, parser_of, write_page
from matplotlib.figure import Figure
from rich.console import Console

from read_env import files
from read_env.reporting.markdown import markdown_table, number
from read_env.reporting.statistics import Estimate, mean_interval
from read_env.reporting.style import AFTER, BEFORE, look, save
from read_env.running.agents import AgentSpec
from read_env.running.benchmark import Protocol, load_protocol, run_name, run_result, runs_of
from read_env.running.comparison import run_many
from read_env.running.requests import RunRequest
from read_env.running.runner import make_env

FACTORS = (1.0, 1.25, 1.5, 2.0)
REPLICATES = 5000


def requests_of(protocol: Protocol, factor: float, folder: Path) -> dict[str, RunRequest]:
    """Run name -> run of the reference with so many times the tokens, in as many steps."""
    found = {}
    for name, run in runs_of(protocol, AgentSpec.parse(protocol.reference), folder / f"{factor:g}").items():
        budget = run.config.budget
        sizes = {key: round(factor * getattr(budget, key)) for key in ("total_tokens", "step_tokens")}
        config = run.config.model_copy(update={"budget": budget.model_copy(update=sizes)})
        found[name] = replace(run, config=config)
    return found


def measured(
    protocol: Protocol, digest: str, factors: Sequence[float], kept: Path, folder: Path, processes: int
) -> dict[str, Any]:
    """Factor -> run name -> result; those that the file lacks are made, and written after each run.

    Args:
        protocol: pairs and seeds.
        digest: of the whole protocol.
        factors: factors on the budget.
        kept: file of the results.
        folder: folder of the runs.
        processes: worker processes.

    Raises:
        SystemExit: a file of another protocol, or a run that failed.
    """
    found: dict[str, Any] = files.read_json(kept) if kept.exists() else {}
    if found.setdefault("digest", digest) != digest:
        raise SystemExit(f"{kept} is of another protocol; right would be to delete it")
    for factor in factors:
        results = found.setdefault(f"{factor:g}", {})
        runs = requests_of(protocol, factor, folder)
        missing = {name: run for name, run in runs.items() if name not in results}

        def keep(name: str, runs: Mapping[str, RunRequest] = runs, results: dict[str, Any] = results) -> None:
            results[name] = run_result(runs[name])
            files.write_json(kept, found)
            shutil.rmtree(runs[name].directory / "student", ignore_errors=True)

        failures = run_many(f"{protocol.reference}, {factor:g} × B", missing, processes, Console(), make_env, keep)
        if failures:
            raise SystemExit("\n".join(f"{name}: {error}" for name, error in failures.items()))
        for name in missing.keys() - results.keys():  # finished by an earlier call
            keep(name)
    return found


def gains(results: Mapping[str, Any], names: Sequence[Sequence[str]]) -> np.ndarray:
    """(pairs, seeds) gains of exam utility."""
    return np.array([[results[n]["exam_utility"] - results[n]["exam_utility_start"] for n in row] for row in names])


def equal_factor(factors: Sequence[float], curve: np.ndarray, level: float) -> float:
    """Factor at which a curve reaches a level, on straight lines over its logarithm; infinite if it does not, 0 if it begins above.

    Args:
        factors: ascending.
        curve: (factors,) mean gains.
        level: gain to reach.

    Example:
        >>> equal_factor([1.0, 2.0, 4.0], np.array([0.1, 0.2, 0.25]), 0.2), equal_factor([1.0, 2.0], np.array([0.1, 0.2]), 0.3)
        (2.0, inf)
    """
    best = np.maximum.accumulate(curve)
    if level < best[0]:
        return 0.0
    if level > best[-1]:
        return float("inf")
    return float(np.exp(np.interp(level, best, np.log(factors))))


def savings(factors: Sequence[float], curve: np.ndarray, agent: np.ndarray) -> Estimate:
    """Factor with equal mean gain, with a bootstrap interval over seeds, each with all its pairs and factors.

    Args:
        factors: (F,) ascending.
        curve: (F, pairs, seeds) gains of the reference.
        agent: (pairs, seeds) gains of the agent.
    """
    rng, seeds = np.random.default_rng(0), agent.shape[1]

    def factor(of: np.ndarray) -> float:
        return equal_factor(factors, curve[:, :, of].mean((1, 2)), float(agent[:, of].mean()))

    replicates = [factor(rng.integers(seeds, size=seeds)) for _ in range(REPLICATES)]
    low, high = np.quantile(replicates, [0.025, 0.975], method="nearest")
    return Estimate(factor(np.arange(seeds)), float(low), float(high), seeds)


@look()
def picture(label: str, factors: Sequence[float], curve: np.ndarray, agent: np.ndarray, folder: Path) -> str:
    """Picture of the curve with 95 % t intervals over seeds, and the agent's gain; returns its Markdown."""
    shown = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = shown.subplots()
    estimates = [mean_interval(values.mean(0)) for values in curve]
    means = np.array([one.mean for one in estimates])
    axes.errorbar(
        factors, means, [one.half_width for one in estimates], color=BEFORE, marker="o", capsize=3, label="w = r"
    )
    level = mean_interval(agent.mean(0))
    axes.axhspan(level.low, level.high, color=AFTER, alpha=0.15, lw=0)
    axes.axhline(level.mean, color=AFTER, ls="--", label=f"{label}, 1 × B")
    axes.set(xlabel="budget of w = r, in budgets of the protocol", ylabel="gain of exam utility")
    axes.legend(loc="lower right")
    return save(
        shown, folder / "token_savings.png", f"Gain of exam utility of w = r over its budget, and that of {label}"
    )


def shown_factor(value: float, factors: Sequence[float]) -> str:
    """Factor as text; beyond those that were measured, that it is larger or smaller."""
    if np.isinf(value):
        return f"more than {factors[-1]:g}"
    return number(value, 2) if value else f"less than {factors[0]:g}"


def page(name: str, label: str, factors: Sequence[float], curve: np.ndarray, agent: np.ndarray, drawn: str) -> str:
    """Text of docs/token_savings.md."""
    found = savings(factors, curve, agent)
    value, low, high = (shown_factor(v, factors) for v in (found.mean, found.low, found.high))
    rows = []
    for factor, values in zip(factors, curve, strict=True):
        gain, ahead = mean_interval(values.mean(0)), mean_interval((agent - values).mean(0))
        rows.append([
            f"{factor:g}", f"{number(gain.mean, signed=True)} ± {number(gain.half_width)}",
            f"{number(ahead.mean, signed=True)} ± {number(ahead.half_width)}",
        ])  # fmt: skip
    rows.append([f"1, {label}", number(float(agent.mean()), signed=True), ""])
    pairs, seeds = agent.shape
    return (
        f"# Tokens for equal utility\n\nMade by `python scripts/token_savings.py --protocol {name} --agent {label}`. w = r with "
        f"larger budgets, in as many steps, on {pairs} pairs of task and starting student of `{name}`, {seeds} seeds each; the agent "
        "has the protocol's budget.\n\n"
        f"w = r needs **{value}** times the tokens for the same mean gain of exam utility (95 %, bootstrap over seeds: {low} to "
        f"{high}).\n\n{drawn}\n\nMean over pairs and seeds; ±: half of the 95 % t interval over seeds.\n\n"
        f"{markdown_table(['budget of w = r', 'gain', f'{label} ahead'], rows)}\n"
    )


def main() -> None:
    parser = parser_of(__doc__, "runs/token_savings")
    parser.add_argument("--protocol", default="micro-dev")
    parser.add_argument("--agent", default="pretrained:micro")
    parser.add_argument("--pairs", type=int, help="the first so many pairs of the protocol; all by default")
    parser.add_argument("--seeds", type=int, nargs="*", help="seeds of the protocol; all by default")
    parser.add_argument("--factors", type=float, nargs="*", default=FACTORS)
    args = parser.parse_args()
    protocol, factors = load_protocol(args.protocol), sorted(args.factors)
    label = AgentSpec.parse(args.agent).label
    part = protocol.model_copy(
        update={"pairs": protocol.pairs[: args.pairs], "seeds": tuple(args.seeds or protocol.seeds)}
    )
    folder = DOCS / "measured" / args.protocol
    runs = {one: files.read_json(folder / f"{one}.json")["runs"] for one in (protocol.reference, label)}
    names = [[run_name(pair, seed) for seed in part.seeds] for pair in part.pairs]
    larger = [factor for factor in factors if factor != 1]
    kept = DOCS / "measured" / "token_savings" / f"{args.protocol}.json"
    kept.parent.mkdir(parents=True, exist_ok=True)
    found = measured(part, protocol.digest, larger, kept, args.out, args.processes)
    curve = np.array([gains(found[f"{f:g}"] if f != 1 else runs[protocol.reference], names) for f in factors])
    agent = gains(runs[label], names)
    drawn = picture(label, factors, curve, agent, DOCS / "images").replace("](", "](images/")
    write_page("token_savings", page(args.protocol, label, factors, curve, agent, drawn))


if __name__ == "__main__":
    main()
