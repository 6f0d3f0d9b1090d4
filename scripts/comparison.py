"""Remake docs/comparison.md: the agents on six tasks and ten seeds.

    python scripts/comparison.py                 # hours on two cores; after an interruption the same command continues
    python scripts/comparison.py --processes 1

Named before the first run: the tasks, the seeds, the budget and the primary contrasts. What learns
beforehand does so on other tasks and other seeds, except grid-searched: its search is for the very
tasks, on other seeds.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from common import call, parser_of, publish
from fixed_allocations import SEARCH_SEEDS, SETTINGS, Search, search
from rich.console import Console

from read_env import files
from read_env.agents import make_agent
from read_env.capabilities import get_suite
from read_env.config import Config, load_preset
from read_env.reporting import comparison_report
from read_env.reporting.comparison import EXAM_UTILITY, PROBE_UTILITY, Comparison, load_comparison
from read_env.reporting.markdown import ABSENT, markdown_table, number
from read_env.running.agents import TRAINING_RECORD, AgentSpec
from read_env.running.batch_requests import ComparisonRequest
from read_env.running.comparison import compare
from read_env.running.pool import map_jobs
from read_env.running.requests import TrainingRequest
from read_env.running.training import train
from read_env.tasks import load_task

TASKS = ("agent", "bookkeeper", "hotel-desk", "personal-assistant", "travel-desk", "tutor")
TRAINING_TASKS = (
    "code", "data-journalist", "dispatcher", "document-assistant", "librarian", "math", "order-desk", "polyglot-cashier",
    "tour-guide", "translator", "world-guide",
)  # fmt: skip
SEEDS = tuple(range(9101, 9111))
TRAINING_SEED = 4001
TRAINING_STEPS = 400

CONTROLS = (
    "uniform", "task-static", "sqrt-task", "water-filling", "water-filling,when=start", "one-hot", "round-robin",
    "random-candidate",
)  # fmt: skip
BANDITS = ("read-bandit", "read-bandit-published", "greedy")
TRAINED = ("read-bandit", "sb3:PPO")
REFERENCES = ("task-static", "water-filling", "random-candidate")
PRIMARY = {"read-bandit": REFERENCES, "read-bandit-trained": REFERENCES}


def train_one(name: str, directory: Path) -> None:
    """Train one agent on the training tasks, in a worker process."""
    config = load_preset("micro", {**SETTINGS, "seed": TRAINING_SEED, "agent": name})
    console = Console(file=(directory.parent / f"{directory.name}.log").open("a"))
    train(TrainingRequest(config, TRAINING_TASKS, TRAINING_STEPS, directory), console)


def train_all(out: Path, processes: int) -> dict[str, Path]:
    """Agent -> directory of its training."""
    directories = {name: out / f"train-{name.replace(':', '-')}" for name in TRAINED}
    out.mkdir(parents=True, exist_ok=True)
    trainings = {name: (name, directory) for name, directory in directories.items()}
    map_jobs(partial(call, train_one), trainings, lambda name, event: event.value(name), processes=processes)
    return directories


def grid_searched(found: Search, config: Config, directory: Path) -> Path:
    """Agent that plays the best fixed allocation of each task, found by fixed_allocations.py."""
    suite = get_suite(config.suite)
    agent = make_agent("grid-searched", capabilities=suite.names)
    for label, utilities in found.utilities.items():
        for task, utility in utilities.items():
            agent.record(load_task(task, suite).requirement_vector(suite), found.space[label], utility)
    directory.mkdir(parents=True, exist_ok=True)
    agent.save(directory / "agent.zip")
    files.write_json(directory / TRAINING_RECORD, {"label": "grid-searched", "tokens_before_run": found.tokens})
    return directory


def agents_of(trained: dict[str, Path], searched: Path) -> dict[str, str]:
    """Agents of the main comparison -> their labels."""
    agents = [*CONTROLS, *BANDITS, str(searched), *map(str, trained.values())]
    labels = {agent: AgentSpec.parse(agent).label for agent in agents}
    return {**labels, f"{trained['read-bandit']},update=false": "read-bandit-trained-no-update"}


def main() -> None:
    parser = parser_of(__doc__, "runs/comparison")
    parser.add_argument("--search-out", type=Path, default=Path("runs/search"))
    parser.add_argument("--controls-only", action="store_true", help="stop after the agents that learn nothing")
    args = parser.parse_args()

    config = load_preset("micro", SETTINGS)

    def comparison(agents: dict[str, str], directory: Path) -> Path:
        names, labels = tuple(agents), tuple(agents.values())
        request = ComparisonRequest(config, names, TASKS, SEEDS, args.processes, directory, labels=labels)
        result = compare(request, Console())
        if result.failures:
            raise SystemExit("\n".join(f"{name}: {error}" for name, error in result.failures.items()))
        return directory

    comparison({name: AgentSpec.parse(name).label for name in CONTROLS}, args.out / "main")
    if args.controls_only:
        return
    trained = train_all(args.out, args.processes)
    found = search(config, SEARCH_SEEDS, args.search_out, args.processes)
    agents = agents_of(trained, grid_searched(found, config, args.out / "grid-searched"))
    main_directory = comparison(agents, args.out / "main")
    print(publish_page(main_directory))


def publish_page(directory: Path) -> Path:
    """Write the page."""
    pictures, files = ["comparison.png", "exam_utility_gain.png", "utility.png"], ["runs.csv"]
    report = comparison_report(directory, primary=PRIMARY)
    intro = (
        "Made by `python scripts/comparison.py`. Tasks, seeds, budget and primary contrasts were named before the "
        f"first run. `read-bandit-trained` and `sb3-PPO-trained` learned over {TRAINING_STEPS} steps on other tasks "
        f"({', '.join(TRAINING_TASKS)}) and other seeds; `grid-searched` searched on these tasks and other seeds.\n\n"
        + why(load_comparison(directory))
    )
    return publish(report, "comparison", title="The agents compared", intro=intro, pictures=pictures, files=files)


def why(comparison: Comparison) -> str:
    """Possible gain, noise, and the agents' use of their tokens."""
    header = "task,task-static,best agent,headroom a step,noise of a step,steps to tell,steps of a run".split(",")
    columns = "agent,first half,second half,probes − static,exam − static,moved,unneeded".split(",")
    return (
        "## What a bandit could win here\n\n"
        "Probe utility, the agents' reward, gained by task-static and by the agent that gains most on average; their "
        "difference spread over the steps of a run (the headroom); the s.d. over seeds of what one step of task-static "
        "gains, at the same step (the noise that a decision has to see through). An agent that plays two allocations "
        "in turn needs 2 · 8 · (noise / headroom)² steps until they stand two standard errors apart.\n\n"
        + markdown_table(header, [headroom(comparison, task) for task in comparison.tasks])
        + "\n\n## Where each agent gained and what it spent\n\n"
        "Means over tasks and seeds. Probe utility gained in the first and in the second half of the steps; the "
        "difference from task-static over the whole run, on the probes that an agent sees and on the exam that it "
        "doesn't; ½·Σ|w − r|, the share of tokens that went elsewhere than task-static's; the share that went to "
        "capabilities with r = 0.\n\n"
        + markdown_table(columns, [spending(comparison, agent) for agent in comparison.agents])
    )


def headroom(comparison: Comparison, task: str) -> list[str]:
    """Row of one task: gains of task-static and of the best agent, and the steps needed to tell them apart."""
    runs = comparison.runs[comparison.runs["task"] == task]
    gain = runs.groupby("agent")[PROBE_UTILITY.key].mean().reindex(comparison.agents)
    static, best = gain["task-static"], gain.idxmax()
    steps = comparison.steps[(comparison.steps["task"] == task) & (comparison.steps["agent"] == "task-static")]
    changes = np.diff(steps.pivot(index="seed", columns="step", values="utility").to_numpy(), axis=1)
    noise = float(changes.std(axis=0, ddof=1).mean())
    a_step = (gain[best] - static) / changes.shape[1]
    to_tell = f"{16 * (noise / a_step) ** 2:,.0f}" if a_step > 0 else ABSENT
    gains = [number(static, 3, True), f"`{best}` {number(gain[best], 3, True)}", number(a_step, 4, True)]
    return [task, *gains, number(noise, 4), to_tell, str(changes.shape[1])]


def spending(comparison: Comparison, agent: str) -> list[str]:
    """Row of one agent: gain by step, distance from task-static, and shares of its tokens."""
    steps = comparison.steps[comparison.steps["agent"] == agent]
    courses = steps.pivot(index=["task", "seed"], columns="step", values="utility").to_numpy()
    middle = courses[:, courses.shape[1] // 2]
    ahead = [
        float(np.nanmean(comparison.by_seed(measure, agent) - comparison.by_seed(measure, "task-static")))
        for measure in (PROBE_UTILITY, EXAM_UTILITY)
    ]
    scores = comparison.scores[(comparison.scores["agent"] == agent) & (comparison.scores["step"] > 0)]
    moved = (scores["allocation"] - scores["requirement"]).abs() / 2
    unneeded = scores["allocation"].where(scores["requirement"] == 0, 0.0)
    by_step = [part.groupby([scores["path"], scores["step"]]).sum() for part in (moved, unneeded)]
    halves = [float((middle - courses[:, 0]).mean()), float((courses[:, -1] - middle).mean())]
    shares = [number(part.groupby("path").mean().mean(), 2) for part in by_step]
    return [f"`{agent}`", *(number(value, 3, True) for value in (*halves, *ahead)), *shares]


if __name__ == "__main__":
    main()
