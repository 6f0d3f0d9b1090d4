"""reasoning: puzzles with one solution, told in a few sentences, facts out of order."""

from __future__ import annotations

import datetime
import random

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.instruct.answers import verify
from read_env.capabilities.instruct.puzzles import knights_and_knaves
from read_env.capabilities.instruct.words import COLOURS, NAMES, an, ending, filling, listing, ordinal

_COMPARISONS = (
    ("taller", "tallest"), ("older", "oldest"), ("faster", "fastest"), ("richer", "richest"), ("stronger", "strongest"),
    ("younger", "youngest"), ("louder", "loudest"), ("heavier", "heaviest"),
)  # fmt: skip
_KINDS = "blick dax fep glorp kiv lorp mib nuk plim quill rond snib tove vim wug yask zand drell".split()
_THINGS = "ball book cup hat key lamp scarf umbrella".split()
_TURNS = {"left": -1, "right": 1}
_STEPS = ((0, 1), (1, 0), (0, -1), (-1, 0))
_FACING = ("north", "east", "south", "west")


def _knights(rng: random.Random) -> Filling:
    people = rng.randint(2, 5)
    names = rng.sample(NAMES, people)
    statements, knights = knights_and_knaves(rng, people)
    said = [f'{name} says: "{s.text(names)}."' for name, s in zip(names, statements, strict=True)]
    work = [
        f"If {name} is a {'knight' if knight else 'knave'}, it is {'true' if knight else 'false'} that {s.text(names)}."
        for name, s, knight in zip(names, statements, knights, strict=True)
    ]
    who = [name for name, knight in zip(names, knights, strict=True) if knight]
    slots = {
        "names": listing(names), "said": " ".join(said), "work": "\n".join(work), "answer": ", ".join(who),
        "ending": ending(rng, "the names of all the knights"),
    }  # fmt: skip
    return filling(slots, {"set": who}, facts=people, steps=2 ** (people - 2))


def _order(rng: random.Random) -> Filling:
    people = rng.sample(NAMES, rng.randint(3, 7))
    more, most = rng.choice(_COMPARISONS)
    facts = [f"{a} is {more} than {b}." for a, b in zip(people, people[1:], strict=False)]
    rng.shuffle(facts)
    at = rng.randrange(len(people))
    slots = {
        "facts": " ".join(facts), "rank": f"the {most}" if at == 0 else f"the {ordinal(at + 1)} {most}",
        "walk": " > ".join(people), "answer": people[at], "ending": ending(rng, "the name"),
    }  # fmt: skip
    return filling(slots, {"answers": [people[at]]}, facts=len(facts), steps=at + 1)


def _membership(rng: random.Random) -> Filling:
    hops = rng.randint(1, 4)
    kinds = rng.sample(_KINDS, hops + 4)
    chain, (above, apart, other) = kinds[: hops + 1], kinds[hops + 1 :]
    start, goal = chain[0], chain[-1]
    rules = [f"Every {a} is a {b}." for a, b in zip(chain, chain[1:], strict=False)]
    # Distractors: the converse of a rule, and a kind that excludes the goal.
    rules += [f"Every {goal} is a {above}.", f"No {apart} is a {goal}.", f"Every {other} is a {apart}."]
    rng.shuffle(rules)
    names = rng.sample(NAMES, 3)
    people = [f"{name} is a {kind}." for name, kind in zip(names, (start, above, other), strict=True)]
    rng.shuffle(people)
    walk = [f"{names[0]} is a {start}."]
    walk += [f"Every {a} is a {b}, so {names[0]} is a {b}." for a, b in zip(chain, chain[1:], strict=False)]
    slots = {
        "rules": " ".join(rules), "people": " ".join(people), "names": listing(sorted(names), "or"), "goal": goal,
        "walk": "\n".join(walk), "answer": names[0], "ending": ending(rng, "the name"),
    }  # fmt: skip
    return filling(slots, {"answers": [names[0]]}, facts=len(rules), steps=hops)


def _walk(rng: random.Random) -> Filling:
    x, y, facing, orders, work = 0, 0, 0, [], []
    moves = rng.randint(2, 7)
    for i in range(moves):
        if i:
            turn = rng.choice(list(_TURNS))
            facing = (facing + _TURNS[turn]) % 4
            orders.append(f"turns {turn}")
        length = rng.randint(1, 9)
        x, y = x + length * _STEPS[facing][0], y + length * _STEPS[facing][1]
        orders.append(f"goes {length} ahead")
        work.append(f"{length} {_FACING[facing]}: ({x}, {y})")
    slots = {
        "name": rng.choice(NAMES), "orders": ", ".join(orders), "work": "\n".join(work), "answer": f"({x}, {y})",
        "ending": ending(rng, "the position (x, y)"),
    }  # fmt: skip
    return filling(slots, {"answers": [f"({x}, {y})"]}, facts=moves, steps=moves)


def _date(rng: random.Random) -> Filling:
    day = datetime.date(rng.randint(1990, 2030), 1, 1) + datetime.timedelta(rng.randrange(365))
    months = rng.randint(0, 4)
    left = days = rng.randint(30 * months + 5, 30 * months + 30)
    reached, work = day, []
    while True:
        first = (reached.replace(day=1) + datetime.timedelta(32)).replace(day=1)
        step = (first - reached).days
        if left < step:
            break
        left, reached = left - step, first
        # Every digit of a date is a token of its own in many vocabularies: few words beside them.
        work.append(f"+{step}: {first.isoformat()}, {left} left")
    end = day + datetime.timedelta(days)
    if left:
        work.append(f"+{left}: {end.isoformat()}")
    slots = {
        "day": day.isoformat(), "days": days, "work": "\n".join(work), "answer": end.isoformat(),
        "ending": ending(rng, "the date as YYYY-MM-DD"),
    }  # fmt: skip
    return filling(slots, {"answers": [end.isoformat()]}, facts=1 + len(work), steps=2 * len(work))


def _swaps(rng: random.Random) -> Filling:
    names, thing = rng.sample(NAMES, rng.randint(3, 5)), rng.choice(_THINGS)
    holds = dict(zip(names, rng.sample(COLOURS, len(names)), strict=True))
    start = listing([f"{name} {an(colour)} {thing}" for name, colour in holds.items()])
    orders, work = [], []
    count = rng.randint(2, 7)
    for _ in range(count):
        a, b = rng.sample(names, 2)
        holds[a], holds[b] = holds[b], holds[a]
        orders.append(f"{a} and {b} swap.")
        work.append(f"{a} has {holds[a]}, {b} has {holds[b]}.")
    asked = rng.choice(names)
    slots = {
        "start": start, "orders": " ".join(orders), "asked": asked, "work": "\n".join(work), "answer": holds[asked],
        "thing": thing, "ending": ending(rng, "the colour"),
    }  # fmt: skip
    accepted = [holds[asked], f"{an(holds[asked])} {thing}", f"the {holds[asked]} {thing}", f"{holds[asked]} {thing}"]
    return filling(slots, {"answers": accepted}, facts=len(names), steps=count)


REASONING = Capability(
    "reasoning",
    (
        Template(
            "knights",
            (
                "On an island knights always tell the truth and knaves always lie. You meet {names}. {said} "
                "Who are the knights? {ending}",
                "Knights tell only truths, knaves only lies; {names} are each one or the other. {said} "
                "Name every knight. {ending}",
            ),
            "{work}\nNo other assignment fits.\nAnswer: {answer}",
            _knights,
        ),
        Template(
            "order",
            ("{facts} Who is {rank}? {ending}", "Find out who is {rank}. {facts} {ending}"),
            "{walk}\nAnswer: {answer}",
            _order,
        ),
        Template(
            "membership",
            (
                "{rules} {people} Which of {names} is certainly a {goal}? {ending}",
                "{people} {rules} Who must be a {goal}: {names}? {ending}",
            ),
            "{walk}\nAnswer: {answer}",
            _membership,
        ),
        Template(
            "walk",
            (
                "{name} stands at (0, 0) and faces north, the direction of y; east is the direction of x. {name} {orders}. "
                "Where is {name} now? {ending}",
                "Starting at (0, 0) and facing north (y grows to the north, x to the east), {name} {orders}. "
                "What is the last position? {ending}",
            ),
            "{work}\nAnswer: {answer}",
            _walk,
        ),
        Template(
            "date",
            (
                "Which date is {days} days after {day} (YYYY-MM-DD)? {ending}",
                "Today is {day} (YYYY-MM-DD). What is the date in {days} days? {ending}",
            ),
            "{work}\nAnswer: {answer}",
            _date,
        ),
        Template(
            "swaps",
            (
                "At first they hold: {start}. {orders} Which colour is the {thing} that {asked} has at the end? {ending}",
                "Several people exchange things. To begin with: {start}. {orders} What is the colour of the {thing} of "
                "{asked} now? {ending}",
            ),
            "{work}\nAnswer: {answer}",
            _swaps,
        ),
    ),
    answer_marker="Answer:",
    verifier=verify,
)
