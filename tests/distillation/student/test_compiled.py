"""Updates with compiled layers against those without."""

import shutil

import pytest
import torch
from micro import SUITE, micro_config
from two_ranks import LORA, llama, settings

from read_env.capabilities.stream import PromptStream
from read_env.distillation.loading import load_student, load_teacher
from read_env.distillation.student import compiled as compiled_module
from read_env.distillation.student.compiled import padded_shape
from read_env.distillation.student.evaluation import ProbeSet
from read_env.distillation.text.alignment import same_vocabulary
from read_env.distillation.text.encoding import collate
from read_env.errors import ReadEnvError


def examples(student):
    prompts = [p for name in ("math", "code") for p in PromptStream(SUITE[name], 1).slice(1, 0, 6)]
    texts = [p.text for p in prompts]
    answers = load_teacher(settings(1), student).complete(texts)
    found = list(map(same_vocabulary, prompts, student.encoder.prompts(texts), answers))
    return [found[start::2] for start in range(2)]


@pytest.mark.slow
@pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="no C++ compiler")
@pytest.mark.parametrize(
    ("mode", "models"),
    [("default", LORA), ("reduce-overhead", {}), ("reduce-overhead", {"gradient_checkpointing": True})],
    ids=["LoRA", "few shapes", "few shapes, recomputed layers"],
)
def test_compiled_layers_have_the_losses_of_the_layers_as_they_are(tmp_path, mode, models):
    models = {"student": llama(tmp_path / "llama"), **models}
    plain = load_student(settings(1, models))
    student = load_student(settings(1, {**models, "torch_compile_mode": mode}))
    groups, ran = examples(plain), []
    for layer in compiled_module.layers_of(student.model)[:1]:
        layer.register_forward_pre_hook(lambda module, args, kwargs: ran.append(args[0].shape[:2]), with_kwargs=True)
    torch._dynamo.utils.counters.clear()
    expected = [plain.update(groups[step % 2], step / 20) for step in range(4)]
    found = [student.update(groups[step % 2], step / 20) for step in range(4)]
    assert [one.loss for one in found] == pytest.approx([one.loss for one in expected], abs=1e-5)
    for one, other in zip(found, expected, strict=True):
        assert one.metrics == pytest.approx(other.metrics, abs=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0, "something was compiled"
    if mode == "reduce-overhead":
        assert ran and all(padded_shape(*shape) == tuple(shape) for shape in ran)
    count = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    probes = ProbeSet.build(SUITE, student.encoder, "probes", 2)
    assert student.profile(probes) == pytest.approx(plain.profile(probes), abs=1e-4)
    assert student.answer(["1+1="], 4) == plain.answer(["1+1="], 4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == count, "measured without compilation"
    state = student.state_dict()
    student.load_state_dict(state)
    student.update(groups[0], 0.5)
    assert all("forward" not in vars(layer) for layer in compiled_module.layers_of(student.model))


def test_a_padded_batch_has_the_same_completion_positions():
    plain, padded = (collate([[5, 6], [7]], [[8], [9]], 0, shape) for shape in (None, padded_shape))
    assert plain.input_ids.shape == (2, 3) and padded.input_ids.shape == (2, 12)
    assert torch.equal(padded.input_ids[:, :3], plain.input_ids) and not padded.input_ids[:, 3:].any()
    assert torch.equal(padded.rows, plain.rows) and torch.equal(padded.columns, plain.columns)
    assert collate([[5]] * 3, [[6]] * 3, 0, padded_shape).input_ids.shape == (4, 12)


def test_what_cannot_be_compiled_is_refused(monkeypatch):
    with pytest.raises(ReadEnvError, match="torch_compile_mode is 'default' and gpus is 2; right would be 'off'"):
        micro_config(models={"torch_compile_mode": "default", "gpus": 2})
    changed = micro_config(models={"torch_compile_mode": "default"})
    monkeypatch.setattr(compiled_module.shutil, "which", lambda name: None)
    with pytest.raises(ReadEnvError, match="torch_compile_mode is 'default' and this machine has no C"):
        load_student(changed)
    monkeypatch.setattr(compiled_module, "layers_of", lambda model: ())
    with pytest.raises(ReadEnvError, match=r"has no base_model\.layers; right would be 'off'"):
        load_student(changed)
