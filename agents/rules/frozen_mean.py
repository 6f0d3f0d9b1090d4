"""``frozen-mean``: the mean allocation of a recorded run, replayed."""

from __future__ import annotations

import numpy as np

from read_env.agents.observation import Array, View
from read_env.agents.rules.recorded import RecordedRule, RecordedRun
from read_env.agents.static import RuleSettings
from read_env.errors import ReadEnvError


class FrozenMeanSettings(RuleSettings):
    """Options: ``run`` is the directory of a finished run."""

    run: str = ""


class FrozenMean(RecordedRule):
    """Mean allocation of a recorded run, the same at every step: a control for what changes of the allocation bring.

    The steps of the run are weighted by their completion tokens, so that both runs spend the same tokens on each
    capability. Those of the recorded run count as spent before this one. A mean over seeds or agents is agent
    ``fixed``.

    Example:
        >>> agent = FrozenMean(["math", "code"])
        >>> agent.load_state_dict({**agent.state_dict(), "fitted": {"allocation": np.array([0.75, 0.25])}})
        >>> obs = dict(requirement=[1, 0], profile=[0, 0], budget=[1], last_allocation=[0, 0], last_gain=[0, 0])
        >>> agent.predict(obs)[0].tolist()
        [0.75, 0.25]
    """

    name = "frozen-mean"
    settings_type = FrozenMeanSettings
    source = "run"
    wanted = "the directory of one finished run of this suite"

    def fit(self, runs: list[RecordedRun]) -> dict[str, Array]:
        if len(runs) > 1:
            raise ReadEnvError(f"it has {len(runs)} finished runs")
        return {"allocation": np.array(runs[0].allocation)}

    def shares(self, view: View) -> Array:
        return self.fitted()["allocation"]
