"""long_context: find, count, add up and order entries of 10, 20, 40, 80 or 120 records."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.instruct.answers import verify
from read_env.capabilities.instruct.words import CITIES, ITEMS, NAMES, ending, filling, ordinal

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ"
_STATES = ("open", "paid", "shipped", "returned", "cancelled", "delayed")
_LENGTHS = (10, 20, 40, 80, 120)


def _length(rng: random.Random) -> int:
    return rng.choice(_LENGTHS)


def _code(rng: random.Random) -> str:
    return f"{''.join(rng.choices(_LETTERS, k=2))}-{rng.randint(100, 999)}"


def _records(slots: Mapping[str, object], lines: list[str], check: Mapping[str, object], *, found: int) -> Filling:
    slots = {**slots, "records": "\n".join(lines)}
    return filling(slots, check, records=len(lines), found=found)


def _look_up(rng: random.Random) -> Filling:
    n = _length(rng)
    hops = rng.randint(1, 2)
    check: Mapping[str, object]
    codes = list({_code(rng): None for _ in range(2 * n)})[:n]
    lockers = rng.sample(range(100, 1000), n)
    at = rng.randrange(n)
    lines = [
        f"Parcel {code} for {rng.choice(NAMES)} from {rng.choice(CITIES)} is in locker {locker}."
        for code, locker in zip(codes, lockers, strict=True)
    ]
    if hops == 1:
        question, work = f"In which locker is parcel {codes[at]}?", lines[at]
        answer, check = str(lockers[at]), {"number": lockers[at]}
    else:
        question, work = f"Which parcel is in locker {lockers[at]} (its code)?", lines[at]
        answer, check = codes[at], {"answers": [codes[at], f"parcel {codes[at]}"]}
    slots = {"question": question, "work": work, "answer": answer, "ending": ending(rng, "what is asked for")}
    return _records(slots, lines, check, found=hops)


def _orders(rng: random.Random, n: int, wanted: int, state: str) -> list[tuple[str, str, int]]:
    """``n`` orders (item, state, amount), ``wanted`` of them in ``state``."""
    states = [state] * wanted + rng.choices([s for s in _STATES if s != state], k=n - wanted)
    rng.shuffle(states)
    return [(rng.choice(ITEMS), s, rng.randint(2, 99)) for s in states]


def _order_lines(orders: list[tuple[str, str, int]]) -> list[str]:
    return [f"Order {i}: {amount} {item}, {state}" for i, (item, state, amount) in enumerate(orders, 1)]


def _count(rng: random.Random) -> Filling:
    n, state = _length(rng), rng.choice(_STATES)
    # Few records leave few possible counts, so that no one count is right too often.
    wanted = rng.randint(1, min(n - 1, 14))
    orders = _orders(rng, n, wanted, state)
    hits = ", ".join(str(i) for i, (_, s, _) in enumerate(orders, 1) if s == state)
    slots = {
        "question": f'How many orders have the state "{state}"?', "work": f"Orders with that state: {hits}.",
        "answer": wanted, "ending": ending(rng),
    }  # fmt: skip
    return _records(slots, _order_lines(orders), {"number": wanted}, found=wanted)


def _total(rng: random.Random) -> Filling:
    n, state = _length(rng), rng.choice(_STATES)
    wanted = rng.randint(2, 7)
    orders = _orders(rng, n, wanted, state)
    amounts = [amount for _, s, amount in orders if s == state]
    slots = {
        "question": f'How many things do the orders with the state "{state}" hold together?',
        "work": f"{' + '.join(map(str, amounts))} = {sum(amounts)}", "answer": sum(amounts), "ending": ending(rng),
    }  # fmt: skip
    return _records(slots, _order_lines(orders), {"number": sum(amounts)}, found=wanted)


def _most_frequent(rng: random.Random) -> Filling:
    n = _length(rng)
    people = rng.sample(NAMES, rng.randint(3, 5 + n // 10))
    visits = rng.choices(people, k=n - 2)
    counts = Counter(visits)
    top = max(people, key=lambda name: counts[name])
    visits += [top, top]
    rng.shuffle(visits)
    counts = Counter(visits)
    lines = [f"{8 + i // 12:02}:{i % 12 * 5:02} {name} enters" for i, name in enumerate(visits)]
    work = ", ".join(f"{name} {count}" for name, count in counts.most_common(3))
    slots = {
        "question": "Who enters most often?", "work": f"Most frequent: {work}.", "answer": top,
        "ending": ending(rng, "the name"),
    }  # fmt: skip
    return _records(slots, lines, {"answers": [top]}, found=min(len(people), 14))


def _latest(rng: random.Random) -> Filling:
    n, changes = _length(rng), rng.randint(1, 6)
    rooms = [f"{rng.choice(_LETTERS)}{number}" for number in rng.sample(range(10, 100), 60)]
    asked, others = rooms[0], rooms[1:]
    order = [asked] * changes + rng.choices(others, k=n - changes)
    rng.shuffle(order)
    people = [rng.choice(NAMES) for _ in order]
    lines = [f"Room {room} is now used by {name}." for room, name in zip(order, people, strict=True)]
    uses = [i for i, room in enumerate(order) if room == asked]
    first = rng.random() < 0.5
    at = uses[0] if first else uses[-1]
    slots = {
        "question": f"The lines are in order of time. Who is the {'first' if first else 'last'} user of room {asked}?",
        "work": "\n".join(lines[i] for i in uses), "answer": people[at], "ending": ending(rng, "the name"),
    }  # fmt: skip
    return _records(slots, lines, {"answers": [people[at]]}, found=changes)


def _order(rng: random.Random) -> Filling:
    n, back = _length(rng), rng.randint(1, 4)
    trains = rng.sample(range(100, 1000), n)
    minutes = sorted(rng.sample(range(300, 1400), n))
    cities = [rng.choice(CITIES) for _ in trains]
    at = rng.randrange(back, n)
    timetable = [
        f"{m // 60:02}:{m % 60:02} train {train} to {city}"
        for m, train, city in zip(minutes, trains, cities, strict=True)
    ]
    if back == 1:
        question = f"Which train (its number) is the last one to leave before train {trains[at]}?"
    else:
        question = (
            f"Going back in time from train {trains[at]}, which train (its number) is the {ordinal(back)} before it?"
        )
    slots = {
        "question": f"The timetable is not in order of time. {question}",
        "work": "\n".join(timetable[at - back : at + 1]), "answer": trains[at - back], "ending": ending(rng),
    }  # fmt: skip
    return _records(slots, rng.sample(timetable, n), {"number": trains[at - back]}, found=back)


_PATTERNS = (
    "Read these lines.\n{records}\n\n{question} {ending}",
    "{question} {ending}\n\n{records}",
    "Below is a list. {question}\n\n{records}\n\n{ending}",
    "Use the following records and nothing else.\n\n{records}\n\nQuestion: {question} {ending}",
)
_REFERENCE = "{work}\nAnswer: {answer}"

LONG_CONTEXT = Capability(
    "long_context",
    (
        Template("look_up", _PATTERNS, _REFERENCE, _look_up),
        Template("count", _PATTERNS, _REFERENCE, _count),
        Template("total", _PATTERNS, _REFERENCE, _total),
        Template("most_frequent", _PATTERNS, _REFERENCE, _most_frequent),
        Template("latest", _PATTERNS, _REFERENCE, _latest),
        Template("order", _PATTERNS, _REFERENCE, _order),
    ),
    answer_marker="Answer:",
    verifier=verify,
)
