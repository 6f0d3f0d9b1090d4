"""Real episodes of varied policies on the micro world, from which a surrogate is fitted.

    python scripts/record_transitions.py                 # docs/measured/transitions.jsonl
    python scripts/record_transitions.py --processes 1   # after an interruption the same command continues

The students, tasks and seeds are those for training: no pair of the protocol ``micro-v1`` is among them.
``scripts/fit_surrogate.py`` makes the table that ships of them. An episode's
outcome depends on its allocations alone; a task matters only for the rules that follow its requirement.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from common import digest_of, kept_results, parser_of, recorded

from read_env.config import load_preset
from read_env.distillation.process import Distillation
from read_env.distillation.starts import TRAINING_STARTS
from read_env.envs.catalogue import water_filling
from read_env.tasks import load_task

PRESET = "micro"
TASKS = ("bookkeeper", "auditor", "dispatcher", "order-desk", "tutor", "code-reviewer")
STUDENTS = ("even", *TRAINING_STARTS, *(f"random:{number}" for number in range(500, 517)))
#: Episodes of each student: its policies, in this order, over and over.
EPISODES = 26
#: Episodes of a student before the next one's turn, so that an unfinished record has all students.
ROUND = 3
POLICIES = (
    "sparse", "dirichlet", "switching", "changing", "one-switch", "sparse",
    "task-static", "switching", "water-filling", "changing", "sqrt-task", "one-switch", "uniform",
)  # fmt: skip
#: Rules that follow a task.
RULED = ("task-static", "water-filling", "sqrt-task", "uniform")
#: Seeds of the prompts: one for each of a student's first episodes, and few for the later ones, whose prompts the teacher has
#: answered before.
SEEDS, FEW = tuple(range(8001, 8014)), 3


@lru_cache(maxsize=1)
def distillation() -> Distillation:
    """Distillation of a worker process, with its models."""
    return Distillation.load(load_preset(PRESET, {"distill": {"teacher_batch_size": 96}}))


def seed_of(number: int) -> int:
    """Seed of the prompts of a student's episode."""
    return SEEDS[number if number < len(SEEDS) else number % FEW]


def schedule(policy: str, steps: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """(steps, |C|) allocations of a drawn policy.

    ``sparse``, ``dirichlet``: one allocation; ``one-switch``, ``switching``: sparse ones that change once, or with probability
    .3 at each step; ``changing``: another one at each step.
    """

    def sparse() -> np.ndarray:
        chosen = rng.choice(size, rng.integers(1, min(5, size) + 1), replace=False)
        shares = np.zeros(size)
        shares[chosen] = rng.dirichlet(np.ones(len(chosen)))
        floor = rng.choice([0.0, 0.1, 0.3])
        return (1 - floor) * shares + floor / size

    changes = {
        "one-switch": np.arange(steps) == rng.integers(1, steps),
        "switching": rng.random(steps) < 0.3,
        "changing": np.ones(steps, bool),
    }.get(policy, np.zeros(steps, bool))
    current = rng.dirichlet(np.ones(size)) if policy == "dirichlet" else sparse()
    played = []
    for change in changes:
        current = sparse() if change else current
        played.append(current)
    return np.array(played)


def act(policy: str, requirement: np.ndarray, profile: np.ndarray) -> np.ndarray:
    """Allocation of a rule that follows the requirement."""
    if policy == "water-filling":
        return water_filling(requirement, profile)
    return {"task-static": requirement, "sqrt-task": np.sqrt(requirement)}.get(policy, np.ones_like(profile))


def play(student: str, number: int) -> dict[str, Any]:
    """Episode of a student: seed, policy, task, probe profile at the start, and the steps."""
    run = distillation()
    rng = np.random.default_rng([STUDENTS.index(student), number])
    policy = POLICIES[number % len(POLICIES)]
    task = str(rng.choice(TASKS))
    seed = seed_of(number)
    size, count = len(run.suite), run.config.budget.steps
    requirement = load_task(task, run.suite).requirement_vector(run.suite)
    played = schedule(policy, count, size, rng)
    start, steps = run.reset(seed, student), []
    while not run.exhausted:
        ruled = policy in RULED
        allocation = act(policy, requirement, run.profile) if ruled else played[min(len(steps), count - 1)]
        steps.append(recorded(run.step(allocation)))
    return {
        "student": student, "seed": seed, "policy": policy, "task": task, "start": start.round(4).tolist(), "steps": steps,
    }  # fmt: skip


def jobs() -> dict[str, tuple[str, int]]:
    """Episodes by name, in the order in which they are played."""
    order = [*range(ROUND), *range(len(SEEDS), EPISODES), *range(ROUND, len(SEEDS))]
    return {
        f"{student}__{number}": (student, number)
        for first in range(0, EPISODES, ROUND)
        for student in STUDENTS
        for number in order[first : first + ROUND]
    }


def main() -> None:
    args = parser_of(__doc__, "docs/measured").parse_args()
    config = load_preset(PRESET)
    made = kept_results(jobs(), play, args.out / "transitions.jsonl", args.processes, digest_of(config))
    print(f"{len(made)} episodes")


if __name__ == "__main__":
    main()
