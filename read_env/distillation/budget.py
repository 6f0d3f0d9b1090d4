"""Token budget: an integer ledger that counts each kind of token separately."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from read_env.config import Config
from read_env.errors import ReadEnvError
from read_env.losses import get_objective


@dataclass(frozen=True)
class TokenBudget:
    """Integer ledger. Only completion tokens that the student is trained on count against B.

    Attributes:
        total: B, completion tokens.
        spent: completion tokens trained on so far.
        prompt_tokens: prompt tokens of the same examples.
        generated_tokens: completion tokens decoded by the student: exams, on-policy samples.
        probe_tokens: completion tokens scored on the probes.
        dev_tokens: completion tokens scored on the dev split by checkpoints and by objectives that validate, and the
            teacher's answers for the latter.

    Example:
        >>> TokenBudget(total=100).spend(completion_tokens=30, prompt_tokens=80).left
        70
    """

    total: int
    spent: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    probe_tokens: int = 0
    dev_tokens: int = 0

    @property
    def left(self) -> int:
        """Completion tokens not yet spent."""
        return self.total - self.spent

    def spend(self, completion_tokens: int, prompt_tokens: int) -> TokenBudget:
        """Ledger after a chunk.

        Raises:
            ValueError: the chunk is larger than what is left (a bug of the caller).
        """
        if not 0 <= completion_tokens <= self.left:
            raise ValueError(
                f"cannot spend {completion_tokens} completion tokens, {self.left} of {self.total} are left"
            )
        return replace(self, spent=self.spent + completion_tokens, prompt_tokens=self.prompt_tokens + prompt_tokens)

    def count(self, **tokens: int) -> TokenBudget:
        """Ledger with tokens added that don't count against B, e.g. ``count(probe_tokens=900)``."""
        return replace(self, **{name: getattr(self, name) + n for name, n in tokens.items()})

    def to_dict(self) -> dict[str, int]:
        """All fields, JSON-able."""
        return asdict(self)


def check_group_of_samples(config: Config) -> None:
    """Check that an on-policy objective can afford one group of samples.

    Raises:
        ReadEnvError: the budget is below the longest possible group.
    """
    distill, total = config.distill, config.budget.total_tokens
    if get_objective(distill.loss).on_policy and total < distill.num_generations * distill.max_completion_tokens:
        raise ReadEnvError(
            f"budget.total_tokens is {total}, below one group of samples, which may take distill.num_generations "
            f"({distill.num_generations}) times distill.max_completion_tokens ({distill.max_completion_tokens}) tokens"
        )
