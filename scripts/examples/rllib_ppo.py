"""PPO of RLlib on a surrogate.

    pip install 'read-env[rllib]'
    python scripts/examples/rllib_ppo.py --iterations 40 --out runs/rllib_ppo

The environment is registered under its Gymnasium id, with flat observations and logits as actions. With ``--env-runners`` above
0, episodes are collected by as many processes of a Ray cluster. A checkpoint of RLlib is written at the end.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import ray
from ray.rllib.algorithms.ppo import PPOConfig

from read_env.envs.rllib import register_for_rllib


def configuration(tasks: list[str], surrogate: str, env_runners: int, seed: int) -> PPOConfig:
    """PPO with the settings of scripts/examples/ppo_vector.py, as far as RLlib has them."""
    return (
        PPOConfig()
        .environment("ReadEnv/Surrogate-v0", env_config={"surrogate": surrogate, "tasks": tasks})
        .env_runners(num_env_runners=env_runners, num_envs_per_env_runner=8)
        .training(
            train_batch_size_per_learner=2000, minibatch_size=500, num_epochs=8, lr=3e-4, gamma=1.0, lambda_=0.95,
            grad_clip=0.5, entropy_coeff=1e-3,
        )
        .debugging(seed=seed)
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surrogate", default="micro")
    parser.add_argument("--tasks", nargs="*", default=["tutor", "bookkeeper", "auditor", "dispatcher"])
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--env-runners", type=int, default=0)
    parser.add_argument("--cluster", default="local", help="auto or the address of a Ray cluster; local: this machine")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/rllib_ppo"))
    args = parser.parse_args()
    ray.init(args.cluster, logging_level="error")
    register_for_rllib()
    algorithm = configuration(args.tasks, args.surrogate, args.env_runners, args.seed).build_algo()
    for iteration in range(1, args.iterations + 1):
        result = algorithm.train()
        returns = result["env_runners"].get("episode_return_mean", np.nan)
        steps = result["num_env_steps_sampled_lifetime"]
        print(f"iteration {iteration:>3}  step {steps:>8,.0f}  mean return {returns:+.4f}", flush=True)
    print(f"checkpoint: {algorithm.save_to_path(str(args.out.resolve()))}")
    algorithm.stop()
    ray.shutdown()


if __name__ == "__main__":
    main()
