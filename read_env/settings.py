"""Typed configuration of a run: filled by a preset (``read_env/presets/NAME.toml``), changed by overrides.

The same models are the environment's settings, the options of the command line and the record that is written
beside every run. The text below a field is its help on the command line.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from read_env.deprecated import rename_fields
from read_env.errors import ReadEnvError
from read_env.remote_settings import base_url, request_body, server_of, take_default_teacher, without_secrets

#: Default of the fields that depend on the models; ``read_env.distillation.defaults.resolve`` replaces it by a value.
AUTO: Any = "auto"
if TYPE_CHECKING:  # whatever reads a configuration gets a resolved one
    AutoInt: TypeAlias = int
    AutoFloat: TypeAlias = float
else:
    AutoInt = Annotated[int, Field(gt=0)] | Literal["auto"]
    AutoFloat = Annotated[float, Field(gt=0)] | Literal["auto"]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    #: Name of the section in a preset; empty for the whole configuration.
    section: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _take_old_names(cls, values: Any) -> Any:
        return rename_fields(values, cls.section) if isinstance(values, Mapping) else values


class ModelConfig(_Settings):
    """Teacher and student, and how they are loaded.

    A model is ``embedded:NAME`` (ships with the package), a local folder, a hub id or a GGUF file. The teacher may also be
    ``vllm:FOLDER-OR-HUB-ID`` (in vLLM) or ``remote:NAME`` (behind an OpenAI-compatible server), also with an address of its own:
    ``remote:NAME@http://HOST/v1``.
    """

    # An address may hold a password, and pydantic's errors would show it.
    model_config = ConfigDict(hide_input_in_errors=True)
    section: ClassVar[str] = "models"

    teacher: str = "embedded:micro/teacher"
    """Reference of the teacher model."""
    teachers: dict[str, str] = {}
    """Teachers of single capabilities, such as {math = "./math-teacher", code = "remote:coder@http://localhost:8001/v1"}. All other
    capabilities have ``teacher``, which may also stand here under the name ``default``."""
    student: str = "embedded:micro/student"
    """Reference of the student model, which is trained."""
    trust_remote_code: bool = False
    """Run Python code that comes with a model. Off by default, because it runs with the user's rights."""
    threads: int = Field(1, ge=1)
    """Torch threads of this process. The default is 1: more make models of a few million parameters slower on a
    shared CPU."""
    device: str = "auto"
    """Device of both models: cpu, cuda, cuda:1, … ``auto``: the GPU if there is one, else the CPU."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype. ``auto``: bfloat16 where the hardware accelerates it and the model has at least 50 M parameters,
    else float32."""
    attn_implementation: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    """Attention implementation of transformers. ``auto``: by device and dtype; eager for bfloat16 on a CPU, where sdpa is
    slow."""
    gpus: int = Field(1, ge=1)
    """Number of GPUs that share the student: PyTorch's fully_shard divides weights, gradients and optimizer state between as many
    processes, which the run starts, or torchrun. Without a GPU they are on the CPU. The teacher is in the run's own process."""
    offload_optimizer: bool = False
    """With ``gpus`` above 1: shards, gradients and optimizer state stay in the memory of the host, and a layer's weights are on the
    GPU while they are used. Less GPU memory, more time."""
    teacher_device_map: Literal["", "auto", "balanced", "sequential"] = ""
    """Distribution of a teacher in this process over several GPUs, layer by layer, as ``device_map`` of transformers. Empty: it is
    on one device."""
    gradient_checkpointing: bool = False
    """Recompute the student's activations in the backward pass: less memory, about a third more time per update."""
    torch_compile_mode: Literal["off", "default", "reduce-overhead"] = "off"
    """Compilation of the student's layers for updates by torch.compile. ``reduce-overhead``: with CUDA graphs, for a small student
    on a GPU, whose passes are padded to few shapes. The first update takes the time of the compilation, and losses differ from
    those without in the last digits."""
    start: str = "even"
    """Starting student. ``even``: the student as it is loaded. A recipe (``read-env list students``), ``random:K`` or shares
    such as ``math=2 code=1@30000``: distilled on these shares before the run, for 24,000 completion tokens unless @TOKENS
    says otherwise; they don't count against B."""
    student_layers: tuple[int, ...] = ()
    """Layers of the student that are kept, by index from 0 (depth pruning). Empty: all layers."""
    lora_r: int = Field(0, ge=0)
    """Rank of the LoRA adapters that are trained in place of the student's weights. 0: all weights are trained."""
    lora_alpha: int = Field(0, ge=0)
    """LoRA alpha; adapters are scaled by alpha / rank. 0: twice the rank, a common choice."""
    lora_target_modules: tuple[str, ...] = ("all-linear",)
    """Names of the modules that get adapters. ``all-linear``: every linear layer but the output head, as in peft."""
    vllm_gpu_memory_utilization: float = Field(0.5, gt=0, le=1)
    """Share of each GPU's memory that vLLM reserves for a teacher ``vllm:NAME``. The default leaves half to the student."""
    vllm_tensor_parallel_size: int = Field(1, gt=0)
    """Number of GPUs over which vLLM shards the teacher."""
    remote_base_url: Annotated[str, AfterValidator(base_url)] = ""
    """Base URL of the OpenAI-compatible server of a teacher ``remote:NAME``, such as http://localhost:8000/v1. The key is
    read from $READ_ENV_API_KEY: the URL is written beside every run, so one with a user, a password or a query is
    refused."""
    remote_protocol: Literal["auto", "chat", "vllm", "sglang"] = "auto"
    """Requests to the server of a remote teacher. ``vllm`` and ``sglang``: token ids of a local tokenizer go out and
    log-probabilities come back, so that every loss works. ``chat``: text in the server's chat template, for the loss sft.
    ``auto``: vllm or sglang where the server's list of models says that it is one, a handshake succeeds and no parameter of
    chat requests is set (remote_temperature, remote_reasoning keep, remote_max_tokens, remote_extra_body); else chat."""
    remote_tokenizer: str = ""
    """Folder or hub id of the tokenizer of a remote teacher that gives probabilities. Empty: the student's."""
    remote_logprobs_mode: Literal["raw_logprobs", "processed_logprobs"] = "raw_logprobs"
    """The --logprobs-mode that a vLLM server was started with. It is part of the teacher's identity; the server doesn't tell."""
    remote_revision: str = ""
    """Revision of the remote model, any text. It is part of the run's identity: a server does not tell two models of one
    name apart."""
    remote_timeout: float = Field(120.0, gt=0)
    """Seconds without data after which a request to the server counts as failed."""
    remote_max_retries: int = Field(6, ge=0)
    """Retries of a failed request, with exponentially growing pauses, or those that the server asks for."""
    remote_concurrency: int = Field(8, gt=0)
    """Requests in flight at the same time."""
    remote_max_tokens: int = Field(0, ge=0)
    """Tokens that the server may generate per answer, reasoning included; models that reason need more than the answer's
    own. Sent as max_tokens, or as max_completion_tokens where the server asks for it. 0: distill.max_completion_tokens."""
    remote_temperature: float = Field(0.0, ge=0)
    """Sampling temperature of the remote teacher; 0 is greedy. A server that refuses it decides itself, with a warning."""
    remote_reasoning: Literal["drop", "keep"] = "drop"
    """Reasoning of the remote teacher, in a field of its own or in <think> tags. ``drop``: the student learns the answer
    alone. ``keep``: it learns <think>reasoning</think> before the answer, and these tokens count against B as well."""
    remote_extra_body: Annotated[str, BeforeValidator(request_body)] = ""
    """Further parameters of each request: a JSON object, or a table in TOML, such as {"top_p": 0.9}. null removes a parameter
    that is sent otherwise, such as {"max_tokens": null, "max_completion_tokens": 4096}."""
    remote_extra_headers: Annotated[dict[str, str], AfterValidator(without_secrets)] = {}
    """Further HTTP headers, such as api-key $READ_ENV_API_KEY. A value $NAME is read from the environment: the settings are
    written beside every run."""
    remote_extra_query: Annotated[dict[str, str], AfterValidator(without_secrets)] = {}
    """Query of every request, such as api-version 2024-10-21. A value $NAME is read from the environment."""

    @property
    def all_teachers(self) -> tuple[str, ...]:
        """References of all teachers, each once, the default first.

        >>> ModelConfig(teachers={"math": "m", "default": "d", "code": "m"}).all_teachers
        ('d', 'm')
        """
        return tuple(dict.fromkeys((self.teacher, *self.teachers.values())))

    @property
    def any_remote(self) -> bool:
        """True if a teacher is behind a server.

        >>> ModelConfig(teachers={"math": "remote:mathematician"}).any_remote
        True
        """
        return any(reference.startswith("remote:") for reference in self.all_teachers)

    def teacher_of(self, capability: str) -> str:
        """Reference of the teacher of a capability."""
        return self.teachers.get(capability, self.teacher)

    @model_validator(mode="before")
    @classmethod
    def _take_default_teacher(cls, values: Any) -> Any:
        return take_default_teacher(values) if isinstance(values, Mapping) else values

    @model_validator(mode="after")
    def _fits_the_servers(self) -> ModelConfig:
        for reference in self.all_teachers:
            server_of(reference)
        return self

    @property
    def remote_chat_fields(self) -> tuple[str, ...]:
        """Fields that are set and have a meaning in chat requests alone.

        >>> ModelConfig(remote_temperature=0.7).remote_chat_fields
        ('remote_temperature',)
        """
        usual = {"remote_temperature": 0.0, "remote_reasoning": "drop", "remote_max_tokens": 0}
        return tuple(name for name, value in usual.items() if getattr(self, name) != value)

    @model_validator(mode="after")
    def _fits_the_ranks(self) -> ModelConfig:
        if self.gpus > 1 and self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"gpus is {self.gpus} and device {self.device!r}; right would be device auto, cuda or cpu")
        if self.offload_optimizer and self.gpus == 1:
            raise ValueError(
                "offload_optimizer is set and gpus is 1; right would be gpus of at least 2, or no offload_optimizer"
            )
        if self.gpus > 1 and self.torch_compile_mode != "off":
            raise ValueError(
                f"torch_compile_mode is {self.torch_compile_mode!r} and gpus is {self.gpus}; right would be 'off', or gpus = 1"
            )
        return self

    @model_validator(mode="after")
    def _fits_the_protocol(self) -> ModelConfig:
        if self.remote_protocol in ("vllm", "sglang") and (named := self.remote_chat_fields):
            raise ValueError(
                f"remote_protocol is {self.remote_protocol!r}, where the teacher decodes greedily what the student reads, and "
                f"{', '.join(named)} is set; right would be remote_protocol 'chat', or none of these"
            )
        return self


class BudgetConfig(_Settings):
    """Token budget B, counted in teacher completion tokens that the student is trained on."""

    section: ClassVar[str] = "budget"

    total_tokens: int = Field(120_000, gt=0)
    """B: completion tokens of a run."""
    step_tokens: AutoInt = AUTO
    """Completion tokens per decision step. ``auto``: a twentieth of B, and at least 16 completions."""
    may_stop: bool = False
    """Actions have a stop entry: from 0.5 on it ends the episode, and the rest of B stays unspent."""

    @property
    def steps(self) -> int:
        """Number of decision steps of an episode, at least 1.

        >>> BudgetConfig(total_tokens=120_000, step_tokens=6_000).steps
        20
        """
        return max(1, round(self.total_tokens / self.step_tokens)) if self.step_tokens != AUTO else 20


class DistillConfig(_Settings):
    """Distillation of one chunk: objective, optimizer, decoding, curriculum."""

    section: ClassVar[str] = "distill"

    loss: str = "fkl"
    """Objective; ``read-env list losses`` describes each."""
    learning_rate: AutoFloat = AUTO
    """Peak learning rate of AdamW. ``auto``: by the student's size, from 3e-4 below 50 M parameters to 2e-5
    from 2 B on (the default of TRL's SFT and GKD trainers); for LoRA ten times as much (Schulman, "LoRA Without Regret",
    2025) up to 1e-3; for grpo and rlad a tenth."""
    lr_scheduler_type: Literal["constant", "linear", "cosine", "wsd"] = "linear"
    """Learning rate over the progress through B. ``linear`` and ``cosine`` fall to 0 at its end, ``wsd`` over its last fifth."""
    warmup_ratio: float = Field(0.02, ge=0, lt=1)
    """Share of B over which the learning rate rises from 0."""
    epochs: int = Field(3, ge=1)
    """Passes over the examples of a step, each in a new order. B counts an example once; its passes count as trained tokens.
    On-policy losses make one pass."""
    group_by_length: bool = False
    """Optimizer steps of similar lengths, in place of a random mixture of the step's capabilities."""
    weight_decay: float = Field(0.0, ge=0)
    """Weight decay of AdamW."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """Decay rate of AdamW's mean of the gradients."""
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    """Decay rate of AdamW's mean of the squared gradients."""
    tokens_per_update: AutoInt = AUTO
    """Completion tokens per optimizer step. Counted in tokens, so that every capability gets as many updates per token.
    ``auto``: 32 completions as long as the mean reference, and at most a quarter of a step."""
    micro_batch_tokens: AutoInt = AUTO
    """Padded tokens per forward pass of the student; larger optimizer steps are accumulated. On out-of-memory it is
    halved. ``auto``: as many as need about 4 GiB, by the student's shape, in [512, 16384]."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradient clipping: maximum norm."""
    teacher_top_k: int = Field(8, gt=0)
    """Teacher log-probabilities kept per token, the most likely ones; the rest of the vocabulary is one tail bin."""
    jsd_beta: float = Field(0.5, ge=0, le=1)
    """Losses jsd, gkd and gold: weight of the teacher in the mixture. 0 is fkl, 1 is rkl."""
    skew_alpha: float = Field(0.1, ge=0, lt=1)
    """Losses skew-fkl and skew-rkl: share of the first distribution that is mixed into the second."""
    tad_top_k: int = Field(10, gt=0)
    """Loss tad: number of most likely tokens that form the head; teacher_top_k must be larger. Default of the paper."""
    tad_beta: float = Field(2.0, ge=0)
    """Loss tad: weight of the tail. Default of the paper; on the micro models 0.1 is better (docs/objectives.md)."""
    num_generations: int = Field(4, ge=1)
    """On-policy losses: completions sampled per prompt; grpo and rlad compare them and need at least 2."""
    rollout_batch_size: int = Field(8, gt=0)
    """On-policy losses: prompts per rollout; each rollout is followed by one optimizer step."""
    epsilon: float = Field(0.2, gt=0, lt=1)
    """Losses grpo and rlad: clipping range of the policy ratio, [1 - epsilon, 1 + epsilon]."""
    delta: float = Field(10.0, gt=1)
    """Losses grpo and rlad: upper bound of the ratio where the advantage is negative (dual clipping). It bounds the loss of
    a sampled token to which the teacher gives almost no probability."""
    rlad_alpha: float = Field(0.5, ge=0, le=1)
    """Loss rlad: exponent of the old policy in the ratio's denominator; the teacher's is 1 - alpha. 1 is grpo. The paper's
    value is not known."""
    grpo_beta: float = Field(0.0, ge=0)
    """Losses grpo and rlad: weight of the KL divergence to the teacher."""
    mixed_kl_schedule: Literal["fixed", "linear", "greedy"] = "fixed"
    """Loss mixed-kl: schedule of the share of forward KL. ``greedy``: all on the smaller of the two divergences."""
    mixed_kl_start: float = Field(0.5, ge=0, le=1)
    """Loss mixed-kl: share of forward KL at the start."""
    mixed_kl_end: float = Field(0.5, ge=0, le=1)
    """Loss mixed-kl: share of forward KL at the end of a linear schedule."""
    max_completion_tokens: AutoInt = AUTO
    """Maximum length of a completion in tokens; longer ones are cut. ``auto``: 1.5 times the longest reference, at least 256
    for students from 50 M parameters on (TRL's GRPO trainer has 256), within the student's context."""
    overlong_prompts: Literal["skip", "error"] = "skip"
    """Lines of a file whose prompt leaves no room for a completion in the context of a model. ``skip``: they are left out
    and counted in the record. ``error``: the run is refused before it starts."""
    teacher_batch_size: int = Field(32, gt=0)
    """Prompts per batch of the teacher. A batch is a fixed block of the prompt stream, so that an answer does not depend on
    the policy."""
    curriculum: Literal["easy-to-hard", "uniform"] = "easy-to-hard"
    """Order of difficulty. ``easy-to-hard`` follows the progress through the budget, as published; ``uniform`` mixes all."""
    max_loss: float = Field(30.0, gt=0)
    """Loss in nats per token above which an update counts as diverged and the step is refused."""

    @model_validator(mode="after")
    def _fits_the_loss(self) -> DistillConfig:
        if self.loss == "tad" and self.teacher_top_k <= self.tad_top_k:
            raise ValueError(
                f"with loss 'tad', teacher_top_k must be above tad_top_k ({self.tad_top_k}), and is {self.teacher_top_k}: "
                "the divergence of the tail needs tokens beyond the head"
            )
        if self.loss in ("grpo", "rlad") and self.num_generations < 2:
            raise ValueError(
                f"with loss {self.loss!r}, num_generations must be at least 2, and is {self.num_generations}"
            )
        return self


class CacheConfig(_Settings):
    """Cache of the teacher's answers, kept between runs. It changes no result, so it is not part of a run's identity."""

    section: ClassVar[str] = "cache"

    directory: str = ""
    """Folder of the cache. Empty: $READ_ENV_CACHE, else read-env/teacher in the user's cache folder. ``none``: no cache on
    disk."""
    max_gib: float = Field(20.0, gt=0)
    """Maximum size in GiB; the least recently used answers are deleted."""

    @property
    def folder(self) -> Path | None:
        """Folder of the cache; None for none, and with a warning for a user without a home folder."""
        named = self.directory or os.environ.get("READ_ENV_CACHE", "")
        if named == "none":
            return None
        if named:
            return Path(os.path.expanduser(named))
        try:
            user_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        except RuntimeError:  # a container's user without an entry in passwd
            warnings.warn(
                "this user has no home folder, so the teacher's answers are not kept on disk: set cache.directory or "
                "$READ_ENV_CACHE to a folder, or to none",
                stacklevel=2,
            )
            return None
        return user_cache / "read-env" / "teacher"

    @property
    def digests(self) -> Path | None:
        """File that keeps the content digests of large model files; None without a cache."""
        return self.folder / "digests.json" if self.folder else None


class EvalConfig(_Settings):
    """Evaluation on the three held-out splits: probes (seen by agents), dev (calibration), exam (final reports).

    Sizes that are not set are lowered to what the files of the suite have.
    """

    section: ClassVar[str] = "eval"

    probes: int = Field(48, gt=0)
    """Prompts per capability in the probes, which are scored after every step."""
    dev: int = Field(64, gt=0)
    """Prompts per capability in the dev split."""
    dev_every: int = Field(5, gt=0)
    """Steps between two evaluations on the dev split."""
    exam: int = Field(128, gt=0)
    """Prompts per capability in the exam, which is held before the first and after the last step."""
    task_probes: int = Field(128, gt=0)
    """Prompts of a measured task in its probes, which give the utility after every step; at most those it has."""
    task_dev: int = Field(128, gt=0)
    """Prompts of a measured task in its dev split."""
    task_exam: int = Field(256, gt=0)
    """Prompts of a measured task in its exam."""
    observe_utility: bool = False
    """Observations have the utility of the task, under the key ``utility``."""
    exam_split: Literal["exam", "dev"] = "exam"
    """Split on which exact match is measured. A search that selects by exact match uses dev and leaves the exam unseen."""
    score: Literal["likelihood", "token-likelihood", "exact-match"] = "likelihood"
    """Score of probes and dev. ``likelihood``: probability of the reference, from one forward pass. ``token-likelihood``:
    its geometric mean over tokens, for long references. ``exact-match``: share of greedily decoded answers that the
    verifier accepts, where a reference is one of many right answers."""
    ema_decay: float = Field(0.0, ge=0, lt=1)
    """Decay, by update, of an average of the student's weights, which probes and dev measure in place of the student: its scores
    vary less with the last updates. The exam and the saved student are the student itself. 0: no average, which would take the
    memory of the trained weights once more."""
    eval_batch_size: int = Field(256, gt=0)
    """Prompts decoded per batch. On out-of-memory a batch is halved."""
    score_teacher: Literal["auto", "always", "never"] = "auto"
    """Evaluation of the teacher on probes and exam, as the ceiling of the student's scores; its tokens don't count against B.
    ``auto``: unless one is remote, where the answers cost money."""
    score_unspent: bool = True
    """With budget.may_stop: utility that the tokens left by a run would have brought, spent by the requirement. It costs the
    time of the steps that were left out."""
    external: tuple[str, ...] = ()
    """Tasks of lm-eval, the LM Evaluation Harness, on which the student is evaluated at the end of a run: names of tasks, groups
    or tags. They are outside the method, which neither sees nor is judged by them. Needs the extra ``evaluate``."""
    external_include_path: str = ""
    """Folder with tasks of your own for eval.external, as YAML files of lm-eval."""
    external_chat_template: bool = False
    """Prompts of eval.external are rendered by the student's chat template, as those that it was trained on. Off by default, as
    in lm-eval."""


class RewardConfig(_Settings):
    """Reward = gain - spillover_beta * spillover - forgetting_beta * forgetting - cost_lambda * share of B spent
    (arXiv 2605.11290, which has no term for forgetting).
    """

    section: ClassVar[str] = "reward"

    form: Literal["utility", "linear"] = "utility"
    """Gain of a step. ``utility``: change of the task's utility; ``linear``: r·Δs, as published."""
    spillover_beta: float = Field(0.5, ge=0)
    """Weight of the drops on essential capabilities. Default of the authors' release."""
    forgetting_beta: float = Field(0.0, ge=0)
    """Weight of the mean drop on the other capabilities. 0: as published."""
    cost_lambda: float = Field(0.0, ge=0)
    """Weight of the step's share of the budget. 0: every policy spends the same budget."""
    essential_k: int = Field(3, ge=1)
    """Number of capabilities with the largest requirement that count as essential."""


class IdentifyConfig(_Settings):
    """Interventions from which the requirement of a measured task is inferred: short runs on different allocations.

    They are made before a run whose card has ``requirement = "identify"``, or none, and kept beside the teacher's answers.
    """

    section: ClassVar[str] = "identify"

    interventions: int = Field(40, ge=0)
    """Short runs, for each starting student, at least 6, and with ``axial`` at least one for each capability. 0: the text of the
    card alone, with an identifier."""
    tokens: int = Field(0, ge=0)
    """Completion tokens of all of them together, for each starting student. 0: two steps of the budget for each."""
    design: Literal["axial", "balanced", "random"] = "axial"
    """Allocations. ``axial``: even, with half of the tokens moved to one capability; ``balanced``: every capability is trained in
    half of the runs; ``random``: sparse ones, as published."""
    regress_on: Literal["scores", "tokens"] = "tokens"
    """Explaining variables of the regression. ``scores``: changes of the scores, as published: needs that the utility follows;
    ``tokens``: shares of the tokens: capabilities whose tokens raise the utility, such as a drill whose effect shows in other
    scores too."""
    identifier: str = ""
    """Folder of a trained identifier (``read-env train-identifier``): its requirement, from the text of the card, is the prior
    of the regression, with a weight by cross-validation. Empty: no prior."""


class Config(_Settings):
    """Complete configuration. Together with the weights of the models it determines a run to the bit (on a CPU)."""

    preset: str = "micro"
    """Preset that filled the configuration: a shipped name or the path of a .toml file."""
    suite: str = "micro"
    """Capabilities: ``NAME``, or ``NAME,capability=FILE.jsonl,…`` with prompts of your own."""
    decontamination_files: tuple[str, ...] = ()
    """Files of evaluation prompts (JSON lines or text). Prompts that occur in them are never trained on."""
    task: str = "bookkeeper"
    """Downstream task: name of a task card, path of a .toml card, name of a capability, or file of prompts with answers."""
    agent: str = "read-bandit"
    """Allocation agent: a name, ``module:Class``, the path of a saved agent, or ``hf:`` and its repository on the hub."""
    agent_options: dict[str, str | int | float | bool] = {}
    """Options of the agent."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the prompt streams, the batches and the agent."""
    models: ModelConfig = ModelConfig()
    budget: BudgetConfig = BudgetConfig()
    distill: DistillConfig = DistillConfig()
    cache: CacheConfig = CacheConfig()
    eval: EvalConfig = EvalConfig()
    reward: RewardConfig = RewardConfig()
    identify: IdentifyConfig = IdentifyConfig()

    _reasons: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def resolved(self) -> bool:
        """False while a field is ``auto``, apart from those of ``models``."""
        return AUTO not in [*self.budget.model_dump().values(), *self.distill.model_dump().values()]

    @property
    def reasons(self) -> dict[str, str]:
        """Value and reason of the fields that were ``auto``, once they are resolved: field -> text."""
        return dict(self._reasons)

    def with_reasons(self, reasons: Mapping[str, str]) -> Config:
        """Copy of the configuration with these ``reasons``."""
        copy = self.model_copy()
        copy._reasons = dict(reasons)
        return copy


def make_config(values: Mapping[str, Any], source: str) -> Config:
    """Validate values into a :class:`Config`; errors name ``source``, the field and the value.

    >>> make_config({"seed": -1}, "mine.toml")
    Traceback (most recent call last):
    ...
    read_env.errors.ReadEnvError: mine.toml: seed: Input should be greater than or equal to 0, got -1
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ReadEnvError(describe(error, source)) from None


#: Names that pydantic gives to the branches of an ``auto`` field.
_BRANCHES = ("constrained-int", "constrained-float", "literal['auto']")


def describe(error: ValidationError, source: str) -> str:
    """Text of a pydantic error: field, problem and given value, one entry per field."""
    lines = []
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"] if part not in _BRANCHES)
        if item["loc"][-1:] == ("literal['auto']",):  # the other branch says more
            continue
        given = "" if item["type"] in ("missing", "extra_forbidden", "value_error") else f", got {item['input']!r}"
        lines.append(f"{field}: {item['msg'].removeprefix('Value error, ')}{given}")
    return f"{source}: " + "; ".join(lines)
