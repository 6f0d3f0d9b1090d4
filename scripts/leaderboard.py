"""Table of the agents that were judged by a frozen protocol.

    read-env benchmark --agent NAME --out docs/measured/micro-v1/NAME.json     # for every agent
    python scripts/leaderboard.py                                              # then docs/leaderboard.md
    python scripts/leaderboard.py --protocol micro-dev                         # docs/development.md, from docs/measured/micro-dev

Results of other pairs, presets, models or task cards are refused.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import DOCS, write_page

from read_env.agents.registry import GROUPS
from read_env.reporting.markdown import markdown_table, number, p_value
from read_env.reporting.statistics import holm, paired, seed_bootstrap
from read_env.running.benchmark import IncompleteResult, Protocol, load_protocol, load_result

#: Protocol -> name of the page and its title.
PAGES = {
    "micro-v1": ("leaderboard", "Leaderboard"),
    "micro-dev": ("development", "Development pairs"),
    "micro-dev-tasks": ("development_tasks", "Development pairs of measured tasks"),
}
#: Gains relative to the reference's mean on the pair, for the performance profile.
LEVELS = (0.5, 0.75, 1.0, 1.25, 1.5)


@dataclass(frozen=True, eq=False)
class Entry:
    """One agent.

    Attributes:
        agent: its label.
        name: its name in the registry, without options.
        before: completion tokens spent before a run: on recorded runs that it was fitted on.
        gains: (pairs, seeds) gain of exam utility.
        forgetting: mean forgetting on the probes.
    """

    agent: str
    name: str
    before: int
    gains: np.ndarray
    forgetting: float

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Entry:
        """Entry of a result."""
        gains = [np.subtract(one["exam_utility"], one["exam_utility_start"]) for one in result["pairs"]]
        forgetting = float(np.mean([one["forgetting"] for one in result["pairs"]]))
        return cls(result["agent"], result["name"], int(result["tokens_before_run"]), np.array(gains), forgetting)

    @property
    def group(self) -> str:
        """Group of the agent in the registry."""
        return next((group for group, agents in GROUPS.items() if self.name in agents), "others")


def page(protocol: Protocol, name: str, entries: list[Entry], left_out: Sequence[str] = ()) -> str:
    """Text of docs/leaderboard.md; agents whose runs are not all there are named alone.

    Raises:
        SystemExit: no result of the protocol's reference.
    """
    reference = next((one for one in entries if one.agent == protocol.reference), None)
    if reference is None:
        raise SystemExit(f"there is no result of {protocol.reference}, with which the others are compared")
    entries = sorted(entries, key=lambda one: -one.gains.mean())
    scale = reference.gains.mean(1, keepdims=True)
    others = [one for one in entries if one is not reference]
    tests = {one.agent: paired(one.gains.T, reference.gains.T) for one in others}
    adjusted = dict(zip(tests, holm([test.p_t for test in tests.values()]), strict=True)) if tests else {}
    rows, profile, by_pair = [], [], []
    for one in entries:
        relative = one.gains / scale
        mean, iqm = seed_bootstrap(one.gains), seed_bootstrap(relative, "iqm")
        cells = ["", "", ""]
        if one is not reference:
            difference = tests[one.agent].difference
            better = (one.gains > reference.gains) + 0.5 * (one.gains == reference.gains)
            cells = [
                f"{number(difference.mean, signed=True)} [{number(difference.low, signed=True)}, {number(difference.high, signed=True)}]",
                p_value(float(adjusted[one.agent])),
                number(float(better.mean()), 2),
            ]
        rows.append([
            one.agent, one.group, number(mean.mean, signed=True), f"{number(iqm.mean, 2)} [{number(iqm.low, 2)}, {number(iqm.high, 2)}]",
            *cells, number(one.forgetting), f"{one.before:,}",
        ])  # fmt: skip
        profile.append([one.agent, *(number(float((relative >= level).mean()), 2) for level in LEVELS)])
        by_pair.append([one.agent, *(number(float(gain), signed=True) for gain in one.gains.mean(1))])
    header = [
        "agent", "group", "gain", "IQM, relative", f"ahead of {reference.agent}", "p, Holm", "better", "forgetting", "tokens before",
    ]  # fmt: skip
    seeds, pairs = len(protocol.seeds), [pair.label for pair in protocol.pairs]
    waiting = f"Not all runs are there yet: {', '.join(left_out)}.\n\n" if left_out else ""
    judged = (
        "Pairs for choosing settings: no judgement."
        if "-dev" in name
        else "No policy was trained on them and no setting chosen."
    )
    return (
        f"# {PAGES.get(name, ('', name))[1]}\n\nMade by `python scripts/leaderboard.py --protocol {name}` from the files in "
        f"`docs/measured/{name}`. {len(pairs)} pairs of task and starting student, {seeds} seeds each "
        f"(`read_env/benchmarks/{name}.toml`). {judged}\n\n"
        "*gain*: of exam utility over the starting student, mean over pairs and seeds. *IQM, relative*: interquartile mean of the "
        f"gains divided by the mean gain of {reference.agent} on the pair; 95 %, bootstrap over seeds that the pairs share. *ahead*: "
        "mean difference and its 95 % interval, paired t over seeds; its p is adjusted over the table (Holm). *better*: share of "
        f"pairs and seeds on which the agent gains more than {reference.agent}, ties half. *tokens before*: completion tokens of recorded runs "
        "that the agent was fitted on.\n\n"
        f"{markdown_table(header, rows, text_columns=2)}\n\n"
        f"{waiting}"
        f"## Gain by pair\n\n{markdown_table(['agent', *pairs], by_pair)}\n\n"
        "## Performance profile\n\nShare of pairs and seeds with at least this gain, relative to the mean gain of "
        f"{reference.agent} on the pair.\n\n{markdown_table(['agent', *(f'≥ {level:g}' for level in LEVELS)], profile)}\n\n"
        "## An agent of yours\n\n"
        f"1. Write it: any class with `predict` ([agents.md](agents.md)).\n"
        f"2. `read-env benchmark --agent my_agent:MyAgent --protocol {name} --out docs/measured/{name}/my-agent.json` ({len(pairs) * seeds} runs; "
        "interrupted, the same command goes on).\n"
        f"3. `python scripts/leaderboard.py --protocol {name}` makes this page with it.\n"
        "4. Train on other students, and on the tasks that `scripts/record_transitions.py` lists.\n"
        "5. Tokens of recorded runs that the agent was fitted on count in its `tokens_before_run`.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--protocol", default="micro-v1")
    parser.add_argument("--results", type=Path, help="folder of the results; docs/measured/PROTOCOL by default")
    args = parser.parse_args()
    folder = args.results or DOCS / "measured" / args.protocol
    protocol = load_protocol(args.protocol)
    entries, left_out = [], []
    for path in sorted(folder.glob("*.json")):
        try:
            entries.append(Entry.of(load_result(path, protocol)))
        except IncompleteResult as error:
            left_out.append(path.stem)
            print(error)
    write_page(PAGES.get(args.protocol, (args.protocol, ""))[0], page(protocol, args.protocol, entries, left_out))


if __name__ == "__main__":
    main()
