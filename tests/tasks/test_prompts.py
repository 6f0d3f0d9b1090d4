"""Tasks with prompts of their own: read, split, kept out of training, and measured."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from read_env.capabilities import get_suite
from read_env.capabilities.base import SPLITS
from read_env.capabilities.stream import held_out
from read_env.errors import ReadEnvError
from read_env.tasks import load_task
from read_env.tasks.prompts import check_fitting, hashes_of, prompts_of, sizes_of

SUITE = get_suite("micro")
ROWS = [{"prompt": f"twice {a} and {b}", "answer": str(2 * a + b)} for a in range(12) for b in range(10)]


@pytest.fixture
def write(tmp_path):
    """Writes rows as JSON lines and returns the path."""

    def written(rows=ROWS, name="my_task.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return written


def test_a_file_is_a_measured_task_of_unknown_requirement(write):
    card = load_task(write(), SUITE)
    assert (card.name, card.utility_form, card.identified) == ("my_task", "measured", False)
    assert len(card.exemplars) == 3
    with pytest.raises(ReadEnvError, match="requirement of task 'my_task' is not known yet; `read-env identify`"):
        card.requirement_vector(SUITE)


def test_its_prompts_are_split_by_hash_and_all_refused_by_streams(write):
    prompts = load_task(write(), SUITE).task_prompts()
    counts = Counter(prompts.split_of(prompt.text) for prompt in prompts.prompts)
    assert all(counts[split] >= 8 for split in SPLITS) and counts["exam"] > counts["dev"]
    sizes = sizes_of(prompts, {"probes": 10, "dev": 500, "exam": 500})
    assert sizes == {"probes": 10, "dev": counts["dev"], "exam": counts["exam"]}
    sets = [{p.text for p in held_out(prompts, split, counts[split])} for split in ("probes", "dev", "exam")]
    sets.append({exemplar.prompt for exemplar in load_task(write(), SUITE).exemplars})
    assert len(set.union(*sets)) == sum(map(len, sets)), "the sets are disjoint"
    assert len(hashes_of(prompts, sizes)) == len(ROWS), "exemplars are refused too"


def test_a_card_beside_its_file(write, tmp_path):
    write()
    card = tmp_path / "twice.toml"
    card.write_text(
        'name = "twice"\ndescription = "Sums."\nprompts = "my_task.jsonl"\ngrader = "number"\n[requirement]\nsums = 1\n'
    )
    task = load_task(card, SUITE)
    assert task.grader == "number" and task.requirement == {"sums": 1.0}
    assert task.task_prompts() is task.task_prompts(), "read once"
    assert type(task).model_validate(task.model_dump(mode="json")) == task


def test_the_utility_of_a_measured_task_is_its_score():
    card = load_task("bill-abroad", SUITE)
    assert card.utility([0.0] * 10, SUITE, score=0.25) == 0.25
    with pytest.raises(ValueError, match="measured on its own prompts"):
        card.utility([0.0] * 10, SUITE)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:30], r"its 30 different prompts are too few to split: .* exemplars, .* probes, .* dev, .* exam"),
        ([{"prompt": row["prompt"]} for row in ROWS], "no answers"),
        ([{**row, "answer": "5"} for row in ROWS], "all 120 rows have the answer '5', which needs no ability"),
        ([], "its 0 different prompts are too few"),
    ],
)
def test_prompts_that_cannot_measure_are_refused(write, rows, message):
    with pytest.raises(ReadEnvError, match=message):
        load_task(write(rows), SUITE)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ('utility_form = "measured"\n[requirement]\nmath = 1', "field 'prompts' is missing"),
        ('prompts = "none.jsonl"\n[requirement]\nmath = 1', "none.jsonl: can't be read"),
        ('prompts = "embedded:micro/bill"\n[requirement]\nmath = 1', "did you mean 'embedded:micro/bill_abroad'"),
        ('prompts = "my_task.jsonl"\nutility_form = "product"\n[requirement]\nmath = 1', "utility_form 'measured'"),
        ('prompts = "my_task.jsonl"\ngrader = "exakt"\n[requirement]\nmath = 1', "did you mean 'exact'"),
        ('requirement = "identify"', "requirement"),
    ],
)
def test_malformed_cards_are_named(write, tmp_path, card, message):
    write()
    path = tmp_path / "mine.toml"
    texts = 'input_format = "x"\noutput_format = "x"\nmetric = "x"\n'
    texts += 'exemplars = [{ prompt = "a", completion = "b" }]\n' if "prompts" not in card else ""
    path.write_text(f'name = "mine"\ndescription = "Mine."\n{texts}{card}\n')
    with pytest.raises(ReadEnvError, match=message):
        load_task(path, SUITE)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ReadEnvError, match="no such file; right would be a file of prompts with answers"):
        load_task(tmp_path / "none.csv", SUITE)


def test_what_ships_is_drawn_by_no_capability():
    """The streams of the suite hold none of the composite prompts."""
    from itertools import islice

    from read_env.capabilities.base import normalised_hash
    from read_env.capabilities.micro.composites import COMPOSITES
    from read_env.capabilities.stream import training_draws

    own = frozenset[int]().union(
        *(
            hashes_of(prompts_of("t", f"embedded:micro/{name}"), {"probes": 64, "dev": 64, "exam": 64})
            for name in COMPOSITES
        )
    )
    assert len(own) > 1000
    for capability in SUITE:
        assert not own & {normalised_hash(p.text) for p in islice(training_draws(capability, 0), 3000)}


@pytest.mark.parametrize("name", ["my_(final)", "my__data", "a--b", ".-hidden-.", "naïve résumé", "x"])
def test_every_file_name_gives_a_name_of_a_task(write, tmp_path, name):
    written = write(ROWS)
    path = tmp_path / f"{name}.jsonl"
    path.write_text(Path(written).read_text())
    card = load_task(path, SUITE)
    assert card.measured and card.name.isascii()


def test_a_description_in_place_of_a_file_is_refused_as_one(tmp_path):
    long = "Solve word problems. " * 20
    with pytest.raises(ReadEnvError, match="unknown task|no such file"):
        load_task(long, get_suite("micro"))


def test_prompts_of_which_too_few_fit_the_models_are_refused(write):
    given = load_task(write(ROWS), get_suite("micro")).task_prompts()
    few = replace(given, prompts=given.prompts[:12])
    check_fitting(given, given)
    with pytest.raises(ReadEnvError, match=r"of its \d+ prompts, 12 are short enough.*at least 8 each"):
        check_fitting(few, given)
    assert replace(given, prompts=()).tertile(0.5) == 0
