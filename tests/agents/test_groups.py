"""Groups of the built-in agents, in the registry and on the command line."""

from __future__ import annotations

from read_env.agents.registry import BUILT_IN, GROUPS
from read_env.running.listing import describe


def test_every_built_in_agent_is_in_one_group() -> None:
    names = [name for agents in GROUPS.values() for name in agents]
    assert sorted(names) == sorted(BUILT_IN) and len(set(names)) == len(names)


def test_the_list_of_agents_is_grouped() -> None:
    rows = [name for name, _ in describe("agents", "micro")]
    for group, agents in GROUPS.items():
        start = rows.index(f"{group}:") + 1
        assert rows[start : start + len(agents)] == list(agents)
    assert all(line for name, line in describe("agents", "micro") if not name.endswith(":"))
