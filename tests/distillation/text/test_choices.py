"""Likelihood of prompts with several right completions."""

import numpy as np
import pytest
import torch
from micro import micro_config

from read_env.capabilities.base import Capability, Filling, Prompt, Suite, Template
from read_env.distillation.loading import load
from read_env.distillation.process import Distillation
from read_env.distillation.student.evaluation import ProbeSet, probe_profile
from read_env.distillation.teachers.evaluation import evaluate_teacher
from read_env.distillation.text.choices import in_batch, log_right, other_tokens

ENCODER = load("embedded:micro/student").encoder


def _prompt(*completions):
    return Prompt("any", "any", "choose", completions[0], 0.0, {"completions": list(completions)})


def _named(prompt):
    ids = ENCODER.completions([prompt.reference])[0]
    return [(at, ENCODER.text([token]) or "end") for at, token in other_tokens(ENCODER, prompt, ids)]


def test_other_tokens_are_those_that_continue_a_right_completion_after_the_same_beginning():
    assert _named(Prompt("any", "any", "say it", "AB", 0.0)) == []
    assert _named(_prompt("AB", "BA", "AC", "CX")) == [(0, "B"), (0, "C"), (1, "C")]
    assert _named(_prompt("AB", "A", "ABC")) == [(1, "end"), (2, "C")]


def test_the_probability_of_a_right_token_is_the_sum_over_right_tokens():
    logits = torch.randn(5, 11, generator=torch.Generator().manual_seed(0))
    targets, others = torch.tensor([3, 1, 4, 1, 5]), in_batch([[(1, 7), (1, 8)], [(0, 2)]], [2, 3])
    p = logits.softmax(-1)
    expected = [p[0, 3], p[1, [1, 7, 8]].sum(), p[2, [4, 2]].sum(), p[3, 1], p[4, 5]]
    torch.testing.assert_close(log_right(logits, targets, others).exp(), torch.stack(expected))
    parts = [log_right(logits[part], targets[part], others, part.start) for part in (slice(0, 2), slice(2, 5))]
    torch.testing.assert_close(torch.cat(parts).exp(), torch.stack(expected))


class _Certain(torch.nn.Module):
    """A stand-in for a model that always continues as one completion says."""

    def __init__(self, completion):
        super().__init__()
        self.completion, self.anchor = completion, torch.nn.Parameter(torch.zeros(()))
        self.config = load("embedded:micro/student").model.config


@pytest.mark.parametrize("kept", [slice(None), slice(0, 1), slice(-1, None)], ids=["all", "first", "last"])
def test_a_student_that_makes_one_right_choice_scores_as_one_that_varies(kept, monkeypatch):
    """Both put all probability on right tokens, given any right beginning; likelihood of the reference would not be 1."""
    outs = ["ABC", "ACB", "BAC", "BCA", "CAB", "CBA"]
    template = Template("mix", ("mix {n}", "{n} mix"), "{out}", lambda rng: _filling(rng, outs))
    suite = Suite("one", (Capability("any", (template,)),))
    probes = ProbeSet.build(suite, ENCODER, "probes", 12)

    def logits(model, batch, vocabulary):
        spread = torch.full((len(batch.targets), vocabulary), -30.0)
        row_start = {int(row): int((batch.rows == row).nonzero()[0]) for row in batch.rows.unique()}
        for i, row in enumerate(batch.rows.tolist()):
            done = ENCODER.text([*batch.targets[row_start[row] : i].tolist(), ENCODER.eos_id])
            following = [out for out in outs if out.startswith(done) and len(out) > len(done)]
            for out in following[kept] or [done]:
                spread[i, ENCODER.completions([out])[0][len(done)]] = 0.0
        yield slice(0, len(batch.targets)), spread

    monkeypatch.setattr("read_env.distillation.student.evaluation.logit_chunks", logits)
    assert probe_profile(_Certain(outs[0]), probes)[0] == pytest.approx(1.0, abs=1e-6)


def _filling(rng, outs):
    n = rng.randrange(10_000)
    return Filling({"n": str(n), "out": rng.choice(outs)}, {"n": n}, {"completions": outs})


def test_the_teachers_ceiling_counts_its_other_right_choices():
    """Uniform over six orders, the likelihood of one order is 1/6; the ceiling must not be."""
    distillation = Distillation.load(micro_config())
    suite = Suite("micro", (distillation.suite["steerability"],))
    scores = evaluate_teacher(distillation.cache, suite, distillation.config.eval)
    assert scores.profile[0] > 0.9 and np.all(scores.exam > 0.9)
