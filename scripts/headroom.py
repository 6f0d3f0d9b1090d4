"""Room above the static rules: what else the same tokens could win, by task and starting student.

    python scripts/headroom.py                 # docs/measured/headroom.jsonl, then docs/headroom.md
    python scripts/headroom.py --processes 1   # after an interruption the same command continues

On profiling seeds, a tree of schedules is played for every starting student: some allocations for the first part of the
budget, and from each of these students further ones for the rest. A schedule's outcome depends on no task, so all
tasks of a student choose from one tree, by exact match on dev. The chosen schedules, the rules, and a lookahead are measured
on fresh seeds by the exam. The lookahead tries allocations for real at every decision, plays each of them to the end of the
budget by w = r, restores the student, and takes the one with the highest utility on the probes. The policies that do best on
these seeds are measured again on further ones, against w = r, water-filling and the best fixed allocation.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from common import digest_of, kept_results, parser_of, recorded, write_page

from read_env.agents.lookahead import Lookahead
from read_env.agents.observation import View
from read_env.capabilities import Suite, get_suite
from read_env.config import load_preset
from read_env.distillation.process import Distillation
from read_env.envs.distillation import DistillationEnv
from read_env.reporting.markdown import markdown_table, number
from read_env.reporting.statistics import Estimate, paired
from read_env.running.agents import AgentDriver, AgentSpec, build_agent
from read_env.tasks import load_task

#: (task, starting student): the first list is for choosing and training policies, the second for judging them. The starting
#: student is another one with every seed, so no fixed allocation is tuned to it.
TRAINING_PAIRS = tuple(
    (task, "random-a") for task in ("bookkeeper", "auditor", "dispatcher", "order-desk", "tutor", "code-reviewer")
)
JUDGING_PAIRS = tuple(
    (task, "random-b")
    for task in ("travel-desk", "agent", "shift-planner", "personal-assistant", "price-tagger", "quiz-host")
)
#: First K of the drawn students ``random:K``; the seed is added.
DRAWN = {"random-a": 0, "random-b": 100_000}
PAIRS = TRAINING_PAIRS + JUDGING_PAIRS
PROFILING_SEEDS = (7001, 7002, 7003)
FRESH_SEEDS = (7101, 7102, 7103, 7104)
#: Seeds of the advantages in the page; the policies were chosen on the others.
CONFIRMING_SEEDS = (7301, 7302, 7303, 7304, 7305, 7306, 7307, 7308)
#: Trained policy, beside the rules.
POLICY = "pretrained:micro"
#: Rules and their options.
RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "w = r": ("task-static", {}),
    "w = r, floor": ("task-static", {"floor": 0.02}),
    "uniform": ("uniform", {}),
    "√r": ("sqrt-task", {}),
    "√r, floor": ("sqrt-task", {"floor": 0.02}),
    "water-filling": ("water-filling", {}),
    "water-filling, floor": ("water-filling", {"floor": 0.02}),
    POLICY: ("pretrained:micro", {}),
}
#: Allocations of the first part, of the second, and of those that are played for the whole budget.
FIRST, SECOND, FIXED = 7, 9, 24
#: Ends of the first part, as shares of the budget.
SWITCHES = (0.2, 0.5)
#: Schedules of each kind that a task's choice is made from, after the first profiling seed.
FINALISTS = 3
#: Rules that follow the student: parts of the drills beside the requirement, spent by what is missing, w ∝ (r + part)·(1 − s).
FOLLOWING = {"water-filling, drills": 0.4}
#: Shares of the budget after which the lookahead decides.
DECISIONS = (0.0, 0.2)
BEST_FIXED, BEST_TWO_PHASE, LOOKAHEAD = "best fixed", "best two-phase", "lookahead"
#: Policies that are no static rule, and policies that look at the student while it learns.
FREE = (BEST_FIXED, BEST_TWO_PHASE, LOOKAHEAD, POLICY, *FOLLOWING)
WATCHING = (LOOKAHEAD, "water-filling", "water-filling, floor", POLICY, *FOLLOWING)
#: Least advantage that counts, as a part of what w = r gains.
MARGIN = 0.1

#: Step of a run as it is kept, see :func:`common.recorded`.
Step = dict[str, list[float]]


@dataclass(frozen=True)
class Unit:
    """Piece of work, whose result is kept.

    Attributes:
        kind: ``start``, ``branch``, ``schedule``, ``rule`` or ``lookahead``.
        student: starting student.
        seed: seed of the episode.
        task: task of a rule or lookahead; empty where the outcome depends on none.
        name: of the rule; number of a schedule's one allocation, or of its two, such as ``3-8@0.2``; or the first one of
            a branch.
        split: split of the exact match, ``dev`` or ``exam``.
    """

    kind: str
    student: str
    seed: int
    task: str = ""
    name: str = ""
    split: str = "exam"

    @property
    def key(self) -> str:
        """Name of the result."""
        parts = (self.kind, self.student, self.task, self.name, str(self.seed), self.split)
        return "__".join(part.replace(" ", "_") for part in parts if part)


@lru_cache(maxsize=2)
def environment(preset: str, split: str) -> DistillationEnv:
    """Environment of a worker process, with its models; many runs share the teacher's answers."""
    sizes = {"exam": 64} if split == "dev" else {}
    config = load_preset(preset, {"distill": {"teacher_batch_size": 96}, "eval": {"exam_split": split, **sizes}})
    return DistillationEnv(preset=preset, overrides=config.model_dump(exclude={"preset"}))


def play(unit: Unit, preset: str) -> Any:
    """Result of a unit, see :func:`outcome`; for a branch, name of the schedule -> result."""
    env = environment(preset, unit.split)
    options = {"task": unit.task or env.config.task, "student": start_of(unit.student, unit.seed)}
    observation, _ = env.reset(seed=unit.seed, options=options)
    distillation = env.distillation
    assert distillation is not None
    start, steps = distillation.profile, []
    pool = allocations(unit.student, env.suite)
    if unit.kind == "branch":
        return _branch(distillation, unit.name, pool)
    if unit.kind == "schedule":
        for at, until in parts(unit.name):
            steps += spend(distillation, pool[at], until)
    elif unit.kind == "rule" and unit.name in FOLLOWING:
        part, ended = FOLLOWING[unit.name], False
        wanted = (1 - part) * env.requirement + part * _drills(env.suite.names)
        while not ended:
            _, ended, step = act(env, wanted * (1 - env.profile))
            steps.append(step)
    elif unit.kind == "rule":
        name, options = RULES[unit.name]
        agent = AgentDriver(build_agent(AgentSpec.parse(name, options), env.suite, unit.seed, False), name)
        begins, ended = np.ones(1, dtype=bool), False
        while not ended:
            action, _ = agent.predict(observation, episode_start=begins)
            observation, ended, step = act(env, action)
            steps.append(step)
            begins = np.zeros(1, dtype=bool)
    elif unit.kind == "lookahead":
        agent, ended = DrillLookahead(env.suite.names, options={"decide_at": DECISIONS}), False
        agent.attach(env)
        while not ended:
            observation, ended, step = act(env, agent.predict(observation)[0])
            steps.append(step)
    return outcome(distillation, start, steps)


def start_of(student: str, seed: int) -> str:
    """Starting student of an episode, as in ``models.start``.

    >>> start_of("clerk", 7001), start_of("random-b", 7001)
    ('clerk', 'random:107001')
    """
    return f"random:{DRAWN[student] + seed}" if student in DRAWN else student


def parts(schedule: str) -> list[tuple[int, float]]:
    """Number of each of a schedule's allocations, and the share of the budget until which it is played.

    >>> parts("3"), parts("3-8@0.2")
    ([(3, 1.0)], [(3, 0.2), (8, 1.0)])
    """
    numbers, _, switch = schedule.partition("@")
    first, _, second = numbers.partition("-")
    return [(int(first), float(switch)), (int(second), 1.0)] if second else [(int(first), 1.0)]


def _branch(distillation: Distillation, first: str, pool: np.ndarray) -> dict[str, Any]:
    """Outcomes of the schedules that begin with one allocation: at each switch every other one, and itself to the end."""
    start, steps, found = distillation.profile, [], {}
    for switch in SWITCHES:
        steps += spend(distillation, pool[int(first)], switch)
        here = distillation.snapshot()
        for second in (at for at in range(SECOND) if at != int(first)):
            found[f"{first}-{second}@{switch}"] = outcome(
                distillation, start, steps + spend(distillation, pool[second])
            )
            distillation.restore(here)
    return found | {first: outcome(distillation, start, steps + spend(distillation, pool[int(first)]))}


def outcome(distillation: Distillation, start: np.ndarray, steps: Sequence[Step]) -> dict[str, Any]:
    """Exact match by capability, the probe profile at the start, and the steps."""
    return {"exam": distillation.exam().tolist(), "start": start.round(4).tolist(), "steps": list(steps)}


def spend(distillation: Distillation, allocation: np.ndarray, until: float = 1.0) -> list[Step]:
    """Steps with one allocation until a share of the budget is spent."""
    count, steps = round(until * distillation.config.budget.steps), []
    while not distillation.exhausted and distillation.step_index < count:
        steps.append(recorded(distillation.step(allocation)))
    return steps


def act(env: DistillationEnv, action: np.ndarray) -> tuple[Any, bool, Step]:
    """Step of the environment: observation, end of the episode, and what is kept of it."""
    observation, _, ended, _, _ = env.step(action)
    assert env.last_report is not None
    return observation, ended, recorded(env.last_report)


def _drills(names: Sequence[str]) -> np.ndarray:
    """(|C|,) even shares of the drills; of all, in a suite without."""
    drills = np.array([name in ("sums", "prices") for name in names], dtype=float)
    return drills / drills.sum() if drills.any() else np.full(len(names), 1 / len(names))


class DrillLookahead(Lookahead):
    """Lookahead that tries r, r with as many tokens for the drills that are missing, and these drills alone."""

    def tried(self, view: View) -> np.ndarray:
        drills = _drills(self.capabilities) * (1.01 - view.profile)
        return np.array([(1 - part) * view.requirement + part * drills / drills.sum() for part in (0.0, 0.5, 1.0)])


@cache
def _drawn(student: str, size: int) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(student.encode()))
    found = []
    for i in range(FIXED):
        chosen = rng.choice(size, rng.integers(2, 6), replace=False)
        shares = np.zeros(size)
        shares[chosen] = rng.dirichlet(np.ones(len(chosen)))
        found.append(shares if i % 2 else 0.8 * shares + 0.2 / size)
    return np.array(found)


def allocations(student: str, suite: Suite) -> np.ndarray:
    """(FIXED, |C|) allocations: r of the student's tasks, r mixed with drills, drills alone, even shares, and drawn ones."""
    size = len(suite)
    needs = [load_task(task, suite).requirement_vector(suite) for task, start in PAIRS if start == student]
    drills = _drills(suite.names)
    suggested = [drills, *needs, *(0.7 * need + 0.3 * drills for need in needs), np.full(size, 1 / size)]
    suggested += [0.4 * need + 0.6 * drills for need in needs]
    return np.array([*suggested, *_drawn(student, size)])[:FIXED]


def results(units: Sequence[Unit], preset: str, path: Path, processes: int) -> dict[Unit, Any]:
    """Results of all units; those that the file lacks are made in worker processes."""
    jobs = {unit.key: (unit, preset) for unit in units}
    found = kept_results(jobs, play, path, processes, digest_of(load_preset(preset)))
    return {unit: found[unit.key] for unit in units}


def exam_in(result: Any) -> np.ndarray:
    """(|C|,) exact match of a result."""
    return np.array(result["exam"])


def schedules(student: str, tasks: Sequence[str], suite: Suite, make: Any) -> dict[str, dict[str, str]]:
    """For each task, the best fixed and the best two-phase schedule of the tree, by name."""
    first, *others = PROFILING_SEEDS
    branches = make([Unit("branch", student, first, name=str(at), split="dev") for at in range(FIRST)])
    whole = make([Unit("schedule", student, first, name=str(at), split="dev") for at in range(FIRST, FIXED)])
    profiles = {name: [exam_in(result)] for found in branches.values() for name, result in found.items()}
    profiles |= {unit.name: [exam_in(result)] for unit, result in whole.items()}
    kinds = {BEST_FIXED: True, BEST_TWO_PHASE: False}
    cards = {task: load_task(task, suite) for task in tasks}
    left: dict[tuple[str, str], list[str]] = {}
    for task, card in cards.items():
        ranked = sorted(profiles, key=lambda name: -card.utility(profiles[name][0], suite))
        for kind, fixed in kinds.items():
            left[task, kind] = [name for name in ranked if (len(parts(name)) == 1) == fixed][:FINALISTS]
    names = {name for found in left.values() for name in found}
    for unit, values in make(
        [Unit("schedule", student, seed, name=n, split="dev") for n in sorted(names) for seed in others]
    ).items():
        profiles[unit.name].append(exam_in(values))
    best: dict[str, dict[str, str]] = {task: {} for task in tasks}
    for (task, kind), found in left.items():
        best[task][kind] = max(found, key=lambda n: np.mean([cards[task].utility(p, suite) for p in profiles[n]]))
    return best


@dataclass(frozen=True)
class Pair:
    """Exam utilities of one task and starting student.

    Attributes:
        task, student: the pair.
        start: (seeds,) utility of the starting student.
        utilities: policy -> (seeds,) utility at the end of the budget.
        chosen: best fixed and best two-phase schedule, names in the tree.
    """

    task: str
    student: str
    start: np.ndarray
    utilities: dict[str, np.ndarray]
    chosen: dict[str, str]

    def gain(self, policy: str) -> float:
        """Mean gain over the seeds."""
        return float(np.mean(self.utilities[policy] - self.start))

    def best(self, policies: Sequence[str]) -> str:
        """Policy with the highest mean gain."""
        return max(policies, key=self.gain)

    def ahead(self, policy: str, of: str) -> Estimate:
        """Advantage of one policy over another, with the interval of a paired t test over seeds."""
        return paired(self.utilities[policy], self.utilities[of]).difference

    def clear(self, policy: str, of: str) -> bool:
        """True if the advantage is at least ``MARGIN`` of what w = r gains, and its interval lies above zero."""
        advantage = self.ahead(policy, of)
        return advantage.low > 0 and advantage.mean >= MARGIN * max(self.gain("w = r"), 0.0)


def measure(tasks: Sequence[str], student: str, suite: Suite, seeds: Sequence[int], make: Any) -> list[Pair]:
    """Exam utilities of all policies, for all tasks with one student."""
    chosen = schedules(student, tasks, suite, make)
    policies = [*RULES, *FOLLOWING, BEST_FIXED, BEST_TWO_PHASE, LOOKAHEAD]
    return played({(task, student): policies for task in tasks}, chosen, suite, seeds, make)


def confirm(pairs: Sequence[Pair], suite: Suite, seeds: Sequence[int], make: Any) -> list[Pair]:
    """Exam utilities on further seeds, of the policies that did best on the first ones and of those they are compared with."""
    chosen = {pair.task: pair.chosen for pair in pairs}
    policies = {
        (pair.task, pair.student): list(
            dict.fromkeys(["w = r", "water-filling", pair.best(FREE), pair.best(WATCHING), BEST_FIXED])
        )
        for pair in pairs
    }
    return played(policies, chosen, suite, seeds, make)


def played(
    policies: Mapping[tuple[str, str], Sequence[str]],
    chosen: Mapping[str, dict[str, str]],
    suite: Suite,
    seeds: Sequence[int],
    make: Any,
) -> list[Pair]:
    """Exam utilities of some policies.

    Args:
        policies: (task, student) -> policies.
        chosen: task -> best fixed and best two-phase schedule, as :func:`schedules` finds them.
        suite: the suite.
        seeds: seeds of the episodes.
        make: units -> results.
    """
    wanted: dict[tuple[str, str, str], list[Unit]] = {}
    starts: dict[str, list[Unit]] = {}
    for (task, student), named in policies.items():
        starts[student] = [Unit("start", student, seed if student in DRAWN else seeds[0]) for seed in seeds]
        for policy in named:
            wanted[task, student, policy] = [unit_of(policy, task, student, seed, chosen[task]) for seed in seeds]
    units = [unit for found in (*starts.values(), *wanted.values()) for unit in found]
    found = make(list(dict.fromkeys(units)))

    def utilities(task: str, units: Sequence[Unit]) -> np.ndarray:
        card = load_task(task, suite)
        return np.array([card.utility(exam_in(found[unit]), suite) for unit in units])

    return [
        Pair(
            task,
            student,
            utilities(task, starts[student]),
            {policy: utilities(task, wanted[task, student, policy]) for policy in named},
            chosen[task],
        )
        for (task, student), named in policies.items()
    ]


def unit_of(policy: str, task: str, student: str, seed: int, chosen: Mapping[str, str]) -> Unit:
    """Run of a policy that is measured by the exam; those whose outcome does not depend on the task are shared."""
    if policy in chosen:
        return Unit("schedule", student, seed, name=chosen[policy])
    if policy == LOOKAHEAD:
        return Unit("lookahead", student, seed, task)
    return Unit("rule", student, seed, "" if policy == "uniform" else task, policy)


def page(pairs: Sequence[Pair], confirmed: Sequence[Pair], suite: Suite, facts: str) -> str:
    """Text of docs/headroom.md.

    Args:
        pairs: all policies, on the first seeds.
        confirmed: the same pairs with the policies that did best, on further seeds.
        suite: the suite.
        facts: text below the title.
    """
    policies = [*RULES, *FOLLOWING, BEST_FIXED, BEST_TWO_PHASE, LOOKAHEAD]
    gains, advantages, listing = [], [], []
    for pair, again in zip(pairs, confirmed, strict=True):
        kind = "training" if (pair.task, pair.student) in TRAINING_PAIRS else "judging"
        cells = [number(pair.gain(policy), signed=True) for policy in policies]
        gains.append([pair.task, pair.student, kind, number(float(pair.start.mean())), *cells])
        best, looking = pair.best(FREE), pair.best(WATCHING)
        rivals = [again.ahead(best, of) for of in ("w = r", "water-filling")]
        against = again.ahead(looking, BEST_FIXED)
        cells = [f"{number(e.mean, signed=True)} ± {number(e.half_width)}" for e in (*rivals, against)]
        marks = [
            "yes" if all(again.clear(best, of) for of in ("w = r", "water-filling")) else "no",
            "yes" if against.low > 0 else "no",
        ]
        static = number(again.gain("w = r"), signed=True)
        advantages.append([pair.task, pair.student, best, static, *cells[:2], marks[0], looking, cells[2], marks[1]])
        pool = allocations(pair.student, suite)
        for policy, name in pair.chosen.items():
            shares = ", then ".join(f"until {until:.0%} {_shares(pool[at], suite)}" for at, until in parts(name))
            listing.append(f"- {pair.task}, {pair.student}, {policy}: {shares}")
    counts = [sum(row[column] == "yes" for row in advantages) for column in (6, 9)]
    header = ["task", "student", "for", "start", *policies]
    columns = ["task", "student", "best", "w = r", "over w = r", "over water-filling", "clear"]
    columns += ["watching", "over best fixed", "above 0"]
    listed = "\n".join(listing)
    return (
        f"# Room above the static rules\n\n{facts}\n\n"
        "Gain of exam utility over the starting student, mean over the fresh seeds:\n\n"
        f"{markdown_table(header, gains, text_columns=3)}\n\n"
        f"{_means(pairs)}\n\n"
        "## Advantage on further seeds\n\n"
        f"*best*: of {', '.join(FREE)} the one with the highest mean above. *watching*: the same of the policies that look at "
        f"the student while it learns ({', '.join(WATCHING)}). The gain of w = r and the differences are measured on the "
        "further seeds alone, on which nothing was chosen. *clear*: ahead of both w = r and water-filling, each time by "
        f"{MARGIN:.0%} of what w = r gains or more and with an interval above zero: **{counts[0]} of {len(pairs)}** pairs. A "
        f"watching policy is ahead of the best fixed allocation with an interval above zero on **{counts[1]} of "
        f"{len(pairs)}**. Intervals: 95 %, paired t over seeds.\n\n"
        f"{markdown_table(columns, advantages, text_columns=3)}\n\n"
        f"Schedules that were chosen on the profiling seeds:\n\n{listed}\n"
    )


def _means(pairs: Sequence[Pair]) -> str:
    """Mean gain of the trained policy over all pairs and over those for judging, beside lookahead and w = r."""
    lines = []
    judging = [pair for pair in pairs if (pair.task, pair.student) in JUDGING_PAIRS]
    for kind, of in (("all ", pairs), ("the judging ", judging)):
        if not of:
            continue
        own, ahead, static = (np.mean([pair.gain(policy) for pair in of]) for policy in (POLICY, LOOKAHEAD, "w = r"))
        lines.append(
            f"Mean over {kind}pairs ({len(of)}): {POLICY} gains {number(float(own), signed=True)}, {own / ahead:.2f} times what "
            f"the lookahead gains and {own / static:.2f} times what w = r gains."
        )
    return "\n".join(lines)


def _shares(allocation: np.ndarray, suite: Suite) -> str:
    return " ".join(f"{n}={share:.2f}" for n, share in zip(suite.names, allocation, strict=True) if share >= 0.005)


def main() -> None:
    parser = parser_of(__doc__, "docs/measured")
    parser.add_argument("--preset", default="micro")
    parser.add_argument("--seeds", type=int, nargs="*", default=FRESH_SEEDS)
    parser.add_argument("--confirming-seeds", type=int, nargs="*", default=CONFIRMING_SEEDS)
    parser.add_argument("--students", nargs="*", default=list(dict.fromkeys(student for _, student in PAIRS)))
    args = parser.parse_args()

    config = load_preset(args.preset)
    suite = get_suite(config.suite)

    def make(units: Sequence[Unit]) -> dict[Unit, Any]:
        return results(units, args.preset, args.out / "headroom.jsonl", args.processes)

    pairs, confirmed = [], []
    for student in args.students:
        measured = measure([task for task, start in PAIRS if start == student], student, suite, args.seeds, make)
        pairs += measured
        confirmed += confirm(measured, suite, args.confirming_seeds, make)
    tree = FIRST * (SECOND - 1) * len(SWITCHES)
    facts = (
        f"{config.budget.total_tokens:,} completion tokens in steps of {config.budget.step_tokens:,}. For every student "
        f"{tree} schedules of two phases that change at {' or '.join(f'{s:.0%}' for s in SWITCHES)} of the budget, and {FIXED} "
        f"fixed allocations, on seed {PROFILING_SEEDS[0]}; the best {FINALISTS} of each kind and task also on "
        f"{list(PROFILING_SEEDS[1:])}: {(tree + FIXED) * config.budget.total_tokens / 1e6:.1f} million tokens for a student, "
        f"were none shared. The lookahead takes {len(DECISIONS)} decisions. Fresh seeds: {list(args.seeds)}; further seeds: "
        f"{list(args.confirming_seeds)}."
    )
    part = f" --students {' '.join(args.students)}" if len(pairs) < len(PAIRS) else ""
    write_page("headroom", page(pairs, confirmed, suite, f"Made by `python scripts/headroom.py{part}`. {facts}"))


if __name__ == "__main__":
    main()
