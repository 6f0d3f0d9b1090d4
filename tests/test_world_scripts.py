"""Computations of scripts/world.py and scripts/headroom.py, on worlds whose answers are known."""

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from read_env.capabilities import get_suite
from read_env.config import load_preset
from read_env.tasks import load_task

SUITE = get_suite("micro")
SIZE = len(SUITE)
Script = Callable[[str], ModuleType]


def double(x: float) -> dict[str, float]:
    return {"twice": 2 * x}


def test_a_job_with_a_line_is_not_done_again(script: Script, tmp_path: Path) -> None:
    kept, path = script("common").kept_results, tmp_path / "new" / "results.jsonl"
    assert kept({"one": (1.0,)}, double, path, 1, "a") == {"one": {"twice": 2.0}}
    path.write_text(path.read_text().replace("2.0", "-1") + '{"name": "two", "resu')  # killed while it wrote
    found = kept({"two": (2.0,), "one": (1.0,)}, double, path, 1, "a")
    assert found == {"two": {"twice": 4.0}, "one": {"twice": -1}}
    assert kept({"two": (0.0,), "one": (0.0,)}, double, path, 1, "a") == found
    with pytest.raises(SystemExit, match="made with other settings"):
        kept({}, double, path, 1, "b")


# --- headroom.py --------------------------------------------------------------------------------


def known_exam(headroom: ModuleType, unit: Any) -> dict[str, Any]:
    """Scores grow with a capability's tokens; those of math and tool_use only after ``sums`` has had its share before."""
    pool = headroom.allocations(unit.student, SUITE)
    if unit.kind == "schedule":
        played = [pool[at] for at, _ in headroom.parts(unit.name)]
        first, second = played[0], played[-1]
    else:
        requirement = load_task(unit.task or "bookkeeper", SUITE).requirement_vector(SUITE)
        first = second = np.full(SIZE, 1 / SIZE) if unit.name == "uniform" else requirement
    drilled = first[SUITE.names.index("sums")] > 0.1 or unit.kind == "lookahead"
    exam = 0.2 + 0.3 * np.sqrt(first) + (0.6 if drilled else 0.2) * np.sqrt(second)
    if unit.kind == "start":
        exam = np.full(SIZE, 0.2)
    return {"exam": (exam + 0.001 * (unit.seed % 10)).tolist(), "start": [], "steps": []}


def test_the_allocations_of_the_tree_are_distributions_and_make_a_hundred_schedules(script: Script) -> None:
    headroom = script("headroom")
    assert headroom.FIRST * (headroom.SECOND - 1) * len(headroom.SWITCHES) >= 100
    for student in {student for _, student in headroom.PAIRS}:
        pool = headroom.allocations(student, SUITE)
        assert pool.shape == (headroom.FIXED, SIZE) and pool.min() >= 0
        np.testing.assert_allclose(pool.sum(axis=1), 1)
        assert len({row.round(6).tobytes() for row in pool}) == headroom.FIXED
    assert not {s for _, s in headroom.TRAINING_PAIRS} & {s for _, s in headroom.JUDGING_PAIRS}
    assert len(headroom.PAIRS) >= 12
    seeds = [*headroom.PROFILING_SEEDS, *headroom.FRESH_SEEDS, *headroom.CONFIRMING_SEEDS]
    assert len(set(seeds)) == len(seeds)


def test_the_best_schedules_are_found_and_compared(script: Script) -> None:
    headroom = script("headroom")

    def make(units: Sequence[Any]) -> dict[Any, Any]:
        found = {}
        for unit in units:
            if unit.kind == "branch":
                others = [at for at in range(headroom.SECOND) if str(at) != unit.name]
                names = [unit.name, *(f"{unit.name}-{at}@{s}" for at in others for s in headroom.SWITCHES)]
                found[unit] = {
                    name: known_exam(headroom, headroom.Unit("schedule", unit.student, unit.seed, name=name))
                    for name in names
                }
            else:
                found[unit] = known_exam(headroom, unit)
        return found

    (pair,) = headroom.measure(["bookkeeper"], "random-a", SUITE, (1, 2, 3), make)
    pool = headroom.allocations("random-a", SUITE)
    (first, _), (second, _) = headroom.parts(pair.chosen[headroom.BEST_TWO_PHASE])
    requirement = load_task("bookkeeper", SUITE).requirement_vector(SUITE)
    assert pool[first][SUITE.names.index("sums")] > 0.1 and np.allclose(pool[second], requirement)
    assert len(headroom.parts(pair.chosen[headroom.BEST_FIXED])) == 1
    assert pair.gain(headroom.BEST_TWO_PHASE) > pair.gain("w = r") > pair.gain("uniform") > 0
    assert pair.clear(headroom.BEST_TWO_PHASE, "w = r") and not pair.clear("w = r", headroom.BEST_TWO_PHASE)
    (again,) = headroom.confirm([pair], SUITE, (4, 5, 6), make)
    assert set(again.utilities) == {"w = r", "water-filling", "best fixed", pair.best(headroom.FREE), "lookahead"}
    assert again.clear(pair.best(headroom.FREE), "w = r")
    text = headroom.page([pair], [again], SUITE, "Facts.")
    assert "**1 of 1** pairs" in text and "bookkeeper, random-a, best two-phase: " in text


def test_a_branch_plays_every_schedule_that_begins_with_its_allocation(script: Script) -> None:
    headroom = script("headroom")

    class Told:
        """Keeps the allocation of every step; its exam is the number of steps by allocation."""

        def __init__(self) -> None:
            self.steps: list[int] = []
            self.config = load_preset("micro")
            self.profile = self.tokens_by_capability = self.loss_by_capability = np.zeros(SIZE)

        step_index = property(lambda self: len(self.steps))
        exhausted = property(lambda self: len(self.steps) == 10)

        def step(self, allocation: np.ndarray) -> Any:
            self.steps.append(int(allocation[0]))
            return self

        def snapshot(self) -> list[int]:
            return list(self.steps)

        def restore(self, steps: list[int]) -> None:
            self.steps = list(steps)

        def exam(self) -> np.ndarray:
            return np.array(self.steps)

    pool = np.repeat(np.arange(headroom.FIXED)[:, None], SIZE, axis=1)
    found = headroom._branch(Told(), "3", pool)
    assert found["3"]["exam"] == [3] * 10 and len(found["3"]["steps"]) == 10
    assert found["3-8@0.2"]["exam"] == [3] * 2 + [8] * 8 and found["3-0@0.5"]["exam"] == [3] * 5 + [0] * 5
    assert len(found) == 1 + (headroom.SECOND - 1) * len(headroom.SWITCHES)


def test_an_advantage_that_is_small_or_unsure_is_not_clear(script: Script) -> None:
    headroom = script("headroom")

    def pair(values: Sequence[float]) -> Any:
        return headroom.Pair("t", "s", np.zeros(3), {"w = r": np.array([0.5, 0.6, 0.4]), "new": np.array(values)}, {})

    assert pair([0.6, 0.7, 0.5]).clear("new", "w = r")
    assert not pair([0.52, 0.62, 0.42]).clear("new", "w = r"), "0.02 of a gain of 0.5"
    assert not pair([0.9, 0.4, 0.6]).clear("new", "w = r"), "the seeds disagree"


# --- world.py -----------------------------------------------------------------------------------


def known_runs(world: ModuleType) -> dict[str, Any]:
    """Own tokens lift every capability by .1 but math; ``sums`` lifts itself by .5, math by .2; prices lift nothing else."""
    rng, found = np.random.default_rng(0), {}
    index = SUITE.names.index
    for student in world.STUDENTS:
        start = rng.uniform(0.2, 0.4, SIZE)
        found[f"{student}__start"] = {"exam": start.tolist(), "probe": start.tolist()}
        for source in ("even", *SUITE.names):
            for seed in world.SEEDS:
                gain = 0.05 + rng.normal(0, 1e-4, SIZE)
                if source != "even":
                    gain[index(source)] += 0.0 if source == "math" else 0.1
                if source == "sums":
                    gain[[index("sums"), index("math")]] += (0.4, 0.2)
                end = start + gain
                found[f"{student}__{source}__{seed}"] = {"exam": end.tolist(), "probe": (end / 2).tolist()}
        for source in world.SPARSE:
            end = start + 0.5 * world.sparse(SIZE, rng)
            found[f"{student}__{source}__{world.SEEDS[0]}"] = {"exam": end.tolist(), "probe": (end / 2).tolist()}
        found[f"{student}__start"]["probe"] = (start / 2).tolist()
    for loss, level in (("sft", 0.5), ("fkl", 0.6)):
        for seed in world.LOSS_SEEDS:
            profiles = np.linspace(0.3, level, 5)[:, None] + rng.normal(0, 0.002, (5, SIZE))
            found[f"{loss}__{seed}"] = {"exam": [], "probe": profiles[-1].tolist()}
            steps = [{"profile": profile.tolist()} for profile in profiles[1:]]
            found[f"{loss}__{seed}"] |= {"start": profiles[0].tolist(), "steps": steps}
    return found


def test_helpers_speeds_and_needs_that_do_not_move_are_named(script: Script) -> None:
    world = script("world")
    teacher = {"exam": [1.0] * SIZE, "entropy": [0.2] * SIZE}
    text = world.tables(known_runs(world), teacher, SUITE, extra=2.0)
    assert "For at least half of the students: sums → math.\n" in text
    assert "the fastest is 5 times as fast as the slowest" in text, ".5 beside .1"
    moves = text.partition("## Needs that do not move yet")[2].partition("## The teacher")[0]
    assert all(f"math ({student})" in moves for student in world.STUDENTS) and "code (" not in moves
    assert "+0.100 ±" in text or "+0.099 ±" in text or "+0.101 ±" in text, "fkl − sft"


def test_sparse_runs_spend_all_tokens_on_one_to_three_capabilities(script: Script) -> None:
    drawn = [script("world").sparse(SIZE, np.random.default_rng(seed)) for seed in range(50)]
    np.testing.assert_allclose([shares.sum() for shares in drawn], 1)
    assert {int((shares > 0).sum()) for shares in drawn} == {1, 2, 3} and np.min(drawn) >= 0


def test_probes_that_rank_as_the_exam_does_have_a_correlation_of_one(script: Script) -> None:
    world = script("world")
    runs = known_runs(world)
    text = world.validity(runs, SUITE)
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("| code ")]
    assert float(rows[0][2]) > 0.99, "one need, and probes that grow with it"
    assert 0.001 < float(rows[0][4]) < 0.006, "differences of two values with s.d. .002"
    for student in world.STUDENTS:
        for run in (run for name, run in runs.items() if name.startswith(f"{student}__")):
            run["probe"] = (1 - np.array(run["exam"])).tolist()
    assert "at least .9 for 0 of" in world.validity(runs, SUITE)
