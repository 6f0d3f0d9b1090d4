"""Remake docs/objectives.md: every objective at one budget, from the initial student and from a partly distilled one.

    python scripts/objectives.py                 # pilot, runs and page; after an interruption the same command continues
    python scripts/objectives.py --processes 1

Named before the first run: objectives with their parameters, budgets, seeds, and the two families of
contrasts. Learning rates alone are chosen, for each objective by exact match on dev over the pilot's own
seeds, from the same five.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import exam_of, parser_of, run_all, write_page
from rich.console import Console

from read_env.capabilities import get_suite
from read_env.config import Config, load_preset
from read_env.reporting.markdown import interval, markdown_table, number, p_value, plus_minus
from read_env.reporting.runs import Run
from read_env.reporting.statistics import holm, mean_interval, paired
from read_env.running.comparison import run_many
from read_env.running.requests import RunRequest
from read_env.running.runner import make_env

#: A batch of the teacher's answers; more than one of them needs the tail among the top tokens.
SETTINGS = {"teacher_batch_size": 96, "teacher_top_k": 16}
SEEDS = (7201, 7202, 7203, 7204)
PILOT_SEEDS = (7101,)
#: Peak learning rates to choose from.
RATES = (1e-4, 3e-4, 1e-3)
#: Beginning of the error message of a run that diverged.
_DIVERGED = "the student update diverged"

_MIXED = {"loss": "mixed-kl"}
#: Label -> settings of ``distill``, from the first student. Parameters that aren't named are the defaults.
FROM_START: dict[str, dict[str, Any]] = {
    "sft": {"loss": "sft"},
    "fkl": {"loss": "fkl"},
    "rkl": {"loss": "rkl"},
    "jsd": {"loss": "jsd"},
    "skew-fkl": {"loss": "skew-fkl"},
    "tad": {"loss": "tad"},
    "tad, β = 0.1": {"loss": "tad", "tad_beta": 0.1},
    "mixed, fixed at ½": _MIXED,
    "mixed, greedy": {**_MIXED, "mixed_kl_schedule": "greedy"},
    "arkd-published": {"loss": "arkd-published"},
    "arkd": {"loss": "arkd"},
    "gkd": {"loss": "gkd", "num_generations": 1, "rollout_batch_size": 32},  # as many samples a rollout as the others
    "grpo": {"loss": "grpo"},
    "rlad": {"loss": "rlad"},
}
#: The same from a student that is partly distilled, where on-policy training is said to pay.
FROM_HALFWAY = {name: FROM_START[name] for name in ("sft", "fkl", "gkd", "grpo", "rlad")}
HALFWAY_TOKENS = 120_000
HALFWAY_SEED = 7001

#: Label -> its runs, and label -> its learning rate with what each of ``RATES`` reached.
Runs = Mapping[str, list[Run]]
Rates = Mapping[str, tuple[float, list[float]]]
#: (first, second) pairs of each family, Holm-adjusted together.
ARKD_FAMILY = [
    ("arkd", name) for name in ("arkd-published", *(name for name in FROM_START if name.startswith("mixed")))
]
RLAD_FAMILY = [("rlad", name) for name in ("fkl", "grpo")]


@dataclass(frozen=True)
class Setting:
    """One table: objectives from one student.

    Attributes:
        name: of its folder.
        student: source of the student.
        variants: label -> settings of ``distill``.
    """

    name: str
    student: str
    variants: Mapping[str, Mapping[str, Any]]

    def config(self, label: str, rate: float, seed: int, **settings: Any) -> Config:
        """Configuration of one run: tokens in equal parts to all capabilities."""
        distill = {**SETTINGS, **self.variants[label], "learning_rate": rate}
        models = {"student": self.student}
        own = {"agent": "uniform", "seed": seed, "models": models, "distill": distill, "eval": settings}
        return load_preset("micro", own)


def chosen_rates(setting: Setting, out: Path, processes: int) -> Rates:
    """Label -> the learning rate of the best exact match on dev, and what each of ``RATES`` reached.

    An objective that diverges at a learning rate reached 0.
    """
    requests = {}
    for seed, label, rate in itertools.product(PILOT_SEEDS, setting.variants, RATES):
        name, config = _name(label, rate, seed), setting.config(label, rate, seed, exam_split="dev")
        requests[name] = RunRequest(config, out / f"{setting.name}-pilot" / name)
    runs = run_all(f"learning rates, {setting.name}", requests, processes, tolerated=_DIVERGED)
    found = {}
    for label in setting.variants:
        names = [[_name(label, rate, seed) for seed in PILOT_SEEDS] for rate in RATES]
        reached = [float(np.mean([exam_of(runs[n]).mean() if n in runs else 0.0 for n in at])) for at in names]
        found[label] = (RATES[int(np.argmax(reached))], reached)
    return found


def measured(setting: Setting, rates: Mapping[str, float], out: Path, processes: int) -> Runs:
    """Label -> its runs, one for each of ``SEEDS``; fewer where it diverged."""
    requests = {}
    for seed, label in itertools.product(SEEDS, setting.variants):
        name = _name(label, rates[label], seed)
        requests[name] = RunRequest(setting.config(label, rates[label], seed), out / setting.name / name)
    runs = run_all(f"objectives, {setting.name}", requests, processes, tolerated=_DIVERGED)
    names = {label: [_name(label, rates[label], seed) for seed in SEEDS] for label in setting.variants}
    return {label: [runs[name] for name in own if name in runs] for label, own in names.items()}


def halfway_student(out: Path) -> Path:
    """Student distilled with ``HALFWAY_TOKENS`` in equal parts; made once."""
    directory = out / "halfway-student"
    config = Setting("halfway-student", "embedded:micro/student", FROM_START).config("fkl", 1e-3, HALFWAY_SEED)
    budget = config.budget.model_copy(update={"total_tokens": HALFWAY_TOKENS, "step_tokens": 6_000})
    config = config.model_copy(update={"budget": budget})
    failures = run_many("a student half-way", {"halfway": RunRequest(config, directory)}, 1, Console(), make_env)
    if failures:
        raise SystemExit("\n".join(failures.values()))
    return directory / "student"


def scores_table(runs: Runs, rates: Rates, names: tuple[str, ...]) -> str:
    """A row for each objective: exams on average, difference to fkl, and by capability."""
    reference = np.array([exam_of(run).mean() for run in runs["fkl"]])
    rows = []
    for label, entries in runs.items():
        rate, _ = rates[label]
        edge = " (edge)" if rate in (RATES[0], RATES[-1]) else ""
        if len(entries) < len(SEEDS):
            rows.append([label, f"{rate:g}{edge}", f"diverged on {len(SEEDS) - len(entries)} of {len(SEEDS)} seeds"])
            rows[-1] += [""] * (2 + len(names))
            continue
        exams = np.array([exam_of(run) for run in entries])
        mean = exams.mean(axis=1)
        against = "" if label == "fkl" else interval(paired(mean, reference).difference)
        probes = number(float(np.mean([run.ended.profile.mean() for run in entries])))
        rows.append([label, f"{rate:g}{edge}", plus_minus(mean_interval(mean)), against, probes])
        rows[-1] += [number(score, 2) for score in exams.mean(axis=0)]
    header = ["objective", "learning rate", "exam, mean", "against fkl, 95 %", "probes, mean", *names]
    return markdown_table(header, rows)


def contrast_table(families: Mapping[str, Runs], pairs: list[tuple[str, str]]) -> str:
    """Differences of mean exams, paired by seed; all rows are one family for Holm's adjustment."""
    rows, p_values, left_out = [], [], []
    for (where, runs), (first, second) in itertools.product(families.items(), pairs):
        if diverged := [label for label in (first, second) if len(runs[label]) < len(SEEDS)]:
            left_out.append(f"{first} − {second} from {where} has no difference: {' and '.join(diverged)} diverged.")
            continue
        a, b = (np.array([exam_of(run).mean() for run in runs[label]]) for label in (first, second))
        test = paired(a, b)
        d = test.difference
        rows.append([f"{first} − {second}", where, number(d.mean, 3, True), interval(d)])
        p_values.append(test.p_t)
    header = ["contrast", "from", "difference", "95 % (paired t)", "p", "p (Holm)"]
    adjusted = zip(rows, p_values, holm(p_values), strict=True)
    body = [[*row, p_value(p), p_value(float(both))] for row, p, both in adjusted]
    return "\n\n".join([markdown_table(header, body), *left_out])


def courses(runs: Runs) -> str:
    """Training metrics of the objectives in the first and last step, means over seeds."""
    columns = ("fkl", "rkl", "overlap", "topk_mass", "alpha", "clip_fraction", "reward")
    rows = []
    for label, entries in runs.items():
        cells = []
        for column in columns:
            ends = [[run.steps[i].metrics.get(column, float("nan")) for i in (0, -1)] for run in entries]
            first, last = np.mean(ends, axis=0) if ends else (float("nan"), float("nan"))
            cells.append("" if np.isnan(first) else f"{first:.3f} → {last:.3f}")
        rows.append([label, *cells])
    return markdown_table(["objective", *columns], rows)


def _name(label: str, rate: float, seed: int) -> str:
    """Folder of a run."""
    plain = "".join(c if c.isalnum() or c in "-." else "_" for c in label)
    return f"{plain}__lr{rate:g}__seed{seed}"


def main() -> None:
    args = parser_of(__doc__, "runs/objectives").parse_args()

    suite = get_suite("micro")
    settings = [
        Setting("from-start", "embedded:micro/student", FROM_START),
        Setting("from-halfway", str(halfway_student(args.out)), FROM_HALFWAY),
    ]
    runs, rates = {}, {}
    for setting in settings:
        rates[setting.name] = chosen_rates(setting, args.out, args.processes)
        best = {label: rate for label, (rate, _) in rates[setting.name].items()}
        runs[setting.name] = measured(setting, best, args.out, args.processes)
    write_page("objectives", page(runs, rates, suite.names))


def page(runs: Mapping[str, Runs], rates: Mapping[str, Rates], names: tuple[str, ...]) -> str:
    """Content of docs/objectives.md."""
    start, halfway = runs["from-start"], runs["from-halfway"]
    before = {name: np.asarray(entries["fkl"][0].begun.exam).mean() for name, entries in runs.items()}
    chosen = [(label, where, reached) for where, found in rates.items() for label, (_, reached) in found.items()]
    pilot = [[label, where, *map(number, reached)] for label, where, reached in chosen]
    both = {"the start": start, "half-way": halfway}
    return (
        f"# The objectives compared\n\nMade by `python scripts/objectives.py`: the micro world, "
        f"{load_preset('micro').budget.total_tokens:,} completion tokens in equal parts to all capabilities (teacher's tokens, or for gkd, "
        f"grpo and rlad the student's own), {len(SEEDS)} seeds {list(SEEDS)}. Exam: exact match of greedy answers, mean "
        "over capabilities, ± half the 95 % t interval over seeds. Contrasts were named before the first run. The "
        "learning rate of each objective is the best by exact match on dev, on other seeds (last table; "
        '"edge": the smallest or largest that was tried); all other parameters are the defaults of `distill`, '
        f"{SETTINGS['teacher_top_k']} teacher probabilities per token, and samples in rollouts of 32. The corrected arkd also asks "
        "the teacher about 4 dev prompts per capability, outside the budget, and is rewarded by them; dev has no part in "
        "the exam.\n\n"
        f"## From the first student\n\nIts mean exam is {before['from-start']:.3f}.\n\n"
        f"{scores_table(start, rates['from-start'], names)}\n\n"
        f"## From a student half-way\n\nDistilled with fkl on {HALFWAY_TOKENS:,} tokens of another seed; its mean exam "
        f"is {before['from-halfway']:.3f}. Samples of a better student earn more reward.\n\n"
        f"{scores_table(halfway, rates['from-halfway'], names)}\n\n"
        f"## ARKD against its schedules\n\n{contrast_table({'the start': start}, ARKD_FAMILY)}\n\n"
        "## RLAD against offline distillation and GRPO\n\nEvery capability here has a verifier, whose verdict is the "
        f"reward.\n\n{contrast_table(both, RLAD_FAMILY)}\n\n"
        "## What the objectives saw\n\nMeans over the tokens of the first and of the last step: both divergences in "
        "nats per token, teacher mass within the top tokens, overlap of teacher and student, share of forward KL (alpha), "
        "share of clipped ratios, mean reward. The prompts of the last step are harder (`distill.curriculum`), so a "
        f"column may get worse while the student gets better.\n\nFrom the first student:\n\n{courses(start)}\n\n"
        f"From a student half-way:\n\n{courses(halfway)}\n\n"
        f"## The pilot\n\nMean exact match on dev at each learning rate, seeds {list(PILOT_SEEDS)}; 0 where it diverged.\n\n"
        + markdown_table(["objective", "from", *(f"{rate:g}" for rate in RATES)], pilot, text_columns=2)
        + "\n"
    )


if __name__ == "__main__":
    main()
