"""Starting students with a past: the student of the configuration, distilled on stated shares before the episode.

A past is written as the name of a recipe of :data:`STARTS`, as ``random:K`` (shares drawn from the seed K), as shares such as
``"math=2 code=1@30000"``, or as ``even``: the student as it was loaded. ``@TOKENS`` after a name or a draw sets its tokens.
Recipes and draws keep a part of the tokens for other capabilities, so that the student doesn't forget them: a recipe for all but
the drills of the micro suite, a draw for those that it draws.

A past takes its prompts from the part of the training stream that :func:`read_env.capabilities.stream.in_past` reserves, which
no run of that student uses. Its tokens don't count against B. The weights are kept on disk beside the teacher's answers, by
the digest of everything that they depend on.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from read_env.errors import ReadEnvError, unknown

#: The student as it was loaded.
EVEN = "even"
#: Prefix of pasts that are drawn.
RANDOM = "random:"
#: Completion tokens of a past that names none.
TOKENS = 24_000
#: Part of the tokens of a recipe or a draw that other capabilities share.
_FLOOR = 0.3
#: Capabilities of the micro suite that a student with a past knows only if its recipe names them.
_DRILLS = ("sums", "prices")
#: Probability that a draw keeps up a capability.
_KEPT = 0.7

#: Recipes for the micro suite to train policies on: name -> shares.
TRAINING_STARTS: Mapping[str, str] = {
    "clerk": "math=1 tool_use=1",
    "librarian": "general_knowledge=1 tool_use=1",
    "linguist": "multilingual=2 steerability=1",
    "shopkeeper": "sums=1 prices=1",
    "archivist": "long_context=1",
    "logician": "reasoning=2 math=1",
}
#: Recipes to judge policies on; no shares occur in both lists.
JUDGING_STARTS: Mapping[str, str] = {
    "cashier": "prices=1 multilingual=1",
    "editor": "steerability=1",
    "scholar": "general_knowledge=2 reasoning=1",
    "engineer": "code=1 tool_use=1",
    "interpreter": "multilingual=1 long_context=1",
    "accountant": "sums=1 math=2",
}
STARTS: Mapping[str, str] = {**TRAINING_STARTS, **JUDGING_STARTS}


@dataclass(frozen=True)
class Past:
    """Distillation before the episode.

    Attributes:
        shares: capability -> share of the tokens; they sum to 1.
        tokens: completion tokens.
        seed: seed of its prompts.
    """

    shares: Mapping[str, float]
    tokens: int
    seed: int = 0

    def digest(self, identity: Sequence[object]) -> str:
        """Name of its weights on disk.

        Args:
            identity: JSON values that the weights depend on beside the past: models, suite, settings.
        """
        text = json.dumps([dict(self.shares), self.tokens, self.seed, *identity], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def parse_past(text: str, capabilities: Sequence[str]) -> Past | None:
    """Past of a starting student; None for ``even``.

    Args:
        text: see the module.
        capabilities: names of the suite.

    Raises:
        ReadEnvError: an unknown recipe or capability, or shares or tokens that are no positive numbers.

    >>> parse_past("math=3 code=1@20000", ["math", "code", "tool_use"])
    Past(shares={'math': 0.75, 'code': 0.25}, tokens=20000, seed=0)
    """
    name, _, tokens = text.strip().partition("@")
    name = name.strip()
    if name == EVEN and not tokens:
        return None
    if not (tokens or str(TOKENS)).strip().isdecimal() or int(tokens or TOKENS) <= 0:
        raise ReadEnvError(
            f"models.start: {text!r} has {tokens!r} tokens; right would be a whole number, such as @30000"
        )
    seed, kept = 0, [one for one in capabilities if one not in _DRILLS]
    if name.startswith(RANDOM):
        number = name.removeprefix(RANDOM)
        if not number.isdecimal():
            raise ReadEnvError(
                f"models.start: {text!r}; right would be {RANDOM}K with a whole number K, such as {RANDOM}7"
            )
        seed = int(number)
        rng = random.Random(f"past/{seed}")
        chosen = rng.sample(list(capabilities), rng.randint(1, min(3, len(capabilities))))
        shares = {one: rng.gammavariate(1.0, 1.0) for one in chosen}
        kept = [one for one in capabilities if one in chosen or rng.random() < _KEPT]
    elif "=" in name:
        shares = _shares(text, name)
    else:
        if name not in STARTS:
            raise unknown("starting student", name, [EVEN, *STARTS, f"{RANDOM}K"])
        shares = _shares(text, STARTS[name])
    if strange := [one for one in shares if one not in capabilities]:
        raise ReadEnvError(
            f"models.start: {text!r} needs {', '.join(strange)}, which the suite lacks; it has {', '.join(capabilities)}"
        )
    total, floor = sum(shares.values()), 0.0 if "=" in name or not kept else _FLOOR
    even = {one: floor / len(kept) for one in kept if floor}
    mixed = {one: (1 - floor) * share / total + even.get(one, 0.0) for one, share in shares.items()}
    return Past({**even, **mixed}, int(tokens or TOKENS), seed)


def _shares(text: str, parts: str) -> dict[str, float]:
    shares = {}
    for part in parts.split():
        capability, _, value = part.partition("=")
        try:
            shares[capability] = float(value)
        except ValueError:
            shares[capability] = -1.0
        if not 0 < shares[capability] < float("inf"):
            raise ReadEnvError(f"models.start: {text!r} has {part!r}; right would be a positive number, such as math=2")
    return shares
