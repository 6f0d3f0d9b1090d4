"""Training of the set policies that ship, and their card.

    python scripts/train_policies.py              # assets/policies/any.zip, micro.zip, then docs/policies.md
    python scripts/train_policies.py --only any   # the other one stays as it is
    python scripts/train_policies.py --page-only  # the page, from the policies that are there

``any`` is trained on worlds drawn widely (``read_env.surrogate.wide``), without a number of the micro world; ``micro`` on the
surrogate that ships. The table has new worlds, students and requirements.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import write_page
from train_ppo import table as ppo_table

from read_env.agents.planning import UtilityForm
from read_env.agents.schedules import Horizon, best_schedule, first_schedule
from read_env.agents.set_network import allocate
from read_env.agents.set_policy import load_weights, save_weights
from read_env.agents.set_training import Batch, Policy, played, rule, surrogate_batches, train, wide_batches
from read_env.reporting.markdown import markdown_table, number
from read_env.surrogate.model import Surrogate
from read_env.surrogate.world import World

ASSETS = Path(str(resources.files("read_env") / "assets" / "policies"))
#: Seeds of training and of the table.
TRAINING_SEED, TABLE_SEED = 1, 2
#: Policy -> iterations, episodes of a batch, width.
SETTINGS: Mapping[str, tuple[int, int, int]] = {"any": (3000, 160, 32), "micro": (2000, 192, 32)}
#: Batches of the table, with this many episodes each.
TABLE, EPISODES = 40, 256
#: Batches in which schedules are planned with knowledge of the world, and steps of that search.
KNOWN, PLANNING = 8, 150
RULES: Mapping[str, Policy] = {
    "w = r": rule(1.0, 0.0), "water-filling": rule(1.0, 1.0), "√r": rule(0.5, 0.0), "√(r·(1 − s))": rule(0.5, 0.5),
}  # fmt: skip


def batches(name: str, seed: int, count: int) -> Iterator[Batch]:
    """Batches of a policy's worlds."""
    rng = np.random.default_rng(seed)
    return wide_batches(rng, count) if name == "any" else surrogate_batches(Surrogate.load("micro"), rng, count)


def make(name: str) -> None:
    """Train a policy and write it."""
    iterations, count, hidden = SETTINGS[name]
    begun = time.monotonic()

    def report(iteration: int, gain: float, reference: float) -> None:
        passed = time.monotonic() - begun
        print(
            f"{name}: {iteration} of {iterations} after {passed:,.0f} s: gain {gain:+.4f}, w = r {reference:+.4f}",
            flush=True,
        )

    surrogate = Surrogate.load("micro") if name == "micro" else None
    capabilities = surrogate.capabilities if surrogate else ()
    weights = train(
        batches(name, TRAINING_SEED, count), iterations=iterations, hidden=hidden, names=len(capabilities),
        seed=TRAINING_SEED, report=report,
    )  # fmt: skip
    made_from = {
        "worlds": "surrogate micro" if surrogate else "drawn widely",
        "tokens": surrogate.made_from["tokens"] if surrogate else 0, "iterations": iterations, "episodes": iterations * count,
        "seed": TRAINING_SEED, "seconds": round(time.monotonic() - begun), "torch": torch.__version__.partition("+")[0],
    }  # fmt: skip
    ASSETS.mkdir(exist_ok=True)
    save_weights(ASSETS / f"{name}.zip", weights, capabilities, made_from)


def as_policy(weights: Mapping[str, Any]) -> Policy:
    """Policy of trained weights."""
    tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in weights.items()}
    return lambda row, whole, memory: allocate(tensors, row, whole, memory)


def table(name: str) -> str:
    """Mean gains of a policy and of the rules on new worlds."""
    weights, *_ = load_weights(name)
    width = len(weights["new_bias"])
    policies = {f"pretrained:{name}": (as_policy(weights), width), **{rule: (p, 1) for rule, p in RULES.items()}}
    if name == "micro":
        other, *_ = load_weights("any")
        policies = {"pretrained:any": (as_policy(other), len(other["new_bias"])), **policies}
    gains: dict[str, list[np.ndarray]] = {}
    with torch.no_grad():
        for index, batch in enumerate(itertools.islice(batches(name, TABLE_SEED, EPISODES), TABLE)):
            for label, (policy, memory) in policies.items():
                noise = torch.Generator().manual_seed(index)
                gains.setdefault(label, []).append(played(policy, batch, noise, memory).numpy())
    means = {label: np.array([values.mean() for values in found]) for label, found in gains.items()}
    rows = []
    for label, found in means.items():
        ahead = found - means["w = r"]
        half = 1.96 * ahead.std(ddof=1) / np.sqrt(len(ahead))
        relative = found.mean() / means["w = r"].mean()
        rows.append(
            [label, number(found.mean()), number(relative, 2), f"{number(ahead.mean(), 4, True)} ± {number(half, 4)}"]
        )
    return markdown_table(["policy", "gain of utility", "of w = r", "ahead of w = r"], rows)


def known(name: str) -> str:
    """Mean gains with the best schedule for each episode, planned with knowledge of its world, and of policies beside it."""
    weights, *_ = load_weights(name)
    compared: dict[str, Policy] = {f"pretrained:{name}": as_policy(weights), "w = r": RULES["w = r"]}
    gains: dict[str, list[np.ndarray]] = {}
    for index, batch in enumerate(itertools.islice(batches(name, TABLE_SEED + 1, EPISODES), KNOWN)):
        with torch.no_grad():
            for label, policy in compared.items():
                noise = torch.Generator().manual_seed(index)
                gains.setdefault(label, []).append(played(policy, batch, noise, len(weights["new_bias"])).numpy())
        shares = planned(batch)
        steps = iter(range(len(batch.tokens)))
        noise = torch.Generator().manual_seed(index)
        with torch.no_grad():
            found = played(lambda row, whole, memory: (shares[:, next(steps)], memory), batch, noise, 1)  # noqa: B023
        gains.setdefault("planned with knowledge of the world", []).append(found.numpy())
    means = {label: float(np.mean(np.concatenate(values))) for label, values in gains.items()}
    rows = [[label, number(mean), number(mean / means["w = r"], 2)] for label, mean in means.items()]
    return markdown_table(["policy", "gain of utility", "of w = r"], rows)


def planned(batch: Batch) -> torch.Tensor:
    """(n, steps, |C|) shares of the best schedules, from the true scores at the start and without noise."""
    shares = torch.zeros(len(batch.starts), len(batch.tokens), batch.starts.shape[1])
    for product in (False, True):
        rows = np.flatnonzero(batch.product == product)
        worlds = World(**{key: value[rows][:, None] for key, value in batch.worlds.to_dict().items()})
        form: UtilityForm = "product" if product else "weighted_mean"
        horizon = Horizon(batch.tokens, batch.rates, batch.requirements[rows], form)
        logits = first_schedule(batch.requirements[rows], len(batch.tokens))
        logits, _ = best_schedule(worlds, batch.starts[rows][:, None], horizon, logits, iterations=PLANNING)
        shares[rows] = torch.softmax(torch.from_numpy(logits), -1)
    return shares


def page() -> str:
    """Text of docs/policies.md."""
    facts = {
        name: f"{iterations:,} optimizer steps of {count} episodes" for name, (iterations, count, _) in SETTINGS.items()
    }
    return (
        "# Pretrained policies\n\nMade by `python scripts/train_policies.py`. Both are set policies "
        "(`read_env.agents.set_policy`), trained by gradients through a surrogate. "
        f"`pretrained:any`: {facts['any']} in worlds drawn widely. `pretrained:micro`: {facts['micro']} in the worlds of the "
        "shipped surrogate, perturbed, from students between those of the record.\n\n"
        f"Mean gain of utility in {TABLE * EPISODES:,} new episodes; tasks have one to five needs and a weighted mean, or in "
        "three of ten a product. Intervals: 95 % over batches.\n\n"
        f"## `pretrained:any`, in worlds drawn widely\n\n{table('any')}\n\n"
        f"## In the worlds of the shipped surrogate\n\n{table('micro')}\n\n"
        "## What there is to gain\n\n*planned with knowledge of the world*: the best schedule for each episode, searched by gradients "
        "with its true scores and parameters, which no agent sees. A policy that sees scores alone can come near it where a surrogate "
        "tells it which capability teaches which (the second table), and hardly where every world is new (the first): there it "
        f"would have to find this out with the tokens of the run. {KNOWN * EPISODES:,} further episodes each.\n\n"
        f"{known('any')}\n\n{known('micro')}\n\n"
        f"## `pretrained:ppo`\n\nPPO of Stable-Baselines3, trained by `python scripts/train_ppo.py` on the shipped surrogate. Mean return, "
        "with spillover, on other drawn tasks; intervals: 95 % t over the episodes.\n\n"
        f"{ppo_table()}\n\n"
        "What they gain with real students: [development.md](development.md).\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=tuple(SETTINGS), help="train this policy alone")
    parser.add_argument("--page-only", action="store_true", help="train none")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for name in () if args.page_only else [args.only] if args.only else SETTINGS:
        make(name)
    if all((ASSETS / f"{name}.zip").exists() for name in SETTINGS):
        write_page("policies", page())


if __name__ == "__main__":
    main()
