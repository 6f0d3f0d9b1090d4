"""Prior of read-bandit's transfer model, fitted to the recorded episodes that ship with the surrogate.

python scripts/fit_prior.py     # coefficients beside the defaults of read-bandit, error of whole episodes, gains with either prior
"""

from __future__ import annotations

import argparse
from importlib import resources
from pathlib import Path

import numpy as np

from read_env.agents import make_agent
from read_env.agents.base import Agent
from read_env.agents.transfer_model import TransferModel, TransferPrior, rates
from read_env.envs.surrogate import SurrogateEnv
from read_env.reporting.markdown import markdown_table, number, plus_minus
from read_env.reporting.statistics import paired
from read_env.surrogate.record import Record

#: Tasks of the training pairs, and seeds of the episodes on the surrogate.
TASKS = ("bookkeeper", "auditor", "dispatcher", "order-desk", "tutor", "code-reviewer")
SEEDS = range(120)
TABLE = Path(str(resources.files("read_env"))) / "assets/micro/transitions.npz"
CHUNK_TOKENS = 6_000
#: Transfer and interference of one source are told apart by differing scores only: a wider prior would let them grow
#: with opposite signs.
WIDE = TransferPrior(0.05, 0.2, 0.05, 0.0, 0.2, 0.05, 0.02)


def gain_of(env: SurrogateEnv, agent: Agent, seed: int) -> float:
    """Gain of utility of one episode on the surrogate."""
    observation, info = env.reset(seed=seed)
    start, ended = info["utility"], False
    while not ended:
        action, _ = agent.predict(observation, deterministic=True)
        before = observation
        observation, reward, ended, truncated, info = env.step(action)
        agent.observe(before, action, float(reward), observation, ended, truncated, info)
    return float(info["utility"] - start)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    record = Record.load(TABLE)

    episodes, names = record.episodes, record.capabilities
    shares = episodes.tokens / np.maximum(episodes.tokens.sum(-1, keepdims=True), 1)
    chunks = episodes.tokens.sum(-1) / CHUNK_TOKENS
    before, changes = episodes.before, episodes.profiles - episodes.before
    model = TransferModel(len(names), WIDE)
    for at in np.argwhere(episodes.played):
        e, t = at
        model.update(shares[e, t], before[e, t], changes[e, t], float(chunks[e, t]))
    posterior = model.posterior()

    size, prior = len(names), TransferPrior()
    gain, loss = posterior.mean[:, :size], posterior.mean[:, size:]
    own = np.eye(size, dtype=bool)
    parts = {
        "learning": (gain[own], prior.learning, prior.learning_sd),
        "transfer": (gain[~own], 0.0, prior.transfer_sd),
        "neglect": (loss[own], prior.neglect, prior.neglect_sd),
        "interference": (loss[~own], 0.0, prior.interference_sd),
        "noise of a step": (posterior.noise, prior.noise, None),
    }
    rows = [
        [name, number(float(part.mean()), 3, True), number(float(part.std()), 3), number(mean, 3, True), number(sd, 3)]
        for name, (part, mean, sd) in parts.items()
    ]
    print(f"{len(episodes)} episodes; changes of the probe score per {CHUNK_TOKENS:,} completion tokens\n")
    print(markdown_table(["coefficient", "mean", "s.d. over capabilities", "prior's mean", "prior's s.d."], rows))

    profile = episodes.start.copy()
    for t in range(shares.shape[1]):
        up, down = rates(shares[:, t], posterior.mean)
        moved = profile + chunks[:, t, None] * ((1 - profile) * up + profile * down)
        profile = np.where(episodes.played[:, t, None], moved.clip(0, 1), profile)
    error = np.sqrt(np.mean((profile - episodes.final) ** 2, axis=0))
    spread = np.std(episodes.final - episodes.start, axis=0)
    rows = [[n, number(float(e)), number(float(s))] for n, e, s in zip(names, error, spread, strict=True)]
    print(
        "\nWhole episodes, rolled out with the fitted model: root mean square error of the final score, and the s.d. of"
    )
    print("the change that it predicts\n")
    print(markdown_table(["capability", "error", "s.d."], rows))

    env, fitted = SurrogateEnv(tasks=list(TASKS)), {"prior_noise": float(posterior.noise.mean())}
    for name, (part, mean, _) in parts.items():
        if name != "noise of a step":
            fitted |= {f"prior_{name}_sd": float(part.std())} | ({f"prior_{name}": float(part.mean())} if mean else {})
    agents = {
        "task-static": ("task-static", {}),
        "read-bandit": ("read-bandit", {}),
        "read-bandit, fitted prior": ("read-bandit", fitted),
    }
    gains = {
        label: np.array([gain_of(env, make_agent(name, env=env, seed=seed, options=options), seed) for seed in SEEDS])
        for label, (name, options) in agents.items()
    }
    rows = [
        [label, number(float(found.mean()), 4), plus_minus(paired(found, gains["task-static"]).difference, 4, True)]
        for label, found in gains.items()
    ]
    print(f"\n{len(SEEDS)} episodes on the surrogate: gain of utility, and its difference to w = r, 95 %\n")
    print(markdown_table(["agent", "gain", "ahead of w = r"], rows))


if __name__ == "__main__":
    main()
