"""The numpy ensemble against torch: the same gradient, the same training."""

from __future__ import annotations

import numpy as np
import torch

from read_env.agents.ensemble import EnsembleConfig, Workspace, fit, gradient, initial_parameters


def test_published_values() -> None:
    assert EnsembleConfig() == EnsembleConfig(members=5, hidden=64, learning_rate=1e-3, updates=200)


def test_gradient_is_that_of_autograd() -> None:
    rng = np.random.default_rng(0)
    config = EnsembleConfig(members=3, hidden=7)
    parameters = initial_parameters(5, config, rng)
    x = np.hstack([rng.normal(size=(11, 5)), np.ones((11, 1))]).astype(np.float32)
    y = rng.normal(size=(11, 1)).astype(np.float32)
    counts = rng.integers(0, 3, size=(11, 3)).astype(np.float32)
    ours = [np.empty_like(part) for part in parameters]
    gradient(parameters, x, y, counts * np.float32(2 / 11), ours, Workspace(11, 3, 7))

    w1, w2, b2 = (torch.tensor(part, dtype=torch.float64, requires_grad=True) for part in parameters)
    hidden = torch.relu(torch.tensor(x, dtype=torch.float64) @ w1).reshape(11, 3, 7)
    own = torch.stack([w2[7 * j : 7 * j + 7, j] for j in range(3)])
    error = torch.einsum("njh,jh->nj", hidden, own) + b2 - torch.tensor(y, dtype=torch.float64)
    ((torch.tensor(counts) * error**2).sum() / 11).backward()
    for mine, theirs in zip(ours, (w1, w2, b2), strict=True):
        assert np.allclose(mine, theirs.grad.numpy(), rtol=1e-4, atol=1e-5)


def test_training_is_that_of_separate_torch_networks_on_explicit_resamples() -> None:
    rng = np.random.default_rng(1)
    inputs, targets = rng.normal(size=(20, 9)), rng.normal(size=20) * 0.01 + 0.3
    inputs[:, 4] = 0.7  # constant: ours leaves it out, torch's weights for it must not matter
    config = EnsembleConfig(members=3, hidden=16, updates=120)
    fitted = fit(inputs, targets, config, np.random.default_rng(5))
    asked = rng.normal(size=(30, 9))
    asked[:, 4] = 0.7
    ours = fitted.members(asked)

    twin = np.random.default_rng(5)  # the same draws: resamples first, weights after them
    draws = twin.integers(20, size=(3, 20))
    w1, w2, b2 = initial_parameters(8, config, twin)
    columns = [c for c in range(9) if c != 4]
    scale = lambda z: (z[:, columns] - inputs[:, columns].mean(0)) / inputs[:, columns].std(0)  # noqa: E731
    y = (targets - targets.mean()) / targets.std()
    for member in range(3):
        first, second = torch.nn.Linear(8, 16), torch.nn.Linear(16, 1)
        net = torch.nn.Sequential(first, torch.nn.ReLU(), second).double()
        block = slice(member * 16, member * 16 + 16)
        with torch.no_grad():
            first.weight.copy_(torch.tensor(w1[:-1, block].T))
            first.bias.copy_(torch.tensor(w1[-1, block]))
            second.weight.copy_(torch.tensor(w2[None, block, member]))
            second.bias.copy_(torch.tensor(b2[member : member + 1]))
        adam = torch.optim.Adam(net.parameters(), lr=config.learning_rate)
        x = torch.tensor(scale(inputs)[draws[member]])
        for _ in range(config.updates):
            adam.zero_grad()
            ((net(x)[:, 0] - torch.tensor(y[draws[member]])) ** 2).mean().backward()
            adam.step()
        theirs = net(torch.tensor(scale(asked)))[:, 0].detach().numpy() * targets.std() + targets.mean()
        assert np.allclose(ours[:, member], theirs, atol=2e-5), np.abs(ours[:, member] - theirs).max()


def test_uncertainty_is_the_sample_standard_deviation_of_the_members() -> None:
    rng = np.random.default_rng(2)
    fitted = fit(rng.normal(size=(12, 4)), rng.normal(size=12), EnsembleConfig(updates=10), rng)
    asked = rng.normal(size=(6, 4))
    mean, uncertainty = fitted.predict(asked)
    outputs = fitted.members(asked)
    assert outputs.shape == (6, 5)
    by_hand = np.sqrt(((outputs - mean[:, None]) ** 2).sum(axis=1) / 4)
    assert np.allclose(mean, outputs.mean(axis=1)) and np.allclose(uncertainty, by_hand)


def test_the_same_generator_gives_the_same_ensemble() -> None:
    rng = np.random.default_rng(3)
    inputs, targets = rng.normal(size=(9, 6)), rng.normal(size=9)
    config, generators = EnsembleConfig(updates=20), map(np.random.default_rng, (1, 1, 2))
    first, again, other = (fit(inputs, targets, config, generator).members(inputs) for generator in generators)
    assert (first == again).all() and not np.allclose(first, other)


def test_constant_rewards_and_single_observations_are_no_trouble() -> None:
    rng = np.random.default_rng(4)
    for count in (1, 6):
        fitted = fit(rng.normal(size=(count, 3)), np.full(count, 0.25), EnsembleConfig(), rng)
        mean, uncertainty = fitted.predict(rng.normal(size=(4, 3)))
        assert np.allclose(mean, 0.25, atol=1e-6) and np.allclose(uncertainty, 0, atol=1e-6)


def test_it_learns_what_the_reward_depends_on() -> None:
    rng = np.random.default_rng(6)
    inputs = rng.uniform(size=(40, 10))
    fitted = fit(inputs, 0.02 * inputs[:, 3] + 0.3, EnsembleConfig(updates=400), rng)
    asked = rng.uniform(size=(200, 10))
    assert np.corrcoef(fitted.predict(asked)[0], asked[:, 3])[0, 1] > 0.8
