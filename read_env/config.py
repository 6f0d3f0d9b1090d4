"""The typed configuration of a run. A preset (``read_env/presets/NAME.toml``) fills it, overrides change it.

The same models are the environment's settings, the command line's options and the record that is
written beside every run.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from read_env.errors import ReadEnvError, unknown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelConfig(_Settings):
    """Which models: ``embedded:NAME`` (ships with the package), a local folder or a hub id.

    The teacher may also be ``vllm:FOLDER-OR-HUB-ID`` (in vLLM) or ``remote:NAME`` (behind an OpenAI-compatible server).
    """

    # pydantic's own errors show what was given, and an address may have a password in it.
    model_config = ConfigDict(hide_input_in_errors=True)

    teacher: str = "embedded:micro/teacher"
    student: str = "embedded:micro/student"
    trust_remote_code: bool = False
    """Run code that comes with a model; off unless asked for."""
    threads: int = Field(1, ge=1)
    """Torch threads of this process. More than one makes micro models slower on a busy machine."""
    device: str = "auto"
    """``auto``: the GPU if there is one; else cpu, cuda, cuda:1, …"""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products. ``auto``: bf16 where the device is faster with it and the model is not small."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    gradient_checkpointing: bool = False
    """Activations of the student are computed again in the backward pass: less memory, a third more time."""
    student_layers: tuple[int, ...] = ()
    """Layers of the student that are kept, by index from 0: a depth-pruned copy; empty: all of them."""
    lora_rank: int = Field(0, ge=0)
    """Rank of the LoRA adapters that are trained in place of the student's weights; 0: all weights are trained."""
    lora_alpha: int = Field(0, ge=0)
    """LoRA's scale is alpha / rank; 0: twice the rank."""
    lora_targets: tuple[str, ...] = ("all-linear",)
    """Names of the modules that get adapters."""
    vllm_memory: float = Field(0.5, gt=0, le=1)
    """Share of a GPU's memory that vLLM takes for a teacher ``vllm:NAME``; the rest is left to the student."""
    vllm_gpus: int = Field(1, gt=0)
    """GPUs that such a teacher is spread over."""
    remote_url: str = ""
    """Address of the OpenAI-compatible server for a teacher ``remote:NAME``; the key comes from $READ_ENV_API_KEY.
    It is written beside every run, so one with a user, a password or a query is refused."""
    remote_revision: str = ""
    """What tells this model from another one of the same name at the same address: nobody else can know."""
    remote_timeout_s: float = Field(120.0, gt=0)
    """Seconds that a server may be silent: before it takes a request, and before each piece of an answer."""
    remote_retries: int = Field(6, ge=0)
    """How often a request is made again, with growing pauses."""
    remote_parallel: int = Field(8, gt=0)
    """Requests at once."""

    @field_validator("remote_url")
    @classmethod
    def _holds_no_secret(cls, url: str) -> str:
        if "@" in url or "?" in url:
            raise ValueError(
                "has a user, a password or a query in it ('@' or '?'), which would be written into every run's directory; "
                "right would be http(s)://HOST/v1, with the key in $READ_ENV_API_KEY"
            )
        try:
            parts = urlsplit(url)
            fits = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # brackets or a port that are none
            fits = False
        if url and not fits:
            raise ValueError(f"is {url!r}; right would be http(s)://HOST/v1")
        return url


class BudgetConfig(_Settings):
    """The token budget B, counted in teacher completion tokens that the student is trained on."""

    total_tokens: int = Field(120_000, gt=0)
    step_tokens: int = Field(6_000, gt=0)
    """Completion tokens of one decision step. With fewer, probing takes a larger share of the time."""

    @property
    def steps(self) -> int:
        """Decision steps of an episode."""
        return max(1, round(self.total_tokens / self.step_tokens))


class DistillConfig(_Settings):
    """How one chunk is distilled."""

    loss: str = "fkl"
    learning_rate: float = Field(3e-4, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    tokens_per_update: int = Field(400, gt=0)
    """Completion tokens of one optimizer step: no capability gets more updates per token than another."""
    micro_batch_tokens: int = Field(16_384, gt=0)
    """Padded tokens that go through the student at once; an optimizer step of more is accumulated. Halved when
    memory runs out."""
    grad_clip: float = Field(1.0, gt=0)
    top_k: int = Field(8, gt=0)
    """Teacher probabilities kept per token; the rest is one tail bin."""
    jsd_beta: float = Field(0.5, ge=0, le=1)
    """Loss jsd: weight of the teacher; 0 is fkl, 1 is rkl."""
    skew_alpha: float = Field(0.1, ge=0, lt=1)
    """Losses skew-fkl and skew-rkl: share of the first distribution mixed into the second."""
    tad_top: int = Field(10, gt=0)
    """Loss tad: tokens that count as the head; top_k must be larger."""
    tad_beta: float = Field(2.0, ge=0)
    """Loss tad: weight of the tail."""
    group_size: int = Field(4, ge=1)
    """Losses on the student's own samples: completions of each prompt; grpo and rlad need at least 2."""
    rollout_prompts: int = Field(8, gt=0)
    """Losses on the student's own samples: prompts between two updates."""
    clip_epsilon: float = Field(0.2, gt=0, lt=1)
    """Losses grpo and rlad: half-width of the trust region of the ratio."""
    ratio_bound: float = Field(10.0, gt=1)
    """Losses grpo and rlad: the ratio counts as at most this where a sample did worse than its group (dual clipping)."""
    rlad_alpha: float = Field(0.5, ge=0, le=1)
    """Loss rlad: share of the old student in the ratio's denominator; the rest is the teacher's. 1 is grpo."""
    kl_beta: float = Field(0.0, ge=0)
    """Losses grpo and rlad: weight of the KL divergence to the teacher."""
    mix_schedule: Literal["fixed", "linear", "greedy"] = "fixed"
    """Loss mixed-kl: how the share of forward KL goes; greedy puts all on the smaller of the two."""
    mix_start: float = Field(0.5, ge=0, le=1)
    """Loss mixed-kl: the share of forward KL, at the beginning."""
    mix_end: float = Field(0.5, ge=0, le=1)
    """Loss mixed-kl: its share at the end of a linear schedule."""
    max_completion_tokens: int = Field(40, gt=0)
    block_size: int = Field(32, gt=0)
    """Prompts that the teacher answers at once: a fixed block of the stream."""
    curriculum: Literal["easy-to-hard", "uniform"] = "easy-to-hard"
    max_loss: float = Field(30.0, gt=0)
    """Nats per token above which an update counts as exploded."""

    @model_validator(mode="after")
    def _fits_the_loss(self) -> DistillConfig:
        if self.loss == "tad" and self.top_k <= self.tad_top:
            raise ValueError(
                f"with loss 'tad', top_k must be above tad_top ({self.tad_top}), and is {self.top_k}: the tail beyond "
                "the top tokens needs an inside"
            )
        if self.loss in ("grpo", "rlad") and self.group_size < 2:
            raise ValueError(f"with loss {self.loss!r}, group_size must be at least 2, and is {self.group_size}")
        return self


class CacheConfig(_Settings):
    """Where the teacher's answers are kept between runs. No result depends on it, so it is no part of a run's identity."""

    directory: str = ""
    """Empty: $READ_ENV_CACHE, or read-env/teacher in the user's cache folder; ``none``: nowhere."""
    max_gib: float = Field(20.0, gt=0)
    """The answers used longest ago go when all together take more."""

    @property
    def folder(self) -> Path | None:
        """The directory itself; None for none."""
        named = self.directory or os.environ.get("READ_ENV_CACHE", "")
        if named == "none":
            return None
        if named:
            return Path(named).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "read-env" / "teacher"

    @property
    def digests(self) -> Path | None:
        """The file that remembers what large model files contain."""
        return self.folder / "digests.json" if self.folder else None


class MeasureConfig(_Settings):
    """Prompts a capability in the three held-out splits."""

    probes: int = Field(48, gt=0)
    dev: int = Field(64, gt=0)
    dev_every: int = Field(5, gt=0)
    """Steps between two dev measurements."""
    exam: int = Field(128, gt=0)
    exam_split: Literal["exam", "dev"] = "exam"
    """What exact match is measured on: a search that chooses by it takes dev and leaves the exam unseen."""
    score: Literal["likelihood", "token-likelihood", "exact-match"] = "likelihood"
    """The probe and dev score. ``likelihood`` of the reference: one forward pass and no jumps. ``token-likelihood``, its
    geometric mean over the reference's tokens: for references of many tokens. ``exact-match``: the share of greedily
    decoded answers that the verifiers accept, where a reference is only one of many right answers."""
    decoded_at_once: int = Field(256, gt=0)
    """Prompts whose answers are decoded in one batch."""


class RewardConfig(_Settings):
    """Reward = gain - spillover_beta * spillover - cost_lambda * share of B spent (arXiv 2605.11290)."""

    form: Literal["utility", "linear"] = "utility"
    spillover_beta: float = Field(0.5, ge=0)
    cost_lambda: float = Field(0.0, ge=0)
    essential_k: int = Field(3, ge=1)


class Config(_Settings):
    """A complete configuration: together with the weights it determines a run to the bit (on a CPU)."""

    preset: str = "micro"
    suite: str = "micro"
    """``NAME``, or ``NAME,capability=FILE.jsonl,…`` with prompts of your own."""
    evaluation: tuple[str, ...] = ()
    """Files of evaluation prompts (JSON lines or text): what stands there is never trained on."""
    task: str = "bookkeeper"
    agent: str = "read-bandit"
    agent_options: dict[str, str | int | float | bool] = {}
    seed: int = Field(0, ge=0)
    models: ModelConfig = ModelConfig()
    budget: BudgetConfig = BudgetConfig()
    distill: DistillConfig = DistillConfig()
    cache: CacheConfig = CacheConfig()
    measure: MeasureConfig = MeasureConfig()
    reward: RewardConfig = RewardConfig()


def preset_names() -> tuple[str, ...]:
    """Names of the presets that ship with the package."""
    folder = resources.files("read_env") / "presets"
    return tuple(sorted(p.name.removesuffix(".toml") for p in folder.iterdir() if p.name.endswith(".toml")))


def load_preset(name: str, overrides: Mapping[str, Any] | None = None) -> Config:
    """The configuration of a preset, with nested overrides merged in before validation.

    Args:
        name: a shipped preset or the path of a ``.toml`` file.
        overrides: e.g. ``{"budget": {"total_tokens": 80_000}}``.

    Raises:
        ReadEnvError: unknown preset, malformed file, or a field that is unknown or out of range.
    """
    from pathlib import Path

    if name.endswith(".toml"):
        path = Path(name)
        if not path.is_file():
            raise ReadEnvError(f"preset {name!r}: no such file")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ReadEnvError(f"preset {name!r} can't be read as UTF-8 text: {error}") from None
    elif name in preset_names():
        text = (resources.files("read_env") / "presets" / f"{name}.toml").read_text()
    else:
        raise unknown("preset", name, preset_names())
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ReadEnvError(f"preset {name!r} is not valid TOML: {error}") from None
    return make_config({**_merge(values, overrides or {}), "preset": name}, f"preset {name!r}")


def make_config(values: Mapping[str, Any], source: str) -> Config:
    """Validates values into a :class:`Config`; errors name ``source``, the field and the value."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ReadEnvError(describe(error, source)) from None


def describe(error: ValidationError, source: str) -> str:
    """A pydantic error in one line a field: where, what was given, what would be right."""
    lines = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"])
        given = "" if item["type"] in ("missing", "extra_forbidden", "value_error") else f", got {item['input']!r}"
        lines.append(f"{field}: {item['msg'].removeprefix('Value error, ')}{given}")
    return f"{source}: " + "; ".join(lines)


def _merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        inner = merged.get(key)
        merged[key] = _merge(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return merged
