"""Knights and knaves with exactly one solution, found by trying every assignment."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

#: True for each person who is a knight.
Assignment = tuple[bool, ...]


@dataclass(frozen=True)
class Statement:
    """Statement of one person about others.

    Attributes:
        kind: ``"knight"`` or ``"knave"`` (of the first one named), ``"same"`` or ``"different"`` (of both).
        about: indices of the people named.

    Example:
        >>> Statement("same", (0, 1)).text(["Ada", "Ben"])
        'Ada and Ben are of the same kind'
    """

    kind: str
    about: tuple[int, ...]

    def holds(self, knights: Assignment) -> bool:
        """True if the statement holds under an assignment."""
        first, last = knights[self.about[0]], knights[self.about[-1]]
        return {"knight": first, "knave": not first, "same": first == last, "different": first != last}[self.kind]

    def text(self, names: list[str]) -> str:
        """Statement in words."""
        first, last = names[self.about[0]], names[self.about[-1]]
        return {
            "knight": f"{first} is a knight",
            "knave": f"{first} is a knave",
            "same": f"{first} and {last} are of the same kind",
            "different": f"{first} and {last} are of different kinds",
        }[self.kind]


def solutions(statements: tuple[Statement, ...]) -> list[Assignment]:
    """Every assignment under which exactly the knights' statements are true; person i makes statement i.

    Example:
        >>> solutions((Statement("knave", (1,)), Statement("same", (0, 1))))
        [(True, False)]
    """
    return [
        knights
        for knights in itertools.product((True, False), repeat=len(statements))
        if all(statement.holds(knights) == knights[i] for i, statement in enumerate(statements))
    ]


def knights_and_knaves(rng: random.Random, people: int) -> tuple[tuple[Statement, ...], Assignment]:
    """Statements of ``people`` people, at least one of them a knight, and the only assignment that fits them.

    Example:
        >>> statements, assignment = knights_and_knaves(random.Random(0), people=2)
        >>> solutions(statements) == [assignment]
        True
    """
    while True:
        statements = []
        for i in range(people):
            others = [j for j in range(people) if j != i]
            kind = rng.choice(("knight", "knave", "same", "different"))
            # A speaker may compare a person with the speaker: with two people there is no unique solution otherwise.
            about = rng.sample(range(people), 2) if kind in ("same", "different") else [rng.choice(others)]
            statements.append(Statement(kind, tuple(about)))
        found = solutions(tuple(statements))
        if len(found) == 1 and any(found[0]):
            return tuple(statements), found[0]
