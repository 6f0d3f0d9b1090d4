"""Dynamics of one world for single vectors, in the operations that numpy begins fastest.

An operation on ten numbers takes numpy less time than its preparation. Preparing one is fastest for arrays of one shape, and
for ``dot``; Python's numbers, ``@`` and broadcasting take two to four times as long. So constants are arrays here.
"""

from __future__ import annotations

import numpy as np

from read_env.surrogate.world import World

#: 0-d arrays, which numpy takes as they are; it would convert a Python number at every call.
ZERO, ONE = np.array(0.0), np.array(1.0)


class Dynamics:
    """Dynamics of one world: :func:`read_env.surrogate.world.expected` with fewer operations.

    Args:
        world: the world.
        rates: (steps,) learning-rate factors.

    Attributes:
        drift: (steps, |C|) s.d. of the random change of every step.
        noise: (|C|,) s.d. of a measured score.
        most_loss: (|C|,) training loss at a score of 0.
        loss_slope: (|C|,) loss that each missing point adds.
    """

    def __init__(self, world: World, rates: np.ndarray) -> None:
        values = {name: np.asarray(value, np.float64) for name, value in world.to_dict().items()}
        self._size = len(values["speed"])
        self._half, self._decay = values["half"], -1 / values["rehearsal"]
        # Room above and below a score, in one array: bounds + profile.dot(signs).
        self._bounds = np.concatenate([values["ceiling"], -values["bottom"]])
        self._signs = np.hstack([-np.eye(self._size), np.eye(self._size)])
        rates = rates[:, None]
        # One array for each step; negative, as gain and loss are 1 − exp(−x).
        learning, wearing = -(rates ** values["learning"]), -(rates ** values["wearing"])
        worn = values["interference"] * wearing[:, None]
        self._matrices = list(np.concatenate([values["transfer"] * learning[:, None], worn], axis=2))
        fastest = learning * values["speed"] * values["half"]
        self._slow = list(fastest * (1 - values["dependence"]))
        self._helpers = list(fastest[:, :, None] * (values["helpers"] * values["dependence"]).T)
        self.drift, self.noise, self.loss_slope = rates * values["drift"], values["noise"], values["loss_slope"]
        self.most_loss = values["loss"] + values["loss_slope"]

    def expected(self, profile: np.ndarray, tokens: np.ndarray, step: int) -> np.ndarray:
        """Profile after a step of this number.

        Args:
            profile: (|C|,) scores before it.
            tokens: (|C|,) tokens in thousands.
            step: number of the step, from 0.
        """
        forces = tokens.dot(self._matrices[step])
        drive, wear = forces[: self._size], forces[self._size :]
        drive += (self._slow[step] + self._helpers[step].dot(profile)) * tokens / (self._half + tokens)
        wear *= np.exp(tokens * self._decay)
        np.expm1(forces, forces)
        forces *= np.fmax(self._bounds + profile.dot(self._signs), ZERO)
        return profile - drive + wear  # both are negative


def within(scores: np.ndarray) -> np.ndarray:
    """Scores cut to [0, 1], in place."""
    np.fmax(scores, ZERO, scores)
    return np.fmin(scores, ONE, scores)
