"""tool_use: choose one of the offered functions and call it with exactly the arguments of the request."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from read_env.capabilities.base import Capability, Filling, Prompt, Template
from read_env.capabilities.instruct import functions
from read_env.capabilities.instruct.functions import Function
from read_env.capabilities.instruct.words import filling

_DOMAINS = {
    "travel": functions.TRAVEL, "office": functions.OFFICE, "home": functions.HOME, "shop": functions.SHOP,
}  # fmt: skip
_EVERYTHING = tuple(function for domain in _DOMAINS.values() for function in domain)

# The search for a JSON object is quadratic on text that only looks like one, hence the limit.
_LONGEST_CALL = 4000


def _call(domain: tuple[Function, ...]) -> Callable[[random.Random], Filling]:
    def fill(rng: random.Random) -> Filling:
        target = rng.choice(domain)
        offered = rng.randint(2, 4)
        # Functions of the same domain are harder to tell apart.
        pool = domain if rng.random() < 0.6 else _EVERYTHING
        shown = [target, *rng.sample([function for function in pool if function is not target], offered - 1)]
        rng.shuffle(shown)
        request, arguments = target.request(rng)
        call = {"name": target.name, "arguments": arguments}
        slots = {
            "schemas": json.dumps([function.schema() for function in shown], indent=rng.choice((None, 1))),
            "request": request, "call": json.dumps(call),
        }  # fmt: skip
        return filling(slots, {"call": call}, functions=offered, arguments=len(arguments))

    return fill


def last_object(completion: str) -> dict[str, Any] | None:
    """The last outermost JSON object in a completion, fenced or not.

    Example:
        >>> last_object('I call {"name": "pay", "arguments": {"sum": 3}}.')
        {'name': 'pay', 'arguments': {'sum': 3}}
    """
    decoder, found = json.JSONDecoder(), None
    text = completion[-_LONGEST_CALL:]
    at = text.find("{")
    while at >= 0:
        try:
            found, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        at = text.find("{", end)
    return found


def same(given: Any, wanted: Any) -> bool:
    """True if two JSON values are equal up to key order, 3 and 3.0, and case and outer space of strings.

    Example:
        >>> same({"sum": 3, "to": "Ada"}, {"to": " ada", "sum": 3.0})
        True
    """
    if isinstance(given, bool) or isinstance(wanted, bool):
        return given is wanted
    if isinstance(given, str) and isinstance(wanted, str):
        return given.strip().casefold() == wanted.strip().casefold()
    if isinstance(given, dict) and isinstance(wanted, dict):
        return given.keys() == wanted.keys() and all(same(given[key], wanted[key]) for key in wanted)
    if isinstance(given, list) and isinstance(wanted, list):
        return len(given) == len(wanted) and all(map(same, given, wanted))
    return bool(given == wanted)


def _verify(prompt: Prompt, completion: str) -> bool:
    return same(last_object(completion), prompt.check["call"])


_ENDING = 'Reply with one JSON object of the form {{"name": ..., "arguments": {{...}}}} and nothing else.'
_PATTERNS = (
    "You can call these functions:\n{schemas}\n\nRequest: {request}\n\n"
    + _ENDING
    + " Leave out optional arguments that the request does not mention.",
    'The user says: "{request}"\n\nAvailable functions:\n{schemas}\n\nWhich call answers this? '
    + _ENDING
    + " Pass only what the user mentions.",
    "Functions:\n{schemas}\n\nTurn the following into one function call, without arguments that nobody asked for.\n"
    "{request}\n\n" + _ENDING,
)

TOOL_USE = Capability(
    "tool_use",
    tuple(Template(name, _PATTERNS, "{call}", _call(domain)) for name, domain in _DOMAINS.items()),
    verifier=_verify,
)
