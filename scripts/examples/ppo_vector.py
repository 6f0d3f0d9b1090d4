"""PPO in one file, on the vector environment of a surrogate, and its policy as an agent.

    python scripts/examples/ppo_vector.py --steps 200000 --out runs/ppo_vector.npz
    read-env compare --agents scripts.examples.ppo_vector:Policy,file=runs/ppo_vector.npz task-static --tasks tutor

The algorithm is that of Schulman et al. (arXiv 1707.06347) with the usual details (Huang et al., "The 37 Implementation Details of
Proximal Policy Optimization", 2022): normalised advantages, clipped values, an entropy bonus, and a learning rate that falls.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Normal

import read_env  # noqa: F401  (registers the environments)

KEYS = ("requirement", "profile", "budget", "last_allocation", "last_gain")


def vector(observations: dict[str, np.ndarray]) -> torch.Tensor:
    """Observations as (n, 4|C| + 1)."""
    return torch.from_numpy(np.concatenate([np.atleast_2d(observations[key]) for key in KEYS], axis=1)).float()


class ActorCritic(nn.Module):
    """Gaussian policy over logits, whose softmax is the allocation, and a value function."""

    def __init__(self, size: int, hidden: int = 64) -> None:
        super().__init__()

        def network(out: int, gain: float) -> nn.Sequential:
            layers = [nn.Linear(4 * size + 1, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, out)]
            for layer, scale in zip(layers, (2**0.5, 2**0.5, gain), strict=True):
                nn.init.orthogonal_(layer.weight, scale)
                nn.init.zeros_(layer.bias)
            return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2])

        self.mean, self.value = network(size, 0.01), network(1, 1.0)
        self.log_sd = nn.Parameter(torch.full((size,), -0.5))
        self.size = size

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Mean logits: those of w = r, and what the network adds."""
        return torch.log(x[:, : self.size] + 0.02) + self.mean(x)

    def distribution(self, x: torch.Tensor) -> Normal:
        """Distribution of the logits."""
        return Normal(self.logits(x), self.log_sd.exp())


def train(
    envs: gym.vector.VectorEnv, steps: int, *, seed: int = 0, rollout: int = 20, epochs: int = 4, batches: int = 4,
    learning_rate: float = 1e-3, gamma: float = 1.0, gae: float = 0.95, clip: float = 0.2, entropy: float = 1e-3,
) -> ActorCritic:  # fmt: skip
    """Train a policy for about ``steps`` environment steps, and print the mean return of finished episodes."""
    torch.manual_seed(seed)
    assert envs.single_action_space.shape is not None
    count, size = envs.num_envs, envs.single_action_space.shape[0]
    model = ActorCritic(size)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, eps=1e-5)
    observations, _ = envs.reset(seed=seed)
    x, fresh = vector(observations), torch.zeros(count)
    updates = max(1, steps // (rollout * count))
    returns, finished = np.zeros(count), []
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = learning_rate * (1 - update / updates)
        seen, chosen, log_p, rewards, ends, values = [], [], [], [], [], []
        for _ in range(rollout):
            with torch.no_grad():
                distribution = model.distribution(x)
                logits = distribution.sample()
                log_p.append(distribution.log_prob(logits).sum(1))
                values.append(model.value(x)[:, 0])
            observations, reward, ended, _, _ = envs.step(torch.softmax(logits, 1).numpy())
            seen.append(x)
            chosen.append(logits)
            rewards.append(torch.from_numpy(reward).float())
            ends.append(fresh)
            returns += reward
            finished += returns[ended].tolist()
            returns[ended] = 0.0
            x, fresh = vector(observations), torch.from_numpy(ended).float()
        with torch.no_grad():
            following, advantage, advantages = model.value(x)[:, 0], torch.zeros(count), []
            left = [*ends[1:], fresh]
            for t in reversed(range(rollout)):
                going = 1 - left[t]
                error = rewards[t] + gamma * following * going - values[t]
                advantage = error + gamma * gae * going * advantage
                advantages.insert(0, advantage)
                following = values[t]
        # With NEXT_STEP autoreset, the action of the step that begins an episode has no effect: it is left out.
        counts = torch.cat(ends) == 0
        x_all, a_all, p_all, v_all = (torch.cat(parts)[counts] for parts in (seen, chosen, log_p, values))
        advantage_all = torch.cat(advantages)[counts]
        target = advantage_all + v_all
        for _ in range(epochs):
            for rows in torch.randperm(len(x_all)).chunk(batches):
                distribution = model.distribution(x_all[rows])
                ratio = (distribution.log_prob(a_all[rows]).sum(1) - p_all[rows]).exp()
                scaled = advantage_all[rows]
                scaled = (scaled - scaled.mean()) / (scaled.std() + 1e-8)
                gain = torch.min(ratio * scaled, ratio.clamp(1 - clip, 1 + clip) * scaled).mean()
                value = model.value(x_all[rows])[:, 0]
                near = v_all[rows] + (value - v_all[rows]).clamp(-clip, clip)
                off = torch.max((value - target[rows]) ** 2, (near - target[rows]) ** 2).mean()
                loss = -gain + 0.5 * off - entropy * distribution.entropy().sum(1).mean()
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 0.5)
                optimizer.step()
        if finished and (update + 1) % max(1, updates // 10) == 0:
            print(
                f"step {(update + 1) * rollout * count:>8,}  mean return {np.mean(finished[-2000:]):+.4f}", flush=True
            )
    return model


class Policy:
    """Agent with the weights of a file that this script wrote.

    Args:
        capabilities: |C| names.
        seed: not used: the policy is deterministic.
        file: the weights.
    """

    def __init__(self, capabilities: tuple[str, ...], seed: int = 0, file: str = "runs/ppo_vector.npz") -> None:
        self.model = ActorCritic(len(capabilities))
        with np.load(file) as stored:
            self.model.load_state_dict({name: torch.from_numpy(stored[name]) for name in stored.files})

    def predict(self, observation, state=None, episode_start=None, deterministic=False):  # type: ignore[no-untyped-def]
        """Softmax of the mean logits."""
        with torch.no_grad():
            shares = torch.softmax(self.model.logits(vector(observation)), 1).numpy()
        return (shares if np.ndim(observation["budget"]) == 2 else shares[0]), state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surrogate", default="micro")
    parser.add_argument("--tasks", nargs="*", default=["tutor", "bookkeeper", "auditor", "dispatcher"])
    parser.add_argument("--envs", type=int, default=128)
    parser.add_argument("--steps", type=int, default=400_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/ppo_vector.npz"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    envs = gym.make_vec(
        "ReadEnv/Surrogate-v0", num_envs=args.envs, vectorization_mode="vector_entry_point", surrogate=args.surrogate,
        tasks=args.tasks, infos="none",
    )  # fmt: skip
    model = train(envs, args.steps, seed=args.seed)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(args.out, **{name: value.numpy() for name, value in model.state_dict().items()})
    print(f"policy: {args.out}")


if __name__ == "__main__":
    main()
