"""Training of the PPO that ships, ``pretrained:ppo``.

    python scripts/train_ppo.py     # assets/policies/ppo.zip; its table is in docs/policies.md

It is a training of ``read-env train --on micro``, on tasks with drawn requirements; interrupted, the same command goes on. PPO sees
one vector of fixed size, so unlike the set policies it knows the capabilities by their places alone, and has no memory.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from common import parser_of
from rich.console import Console

from read_env.agents import make_agent, storage
from read_env.agents.pretrained_ppo import weights_path
from read_env.agents.set_training import PRODUCTS
from read_env.config import load_preset
from read_env.envs.surrogate_vector import SurrogateVectorEnv
from read_env.reporting.markdown import markdown_table, number
from read_env.reporting.statistics import mean_interval
from read_env.running.agents import AgentSpec
from read_env.running.requests import TrainingRequest
from read_env.running.surrogate_training import mean_returns
from read_env.running.training import train
from read_env.surrogate.model import Surrogate
from read_env.surrogate.wide import draw_requirements

STEPS, ENVS = 6_000_000, 128
OPTIONS = {"hidden": 128, "n_steps": 20}
#: Drawn tasks of the training and of the table, and their seeds.
TASKS, TABLE_TASKS = 400, 100
TRAINING_SEED, TABLE_SEED = 1, 2
#: Episodes of a row of the table.
EPISODES = 4096


def drawn_tasks(folder: Path, count: int, seed: int) -> list[str]:
    """Files of task cards with drawn requirements.

    Args:
        folder: folder of the files.
        count: number of tasks.
        seed: seed of the requirements.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng, names = np.random.default_rng(seed), Surrogate.load("micro").capabilities
    requirements = draw_requirements(rng, count, len(names))
    products, paths = rng.random(count) < PRODUCTS, []
    for index, (requirement, product) in enumerate(zip(requirements, products, strict=True)):
        needs = "\n".join(f"{name} = {share:.4f}" for name, share in zip(names, requirement, strict=True) if share > 0)
        path = folder / f"drawn-{index}.toml"
        path.write_text(
            f'name = "drawn-{index}"\ndescription = "Drawn requirement."\ninput_format = "any"\noutput_format = "any"\n'
            f'metric = "none"\nutility_form = "{"product" if product else "weighted_mean"}"\n\n[requirement]\n{needs}\n\n'
            '[[exemplars]]\nprompt = "none"\ncompletion = "none"\n'
        )
        paths.append(str(path))
    return paths


def table() -> str:
    """Mean returns of PPO, the other policies and the rules, in the same episodes."""
    names = Surrogate.load("micro").capabilities
    labels = ("pretrained:micro", "pretrained:ppo", "pretrained:any", "task-static", "water-filling")
    with tempfile.TemporaryDirectory() as folder:
        envs = SurrogateVectorEnv(EPISODES, "micro", tasks=drawn_tasks(Path(folder), TABLE_TASKS, TABLE_SEED))
    found = {label: mean_returns(make_agent(label, capabilities=names), envs, TABLE_SEED) for label in labels}
    rows = []
    for label, values in found.items():
        ahead = mean_interval(values - found["task-static"])
        rows.append([
            label, number(values.mean()), number(values.mean() / found["task-static"].mean(), 2),
            f"{number(ahead.mean, 4, True)} ± {number(ahead.half_width, 4)}",
        ])  # fmt: skip
    return markdown_table(["agent", "return", "of w = r", "ahead of w = r"], rows)


def main() -> None:
    args = parser_of(__doc__, "runs/train-ppo", processes=False).parse_args()
    torch.set_num_threads(1)
    tasks = drawn_tasks(args.out / "tasks", TASKS, TRAINING_SEED)
    config = AgentSpec.parse("sb3:PPO", OPTIONS).configure(load_preset("micro"))
    training = args.out / "training"
    train(TrainingRequest(config, tasks=tuple(tasks), steps=STEPS, out=training, envs=ENVS, on="micro"), Console())
    path = training / "agent.zip"
    tokens = int(Surrogate.load("micro").made_from["tokens"])
    made_from = {
        "worlds": "surrogate micro", "tokens": tokens, "steps": STEPS, "envs": ENVS, "tasks": TASKS, "seed": config.seed,
        "torch": torch.__version__.partition("+")[0],
    }  # fmt: skip
    storage.write(weights_path(), {**storage.read(path), "made_from": made_from})
    print(
        f"{weights_path()}: {weights_path().stat().st_size / 2**20:.2f} MiB; its table: python scripts/train_policies.py --page-only"
    )


if __name__ == "__main__":
    main()
