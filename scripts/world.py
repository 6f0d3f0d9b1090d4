"""The micro world measured: scores, learning speeds, helpers and the teacher's certainty, by starting student.

    python scripts/world.py                 # docs/measured/world.jsonl, then docs/world.md
    python scripts/world.py --processes 1   # after an interruption the same command continues

From every starting student, one run spends its tokens evenly on all capabilities but the drills, and one for each capability
gives it an extra share. The difference at the end is what these extra tokens brought, to the capability itself and to the
others. The drills are left out of the even spread because a part of it would already teach what they have to give. Further
runs on few capabilities at a time end in profiles far apart; they say what a gain on the probes means for the exam.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from common import cards_of_profiles, digest_of, kept_results, parser_of, recorded, write_page

from read_env.capabilities import Suite, get_suite
from read_env.capabilities.stream import held_out
from read_env.config import load_preset
from read_env.distillation.process import Distillation
from read_env.distillation.student.evaluation import exam
from read_env.reporting.markdown import markdown_table, number
from read_env.reporting.statistics import mean_interval, paired, spearman
from read_env.tasks import TaskCard
from read_env.tasks.prompts import sizes_of

STUDENTS = ("even", "clerk", "shopkeeper", "editor")
SEEDS = (7201, 7202)
#: Exam prompts of a capability, or as many as can be drawn.
EXAM = 512
#: Share of the tokens that one capability gets beside an even spread.
EXTRA = 0.25
LOSS_SEEDS = (7211, 7212, 7213, 7214, 7215)
#: Runs of each starting student on one to three capabilities, drawn at random.
SPARSE = tuple(f"sparse {i}" for i in range(10))
#: Half of the noise of a step that the world had with one update rate, one pass and fewer probes.
MOST_NOISE = 0.0043
DRILLS = ("sums", "prices")
#: A drill is counted as a helper if its extra tokens bring at least this many times what own tokens bring ...
FACTOR = 2.0
#: ... and at least this much exact match per 1,000 tokens; a need whose own tokens bring less does not move.
LEAST = 0.005


@lru_cache(maxsize=2)
def distillation(preset: str, loss: str) -> Distillation:
    """Distillation of a worker process, with its models."""
    return Distillation.load(load_preset(preset, {"distill": {"teacher_batch_size": 96, "loss": loss}}))


def large_exam(run: Distillation) -> list[float]:
    """Exact match by capability, on more prompts than the exam of a run has."""
    student, scores = run.student, []
    for capability in run.suite:
        size = sizes_of(capability, {"exam": EXAM})["exam"]
        found, _ = exam(
            student.model, student.encoder, Suite(capability.name, (capability,)), per_capability=size,
            max_new_tokens=run.config.distill.max_completion_tokens,
        )  # fmt: skip
        scores.append(found[capability.name])
    return scores


def play(preset: str, student: str, source: str, seed: int, loss: str) -> dict[str, Any]:
    """Exam and probes at the end of a run, the probe profile at its start, and its steps.

    Args:
        preset: configuration.
        student: starting student.
        source: capability with the extra share; ``even`` for none; ``uniform``: even with the drills; ``sparse N``: drawn shares
            of one to three capabilities; ``start``: no run at all.
        seed: seed of the run.
        loss: objective.
    """
    run = distillation(preset, loss)
    run.reset(seed, student)
    size = len(run.suite)
    drills = np.array([name in DRILLS for name in run.suite.names])
    shares = np.full(size, 1 / size) if source == "uniform" else ~drills / (~drills).sum()
    if source in run.suite.names:
        shares = (1 - EXTRA) * shares + EXTRA * np.eye(size)[run.suite.names.index(source)]
    elif source in SPARSE:
        shares = sparse(size, np.random.default_rng([seed, zlib.crc32(f"{student} {source}".encode())]))
    start, steps = run.profile.round(4).tolist(), []
    while source != "start" and not run.exhausted:
        steps.append(recorded(run.step(shares)))
    probe = steps[-1]["profile"] if steps else start
    return {"exam": large_exam(run), "probe": probe, "start": start, "steps": steps}


def sparse(size: int, rng: np.random.Generator) -> np.ndarray:
    """(size,) Shares of one to three of the capabilities, uniform over the simplex of those drawn."""
    chosen = rng.choice(size, rng.integers(1, 4), replace=False)
    shares = np.zeros(size)
    shares[chosen] = rng.dirichlet(np.ones(len(chosen)))
    return shares


def teacher_facts(preset: str) -> dict[str, list[float]]:
    """Teacher's scores, and its mean entropy over the tokens of its completions, by capability."""
    run = distillation(preset, "fkl")
    scores = run.measurement.teacher_scores
    assert scores is not None and scores.profile is not None
    entropies = []
    for capability in run.suite:
        prompts = [prompt.text for prompt in held_out(capability, "dev", run.config.eval.dev)]
        targets = [answer.targets for answer in run.cache.complete(prompts, [capability.name] * len(prompts))]
        log_p = np.concatenate([np.column_stack([t.top_log_probs, t.log_tail]) for t in targets]).astype(np.float64)
        entropies.append(float(-(np.exp(log_p) * np.maximum(log_p, -1e3)).sum(1).mean()))
    return {"exam": scores.exam.tolist(), "probe": scores.profile.tolist(), "entropy": entropies}


def difference(found: Mapping[str, Any], student: str, source: str, measure: str) -> np.ndarray:
    """(seeds, |C|) what the extra share of one capability changed at the end, against the even run of the same seed."""
    return np.array([
        np.subtract(found[f"{student}__{source}__{seed}"][measure], found[f"{student}__even__{seed}"][measure])
        for seed in SEEDS
    ])  # fmt: skip


def tables(found: Mapping[str, Any], teacher: Mapping[str, Any], suite: Suite, extra: float) -> str:
    """Sections of the page; ``extra`` is the number of extra tokens, in thousands."""
    names = suite.names
    start = {student: np.array(found[f"{student}__start"]["exam"]) for student in STUDENTS}
    rows = [[student, *(number(score, 2) for score in scores)] for student, scores in start.items()]
    rows.append(["teacher", *(number(score, 2) for score in teacher["exam"])])
    text = f"## Scores at the start\n\nExam, and the teacher's, which is the ceiling.\n\n{markdown_table(['student', *names], rows)}\n\n"

    own = {
        (student, name): float(difference(found, student, name, "exam")[:, i].mean()) / extra
        for student in STUDENTS
        for i, name in enumerate(names)
    }
    rows = [[student, *(number(own[student, name], 3, True) for name in names)] for student in STUDENTS]
    rising = [value for value in own.values() if value >= LEAST]
    text += (
        "## Learning speed\n\nChange of a capability's exam score by 1,000 extra tokens of its own. Where a capability rises "
        f"at all (by {LEAST} or more), the fastest is {max(rising) / min(rising):.0f} times as fast as the slowest.\n\n"
        f"{markdown_table(['student', *names], rows)}\n\n"
    )

    rows, helped = [], {}
    for drill in DRILLS:
        for student in STUDENTS:
            changes = difference(found, student, drill, "exam").mean(0) / extra
            cells = []
            for i, name in enumerate(names):
                mine = own[student, name]
                helps = name not in DRILLS and changes[i] >= max(LEAST, FACTOR * mine)
                helped.setdefault((drill, name), []).append(helps)
                cells.append(number(changes[i], 3, True) + ("*" if helps else ""))
            rows.append([drill, student, *cells])
    pairs = [f"{drill} → {name}" for (drill, name), marks in helped.items() if sum(marks) * 2 >= len(marks)]
    still = [
        (student, name)
        for (student, name), value in own.items()
        if value < LEAST and start[student][names.index(name)] < 0.8
    ]
    text += (
        "## Helpers\n\nChange of the exam by 1,000 extra tokens on a drill. `*`: at least "
        f"{FACTOR:g} times what 1,000 extra tokens of the capability itself bring, and at least {LEAST}. For at least half of "
        f"the students: {', '.join(pairs) or 'none'}.\n\n{markdown_table(['drill', 'student', *names], rows, text_columns=2)}\n\n"
        "## Needs that do not move yet\n\nCapabilities below .80 to which their own extra tokens bring less than "
        f"{LEAST} per 1,000: {'; '.join(f'{name} ({student})' for student, name in still) or 'none'}.\n\n"
    )

    rows = []
    for i, name in enumerate(names):
        probes = [np.array([found[f"{loss}__{seed}"]["probe"][i] for seed in LOSS_SEEDS]) for loss in ("sft", "fkl")]
        gap = paired(probes[1], probes[0]).difference
        means = [number(mean_interval(values).mean) for values in probes]
        rows.append(
            [name, number(teacher["entropy"][i]), *means, f"{number(gap.mean, signed=True)} ± {number(gap.half_width)}"]
        )
    text += (
        "## The teacher's certainty\n\nMean entropy of the teacher over the tokens of its completions, nats, and the probes "
        f"after runs on even shares of all capabilities, with two objectives, seeds {list(LOSS_SEEDS)}; 95 %, paired t.\n\n"
        f"{markdown_table(['capability', 'entropy', 'sft', 'fkl', 'fkl − sft'], rows)}\n"
    )
    return text


def validity(found: Mapping[str, Any], suite: Suite) -> str:
    """Section on what a gain on the probes says about the exam, by task."""
    rows, good, quiet = [], 0, 0
    for card in cards_of_profiles(suite):

        def utility(values: Sequence[float], card: TaskCard = card) -> float:
            return card.utility(np.array(values), suite)

        gains: dict[str, list[float]] = {"probe": [], "exam": []}
        for student in STUDENTS:
            for source, measure in itertools.product(SPARSE, gains):
                start, end = (found[f"{student}__{label}"][measure] for label in ("start", f"{source}__{SEEDS[0]}"))
                gains[measure].append(utility(end) - utility(start))
        rho = spearman(np.array(gains["probe"]), np.array(gains["exam"]))[0]
        steps = np.array([
            np.diff([utility(made["start"]), *(utility(step["profile"]) for step in made["steps"])])
            for made in (found[f"fkl__{seed}"] for seed in LOSS_SEEDS)
        ])  # fmt: skip
        good += rho >= 0.9
        noise = float(np.sqrt(steps.var(axis=0, ddof=1).mean()))
        quiet += noise <= MOST_NOISE
        rows.append(
            [
                card.name,
                number(rho, 2),
                number(float(np.std(gains["exam"]))),
                number(noise, 4),
                number(float(steps.mean()), 4),
            ]
        )
    runs = len(STUDENTS) * len(SPARSE)
    header = ["task", "Spearman ρ", "s.d. of exam gains", "noise of a step", "gain of a step"]
    return (
        "## What the probes say about the exam\n\nFinal gain of utility on the probes and on the exam, Spearman's ρ over "
        f"{runs} runs, {len(SPARSE)} of each starting student, on one to three capabilities drawn at random: at least .9 for "
        f"{good} of {len(rows)} tasks. *Noise of a step*: s.d. over seeds of the probe utility that a step of the runs of the "
        f"section above with fkl gains, at the same step: at most {MOST_NOISE} for {quiet} of {len(rows)} tasks. *Gain of a "
        f"step*: its mean.\n\n"
        f"{markdown_table(header, rows)}\n"
    )


def main() -> None:
    parser = parser_of(__doc__, "docs/measured")
    parser.add_argument("--preset", default="micro")
    args = parser.parse_args()

    config = load_preset(args.preset)
    suite = get_suite(config.suite)
    jobs: dict[str, tuple[Any, ...]] = {}
    for student in STUDENTS:
        jobs[f"{student}__start"] = (args.preset, student, "start", SEEDS[0], config.distill.loss)
        for source in ("even", *suite.names):
            for seed in SEEDS:
                jobs[f"{student}__{source}__{seed}"] = (args.preset, student, source, seed, config.distill.loss)
        for source in SPARSE:
            jobs[f"{student}__{source}__{SEEDS[0]}"] = (args.preset, student, source, SEEDS[0], config.distill.loss)
    for loss in ("sft", "fkl"):
        for seed in LOSS_SEEDS:
            jobs[f"{loss}__{seed}"] = (args.preset, "even", "uniform", seed, loss)
    path, digest = args.out / "world.jsonl", digest_of(config)
    found = kept_results(jobs, play, path, args.processes, digest)
    teacher = kept_results({"teacher": (args.preset,)}, teacher_facts, path, 1, digest)["teacher"]
    extra = EXTRA * config.budget.total_tokens / 1000
    write_page(
        "world",
        f"# The micro world\n\nMade by `python scripts/world.py`: {config.budget.total_tokens:,} completion tokens a run, "
        f"objective {config.distill.loss}, seeds {list(SEEDS)}. An extra share is {EXTRA:.0%} of the tokens, {extra:,.1f} thousand, "
        f"beside an even spread over all capabilities but {' and '.join(DRILLS)}. Exams have {EXAM} prompts of each capability, or as "
        f"many as can be drawn.\n\n{tables(found, teacher, suite, extra)}\n{validity(found, suite)}",
    )


if __name__ == "__main__":
    main()
