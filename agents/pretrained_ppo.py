"""``pretrained:ppo``: PPO trained on the shipped surrogate by ``scripts/train_ppo.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from read_env.agents import storage
from read_env.agents.options import check_names
from read_env.agents.sb3_algorithms import PPO
from read_env.errors import ReadEnvError


class PretrainedPPO(PPO):
    """PPO with the weights that ship.

    It learns further like any PPO, with the options of ``sb3:PPO``.

    Raises:
        ReadEnvError: another suite or width than that of the weights.
    """

    name = "pretrained:ppo"

    def __init__(
        self, capabilities: Sequence[str], seed: int = 0, options: Mapping[str, Any] | None = None, name: str | None = None,
        may_stop: bool = False,
    ) -> None:  # fmt: skip
        saved, label = _saved(), name or type(self).name
        check_names(label, options or {}, saved["options"])
        if tuple(capabilities) != tuple(saved["capabilities"]):
            raise ReadEnvError(
                f"agent {label!r} was trained for the capabilities {', '.join(saved['capabilities'])}; here they are "
                f"{', '.join(capabilities)}; right would be pretrained:any, or a policy trained for them"
            )
        given = {**saved["options"], **(options or {})}
        if given["hidden"] != saved["options"]["hidden"]:
            raise ReadEnvError(
                f"agent {label!r}, option 'hidden' is {given['hidden']!r}; right would be {saved['options']['hidden']}, the width "
                "of its weights"
            )
        super().__init__(capabilities, seed, given, label)
        self.never_stops = may_stop
        self._tokens = int(saved["made_from"]["tokens"])
        randomness = self.randomness.state_dict()
        self.load_state_dict({**saved["state"], "rng": self.rng.bit_generator.state})
        self.randomness.load_state_dict(randomness)  # those of this seed

    @classmethod
    def files(cls, options: Mapping[str, Any]) -> dict[str, Path]:
        return {"agent weights": weights_path()}

    @property
    def tokens_before_run(self) -> int:
        """Completion tokens of the recorded runs behind the surrogate."""
        return self._tokens


def weights_path() -> Path:
    """File of the trained agent, of ``Agent.save`` with the facts about its training, ``made_from``."""
    return Path(str(resources.files("read_env") / "assets/policies/ppo.zip"))


@lru_cache(maxsize=1)
def _saved() -> dict[str, Any]:
    return storage.read(weights_path())
