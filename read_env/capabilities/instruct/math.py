"""math: arithmetic, equations and word problems of one to four steps; the answer is compared as a number."""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal
from math import log10

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.instruct.answers import verify
from read_env.capabilities.instruct.words import ITEMS, NAMES, ending, filling, listing


def _number(value: Decimal | int) -> str:
    text = f"{Decimal(value):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _problem(
    rng: random.Random, slots: Mapping[str, object], answer: Decimal | int, *, steps: int, largest: int
) -> Filling:
    number = _number(answer)
    slots = {**slots, "answer": number, "ending": ending(rng)}
    return filling(slots, {"number": number}, steps=steps, digits=log10(largest))


def _arithmetic(rng: random.Random) -> Filling:
    steps, digits = rng.randint(1, 4), rng.randint(2, 4)
    value = largest = rng.randrange(10 ** (digits - 1), 10**digits)
    expression, work = str(value), []
    for i in range(steps):
        sign = rng.choice("+-×")
        operand = rng.randint(3, 19) if sign == "×" else rng.randrange(10 ** (digits - 1), 10**digits)
        result = value * operand if sign == "×" else value + operand if sign == "+" else value - operand
        work.append(f"{value} {sign} {operand} = {result}")
        expression = f"({expression}) {sign} {operand}" if i and sign == "×" else f"{expression} {sign} {operand}"
        value, largest = result, max(largest, abs(result))
    slots = {"expression": expression, "work": "\n".join(work)}
    return _problem(rng, slots, value, steps=steps, largest=largest)


def _shopping(rng: random.Random) -> Filling:
    kinds, dear = rng.randint(1, 3), rng.choice((12, 45, 180))
    bought = [(rng.randint(2, 12), item, rng.randint(2, dear)) for item in rng.sample(ITEMS, kinds)]
    total = sum(count * price for count, _, price in bought)
    paid = total + rng.randint(1, max(9, total // 4))
    work = [f"{count} × {price} = {count * price} dollars for the {item}." for count, item, price in bought]
    if kinds > 1:
        work.append(f"{' + '.join(str(c * p) for c, _, p in bought)} = {total} dollars together.")
    work.append(f"{paid} - {total} = {paid - total} dollars of change.")
    goods = listing([f"{count} {item} at {price} dollars each" for count, item, price in bought])
    slots = {"name": rng.choice(NAMES), "goods": goods, "paid": paid, "work": "\n".join(work)}
    return _problem(rng, slots, paid - total, steps=len(work), largest=paid)


def _percent(rng: random.Random) -> Filling:
    steps, price = rng.randint(1, 3), 20 * rng.randint(2, 200)
    # One change more would leave more than two decimals.
    changes = [rng.choice((5, 10, 15, 20, 25, 30, 40, 50, 60)) for _ in range(min(steps, 2))]
    amount, story, work = Decimal(price), [], []
    for i, percent in enumerate(changes):
        part = amount * percent / 100
        rises = rng.random() < 0.5
        result = amount + part if rises else amount - part
        sign, verb = ("+", "rises") if rises else ("-", "falls")
        story.append(f"{'then ' if i else ''}{verb} by {percent}%")
        work.append(
            f"{percent}% of {_number(amount)} is {_number(part)}, and "
            f"{_number(amount)} {sign} {_number(part)} = {_number(result)}."
        )
        amount = result
    question = "What is it now?"
    if steps == 3:
        count = rng.randint(3, 9)
        question = f"What do {count} of them cost now?"
        work.append(f"{count} × {_number(amount)} = {_number(count * amount)}.")
        amount *= count
    slots = {"thing": rng.choice(ITEMS), "price": price, "story": " and ".join(story), "question": question}
    return _problem(rng, {**slots, "work": "\n".join(work)}, amount, steps=steps, largest=price)


def _equation(rng: random.Random) -> Filling:
    size = rng.choice((12, 40, 150))
    form, x = rng.randint(2, 4), rng.choice((-1, 1, 1)) * rng.randint(2, size)
    a, b = rng.randint(3, 19), rng.choice((-1, 1)) * rng.randint(1, size)
    c = rng.choice([n for n in range(2, 19) if n != a])
    inner, left = f"x {_signed(b)}", a * (x + b)
    if form == 2:
        equation = f"{a}x {_signed(b)} = {a * x + b}"
        work = [f"{a}x = {a * x + b} {_signed(-b)} = {a * x}"]
        factor = a
    elif form == 3:
        constant = a * x + b - c * x
        equation = f"{a}x {_signed(b)} = {c}x {_signed(constant)}"
        factor = a - c
        work = [f"{a}x - {c}x = {constant} {_signed(-b)}", f"{factor}x = {factor * x}"]
    else:
        constant = left - c * x
        equation = f"{a}({inner}) = {c}x {_signed(constant)}"
        factor = a - c
        work = [f"{a}x {_signed(a * b)} = {c}x {_signed(constant)}", f"{factor}x = {constant} {_signed(-a * b)}"]
        work.append(f"{factor}x = {factor * x}")
    work.append(f"x = {factor * x} / {factor} = {x}")
    return _problem(rng, {"equation": equation, "work": "\n".join(work)}, x, steps=form, largest=abs(a * x) + abs(b))


def _signed(value: int) -> str:
    return f"- {-value}" if value < 0 else f"+ {value}"


def _average(rng: random.Random) -> Filling:
    count, top = rng.randint(2, 6), rng.choice((20, 100, 400))
    scores = [rng.randint(top // 5, top) for _ in range(count)]
    mean = rng.randint(sum(scores) // count, sum(scores) // count + top // 8)
    total, needed = sum(scores), mean * (count + 1)
    work = f"{' + '.join(map(str, scores))} = {total}\n{count + 1} × {mean} = {needed}\n{needed} - {total} = {needed - total}"
    slots = {"name": rng.choice(NAMES), "scores": listing([str(s) for s in scores]), "mean": mean, "work": work}
    return _problem(rng, {**slots, "count": count}, needed - total, steps=1 + count // 2, largest=needed)


def _journey(rng: random.Random) -> Filling:
    legs = [(rng.randint(2, 9), rng.randint(11, 120)) for _ in range(rng.randint(1, 3))]
    total = sum(hours * speed for hours, speed in legs)
    left = rng.randint(5, 400)
    work = [f"{hours} × {speed} = {hours * speed} km" for hours, speed in legs]
    if len(legs) > 1:
        work.append(f"{' + '.join(str(h * s) for h, s in legs)} = {total} km")
    work.append(f"{total + left} - {total} = {left} km")
    slots = {
        "name": rng.choice(NAMES),
        "legs": ", then ".join(f"{hours} hours at {speed} km/h" for hours, speed in legs),
        "distance": total + left,
        "work": "\n".join(work),
    }
    return _problem(rng, slots, left, steps=len(work), largest=total + left)


_REFERENCE = "{work}\nAnswer: {answer}"

MATH = Capability(
    "math",
    (
        Template(
            "arithmetic",
            ("What is {expression}? {ending}", "Calculate {expression}. {ending}", "Work out {expression}. {ending}"),
            _REFERENCE,
            _arithmetic,
        ),
        Template(
            "shopping",
            (
                "{name} buys {goods} and pays with {paid} dollars. How many dollars of change are due? {ending}",
                "In a shop {name} takes {goods}. {name} hands over {paid} dollars. How much change is that? {ending}",
            ),
            _REFERENCE,
            _shopping,
        ),
        Template(
            "percent",
            (
                "The price of one box of {thing} is {price} dollars. It {story}. {question} {ending}",
                "A box of {thing} costs {price} dollars. The price {story}. {question} {ending}",
            ),
            _REFERENCE,
            _percent,
        ),
        Template(
            "equation",
            (
                "Solve for x: {equation}. {ending}",
                "Which x fulfils {equation}? {ending}",
                "{equation}. Find x. {ending}",
            ),
            _REFERENCE,
            _equation,
        ),
        Template(
            "average",
            (
                "{name} scored {scores} in {count} rounds. Which score in the next round makes the average {mean}? {ending}",
                "After {count} rounds with {scores} points, {name} wants an average of {mean} points with one more round. "
                "How many points must that round bring? {ending}",
            ),
            _REFERENCE,
            _average,
        ),
        Template(
            "journey",
            (
                "{name} has to travel {distance} km and drives {legs}. How many km remain? {ending}",
                "A trip of {distance} km: {name} rides {legs}. How far is it still, in km? {ending}",
            ),
            _REFERENCE,
            _journey,
        ),
    ),
    answer_marker="Answer:",
    verifier=verify,
)
