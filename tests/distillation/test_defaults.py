"""``auto``: values by size and kind of the student, by the lengths of references, and where they are written."""

import dataclasses
import json

import pytest
import torch
from micro import micro_config
from transformers import AutoModelForCausalLM, LlamaConfig

from read_env.config import AUTO, load_preset, preset_names
from read_env.distillation.defaults import resolve
from read_env.distillation.process import Distillation
from read_env.envs.distillation import DistillationEnv
from read_env.errors import ReadEnvError
from read_env.running.batch_requests import ComparisonRequest
from read_env.running.requests import RunRequest, resolved
from read_env.running.runner import run

FIELDS = ("learning_rate", "tokens_per_update", "micro_batch_tokens", "max_completion_tokens")
ALL = dict.fromkeys(FIELDS, AUTO)


def llama(hidden, layers, vocabulary=32_000, context=4096):
    """Llama of a shape, on the meta device."""
    shape = LlamaConfig(
        hidden_size=hidden, num_hidden_layers=layers, intermediate_size=4 * hidden, num_attention_heads=8,
        vocab_size=vocabulary, max_position_embeddings=context,
    )  # fmt: skip
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(shape)


@pytest.mark.parametrize(
    ("hidden", "layers", "settings", "rate"),
    [
        (64, 2, {}, 3e-4),
        (512, 8, {}, 1e-4),
        (1536, 16, {}, 5e-5),
        (4096, 32, {}, 2e-5),
        (4096, 32, {"models": {"lora_r": 8}}, 2e-4),
        (64, 2, {"models": {"lora_r": 8}}, 1e-3),
        (4096, 32, {"distill": {**ALL, "loss": "grpo"}}, 2e-6),
    ],
)
def test_the_learning_rate_follows_size_and_kind(hidden, layers, settings, rate):
    config = resolve(micro_config(**{"distill": ALL, **settings}), llama(hidden, layers))
    assert config.distill.learning_rate == rate
    assert set(config.reasons) == {f"distill.{field}" for field in FIELDS}


@pytest.mark.parametrize(("hidden", "context", "cut"), [(64, 4096, 48), (1024, 4096, 256), (64, 60, 24)])
def test_completions_have_room_for_the_references_and_within_the_context(hidden, context, cut):
    config = micro_config(held_out=48, distill=ALL)
    model, encoder = llama(hidden, 4, context=context), Distillation.load(micro_config()).student.encoder
    assert resolve(config, model, encoder).distill.max_completion_tokens == pytest.approx(cut, abs=8)


def test_a_configuration_without_sizes_gets_the_smallest_micro_batch():
    model = llama(64, 2)

    class Other:
        vocab_size = 91

        def get_text_config(self):
            return self

    model.config = Other()
    config = resolve(micro_config(distill=ALL), model)
    assert config.distill.micro_batch_tokens == 512
    assert "Other has no hidden_size" in config.reasons["distill.micro_batch_tokens"]


def test_micro_batches_shrink_with_the_model_and_updates_stay_below_a_step():
    shapes = (64, 2, 500), (4096, 32)
    small, large = (resolve(micro_config(distill=ALL), llama(*shape)).distill for shape in shapes)
    assert small.micro_batch_tokens == 16_384 and large.micro_batch_tokens == 512
    assert small.tokens_per_update == large.tokens_per_update == 75  # a quarter of a step of 300 tokens
    steps = resolve(micro_config(200_000, AUTO, distill={"tokens_per_update": 100}), llama(64, 2))
    assert steps.budget.step_tokens == 10_000 and steps.budget.steps == 20


def test_what_is_set_stays_and_is_not_looked_at():
    config = load_preset("micro", {"models": {"student": "no/such/model"}})
    assert resolve(config) is config
    with pytest.raises(ReadEnvError, match="no/such/model"):
        resolve(load_preset("micro", {"models": {"student": "no/such/model"}, "distill": ALL}))
    kept = resolve(micro_config(distill={**ALL, "learning_rate": 0.01}))
    assert kept.distill.learning_rate == 0.01 and "distill.learning_rate" not in kept.reasons


def test_shipped_presets_name_their_values():
    for name in set(preset_names()) - {"instruct"}:  # it is for models of the user's own
        config = load_preset(name)
        assert AUTO not in [*config.distill.model_dump().values(), *config.budget.model_dump().values()], name


def test_a_run_records_the_values_and_is_resumed_by_them(tmp_path):
    request = RunRequest(micro_config(400, 200, 2, agent="uniform", distill=ALL), tmp_path / "run")
    run(request)
    start, config, identity = (
        json.loads((tmp_path / "run" / f"{name}.json").read_text()) for name in ("start", "config", "identity")
    )
    value = config["distill"]["max_completion_tokens"]
    assert value == identity["settings"]["distill"]["max_completion_tokens"] >= 24
    assert start["auto"]["distill.max_completion_tokens"].startswith(f"{value} (1.5 times the longest reference")
    assert run(request).already_finished
    explicit = micro_config(400, 200, 2, agent="uniform", distill=config["distill"])
    assert run(dataclasses.replace(request, config=explicit)).already_finished


def test_the_environment_resolves_at_its_first_reset():
    small = micro_config(400, 200, 2).model_dump(include={"budget", "eval"})
    env = DistillationEnv(overrides={**small, "distill": ALL})
    assert not env.config.resolved
    env.reset(seed=0)
    assert env.config.resolved and env.config.distill.learning_rate == 3e-4


def test_the_runs_of_a_comparison_share_the_values(tmp_path):
    request = resolved(ComparisonRequest(micro_config(distill=ALL), ("uniform",), seeds=(0, 1), out=tmp_path))
    rates = {(one.config.distill.learning_rate, len(one.config.reasons)) for one in request.runs().values()}
    assert rates == {(3e-4, 4)}
