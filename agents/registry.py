"""Agents by name: built-in, saved in a file, ``module:Class``, or announced by an installed package.

The module of a name is imported when an agent of that name is made, so listing the names imports neither torch nor
Stable-Baselines3.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import gymnasium as gym

from read_env.agents import storage
from read_env.agents.base import Agent
from read_env.errors import ReadEnvError, unknown
from read_env.imports import import_attribute

#: Entry-point group in which installed packages announce agents: ``my-agent = "my_package.my_module:MyAgent"``.
GROUP = "read_env.agents"
#: Option of a saved agent that allows code which its file names.
TRUST = "trust_remote_code"
#: Prefixes of algorithms of Stable-Baselines3 and sb3-contrib.
SB3_PREFIXES = ("sb3:", "sb3-contrib:")

#: Group -> name -> class, and the options that differ from the defaults of that class.
GROUPS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "static rules": {
        "uniform": ("read_env.agents.static:Uniform", {}),
        "task-static": ("read_env.agents.static:TaskStatic", {}),
        "sqrt-task": ("read_env.agents.static:SqrtTask", {}),
        "water-filling": ("read_env.agents.static:WaterFilling", {}),
        "fixed": ("read_env.agents.static:Fixed", {}),
        "one-hot": ("read_env.agents.static:OneHot", {}),
        "round-robin": ("read_env.agents.static:RoundRobin", {}),
    },
    "rules of the literature": {
        "odm": ("read_env.agents.rules.odm:Odm", {}),
        "learning-progress": ("read_env.agents.rules.learning_progress:LearningProgress", {}),
        "paced": ("read_env.agents.rules.paced:Paced", {}),
        "reference-gap": ("read_env.agents.rules.reference_gap:ReferenceGap", {}),
        "dro": ("read_env.agents.rules.dro:Dro", {}),
        "skill-it": ("read_env.agents.rules.skill_it:SkillIt", {}),
        "aioli": ("read_env.agents.rules.aioli:Aioli", {}),
        "olmix": ("read_env.agents.rules.olmix:Olmix", {}),
        "regmix": ("read_env.agents.rules.regmix:Regmix", {}),
        "dump": ("read_env.agents.rules.dump:Dump", {}),
    },
    "bandits": {
        "greedy": ("read_env.agents.published_bandit:PublishedBandit", {"kappa": 0.0}),
        "read-bandit-published": ("read_env.agents.published_bandit:PublishedBandit", {}),
        "read-bandit": ("read_env.agents.transfer_bandit:ReadBandit", {}),
    },
    "learned policies": {
        "sb3:PPO": ("read_env.agents.sb3_algorithms:PPO", {}),
        "sb3:A2C": ("read_env.agents.sb3_algorithms:A2C", {}),
        "sb3:SAC": ("read_env.agents.sb3_algorithms:SAC", {}),
        "sb3:TD3": ("read_env.agents.sb3_algorithms:TD3", {}),
        "sb3:DQN": ("read_env.agents.sb3_algorithms:DQN", {}),
        "sb3-contrib:MaskablePPO": ("read_env.agents.sb3_algorithms:MaskablePPO", {}),
        "sb3-contrib:RecurrentPPO": ("read_env.agents.sb3_algorithms:RecurrentPPO", {}),
        "sb3-contrib:TQC": ("read_env.agents.sb3_algorithms:TQC", {}),
        "sb3-contrib:CrossQ": ("read_env.agents.sb3_algorithms:CrossQ", {}),
    },
    "pretrained": {
        "pretrained:any": ("read_env.agents.set_policy:SetPolicy", {"weights": "any"}),
        "pretrained:read-bandit": ("read_env.agents.surrogate_bandit:SurrogateBandit", {"surrogate": "micro"}),
        "pretrained:ppo": ("read_env.agents.pretrained_ppo:PretrainedPPO", {}),
        "pretrained:micro": ("read_env.agents.set_policy:SetPolicy", {"weights": "micro"}),
        "surrogate-bandit": ("read_env.agents.surrogate_bandit:SurrogateBandit", {}),
        "set-policy": ("read_env.agents.set_policy:SetPolicy", {}),
    },
    "controls": {
        "random-candidate": ("read_env.agents.static:RandomCandidate", {}),
        "grid-searched": ("read_env.agents.grid_search:GridSearched", {}),
        "frozen-mean": ("read_env.agents.rules.frozen_mean:FrozenMean", {}),
        "lookahead": ("read_env.agents.lookahead:Lookahead", {}),
    },
}

#: Name -> class, and the options that differ from the defaults of that class.
BUILT_IN: dict[str, tuple[str, dict[str, Any]]] = {
    name: entry for agents in GROUPS.values() for name, entry in agents.items()
}


def agent_names() -> tuple[str, ...]:
    """Names of the built-in agents, then of those that installed packages announce.

    >>> agent_names()[:3]
    ('uniform', 'task-static', 'sqrt-task')
    """
    return (*BUILT_IN, *(point.name for point in _plug_ins() if point.name not in BUILT_IN))


def is_announced(name: str) -> bool:
    """True for an agent of this package, of Stable-Baselines3 or of an installed package that announces it.

    >>> is_announced("sb3:PPO"), is_announced("my_agent:Momentum")
    (True, False)
    """
    return name in agent_names() or name.startswith(SB3_PREFIXES)


def make_agent(
    name: str | os.PathLike[str],
    *,
    capabilities: Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    env: gym.Env[Any, Any] | None = None,
    may_stop: bool | None = None,
) -> Agent:
    """Make an untrained agent by name, or load a saved one.

    Args:
        name: one of ``agent_names()``, ``module:Class``, or the path of a saved agent or of a zip of SB3.
        capabilities: names of the suite, in order. Not needed if ``env`` is given.
        options: options of the agent; for a saved agent, options to change and ``trust_remote_code``, as in ``load_agent``.
        seed: seed of the agent's generator; a saved agent keeps its own.
        env: environment of this package with the capabilities.
        may_stop: actions have a stop entry. None: those of ``env``, False without it.

    Raises:
        ReadEnvError: unknown name, wrong options, missing packages, a class without ``predict``,
            or a saved agent of another suite, or with a stop entry where actions have none.

    >>> make_agent("one-hot", capabilities=["math", "code"], options={"capability": "code"}).options
    {'floor': 0.0, 'stop_at': 1.0, 'capability': 'code'}
    """
    name = os.fspath(name)
    if capabilities is None:
        if env is None:
            raise ReadEnvError("make_agent needs the suite's capabilities: give capabilities= or env=")
        capabilities = env.unwrapped.suite.names  # type: ignore[attr-defined]
    if may_stop is None:
        may_stop = env is not None and env.unwrapped.action_space.shape[0] > len(capabilities)  # type: ignore[index]
    if name not in BUILT_IN and os.path.isfile(name):
        from read_env.agents.sb3_zip import Sb3Zip, is_sb3_zip

        if is_sb3_zip(Path(name)):
            return Sb3Zip(Path(name), capabilities, options or {}, seed, may_stop)
        agent = load_agent(name, options)
        if agent.capabilities != tuple(capabilities):
            raise ReadEnvError(
                f"{name} was saved for the capabilities {', '.join(agent.capabilities)}; "
                f"here they are {', '.join(capabilities)}"
            )
        if agent.may_stop and not may_stop:
            raise ReadEnvError(
                f"{name} was saved with a stop entry in its actions; right would be budget.may_stop = true"
            )
        agent.never_stops = may_stop and not agent.may_stop
        return agent
    return _construct(name, capabilities, options or {}, seed, may_stop)


def load_agent(path: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Agent:
    """Load an agent from a file of ``save``; it predicts as the saved one did.

    Args:
        path: the file.
        options: options to change, such as ``{"update": False}`` to stop a trained bandit from learning. With
            ``trust_remote_code``, True, a file that names a class ``module:Class`` is loaded: the module is imported, and
            the class called with the options of the file. False by default, since a file of others may name any class.

    Raises:
        ReadEnvError: a missing or damaged file, one with the state of another agent, or an untrusted ``module:Class``.
    """
    document = storage.read(path)
    options = dict(options or {})
    trusted = options.pop(TRUST, False) is True
    try:
        kept: dict[str, Any] = document["options"]
        name, capabilities, seed, state = (document[key] for key in ("agent", "capabilities", "seed", "state"))
    except KeyError as error:
        raise ReadEnvError(f"{path} is no saved agent: it has no {error}") from error
    kinds = {"agent": str, "options": dict, "capabilities": list, "seed": int, "state": dict}
    for key, kind in kinds.items():
        if not isinstance(document[key], kind):
            raise ReadEnvError(f"{path} is damaged: its {key} is {document[key]!r:.80}, not a {kind.__name__}")
    if not trusted and not is_announced(name):
        raise ReadEnvError(
            f"{path} names the agent {name!r}, which is no agent of read-env or of an installed package that announces it; "
            f"loading it imports a module and calls a class of the file's choice. If you trust it, add the option {TRUST} = true"
        )
    agent = _construct(name, capabilities, {**kept, **options}, seed, document.get("may_stop") is True)
    try:
        agent.load_state_dict(state)
    except ReadEnvError as error:
        raise ReadEnvError(f"{path}: {error}") from error
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, RuntimeError) as error:
        raise ReadEnvError(
            f"{path} is damaged, or the options are not those that it was saved with: no state of agent {name!r} ({type(error).__name__}: {error})"
        ) from error
    return agent


def _construct(name: str, capabilities: Sequence[str], options: Mapping[str, Any], seed: int, may_stop: bool) -> Agent:
    stop: dict[str, Any] = {"may_stop": True} if may_stop else {}  # subclasses of users need not know it
    if name in BUILT_IN:
        where, preset = BUILT_IN[name]
        return import_attribute(where)(capabilities, seed=seed, options={**preset, **options}, name=name, **stop)
    plug_in = next((point for point in _plug_ins() if point.name == name), None)
    if plug_in is not None:
        try:
            found = plug_in.load()
        except (ImportError, AttributeError) as error:
            raise ReadEnvError(f"agent {name!r} is announced as {plug_in.value!r}, which fails: {error}") from error
    elif ":" in name:
        if name.startswith(SB3_PREFIXES):
            from read_env.agents.sb3_algorithms import OtherAlgorithm

            return OtherAlgorithm(capabilities, seed=seed, options=options, name=name, **stop)
        found = import_attribute(name)
    else:
        raise unknown("agent", name, agent_names())
    from read_env.agents.custom import adapt

    return adapt(found, name, capabilities, options, seed, may_stop)


def _plug_ins() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)
