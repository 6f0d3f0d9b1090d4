"""general_knowledge: finite facts under many phrasings; the splits differ in phrasing, not in fact."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from read_env.capabilities.base import Capability, Filling, Prompt, Template
from read_env.capabilities.instruct import facts
from read_env.capabilities.instruct.answers import mentions, reply
from read_env.capabilities.instruct.numerals import values
from read_env.capabilities.instruct.words import filling

_OPENERS = (
    "", "A question: ", "Please tell me: ", "Quiz question. ", "I would like to know: ", "Do you know this? ",
    "Here is a question for you. ", "From general knowledge: ",
)  # fmt: skip
_ENDINGS = (
    'Reply in the form "Answer: ...".', 'Reply with "Answer:" and the answer only.', 'Write only "Answer: ...".',
    'Keep it short and start with "Answer:".', 'No explanation, just "Answer: ...".',
)  # fmt: skip

#: Plurals that aren't made with an s.
_PLURALS = {
    "puppy": "puppies", "calf": "calves", "fry": "fry", "henry": "henries", "hertz": "hertz", "lux": "lux",
    "siemens": "siemens",
}  # fmt: skip
_YEAR = re.compile(r"(?<![0-9])[0-9]{3,4}(?![0-9])")
_ARTICLE = re.compile(r"\ban?\b")


def _with_plurals(known: tuple[facts.Fact, ...]) -> tuple[facts.Fact, ...]:
    return tuple(
        (subject, tuple(dict.fromkeys((*accepted, *(_PLURALS.get(text, f"{text}s") for text in accepted)))))
        for subject, accepted in known
    )


#: Relation to its facts and to the ways to ask for one.
_RELATIONS: dict[str, tuple[tuple[facts.Fact, ...], tuple[str, ...]]] = {
    "capital": (
        facts.CAPITALS,
        ("What is the capital of {s}?", "Which city is the capital of {s}?", "Name the capital city of {s}."),
    ),
    "symbol": (
        facts.SYMBOLS,
        (
            "Which chemical element has the symbol {s}?", "What element does the chemical symbol {s} stand for?",
            "Name the element with the symbol {s}.",
        ),
    ),
    "atomic_number": (
        facts.ATOMIC_NUMBERS,
        (
            "Which chemical element has the atomic number {s}?", "Which element has {s} protons in its nucleus?",
            "Name the element with atomic number {s}.", "What element is number {s} in the periodic table?",
        ),
    ),
    "author": (
        facts.AUTHORS,
        ("Who wrote {s}?", "Who is the author of {s}?", "Name the author of {s}.", "Which writer do we owe {s} to?"),
    ),
    "year": (
        facts.YEARS,
        ("In which year {s}?", "What year {s}?", "When {s}, by year?", "Give the year: when {s}?"),
    ),
    "young": (
        _with_plurals(facts.YOUNG),
        (
            "What is the young of {s} called?", "What do you call the young of {s}?", "Which word names the young of {s}?",
            "In one word, what is the baby of {s}?", "{s} has young: what are they called (singular)?",
            "What is the English word for the young of {s}?",
        ),
    ),
    "unit": (
        _with_plurals(facts.UNITS),
        (
            "What is the SI unit of {s}?", "In which SI unit is {s} measured?", "Name the SI unit for {s}.",
            "Which unit does the International System use for {s}?", "{s}: which SI unit belongs to it?",
        ),
    ),
    "count": (
        facts.COUNTS,
        ("How many {s}?", "Tell me how many {s}.", "What number is it: how many {s}?", "Count them: how many {s}?"),
    ),
}  # fmt: skip


def _fill(relation: str) -> Callable[[random.Random], Filling]:
    known, questions = _RELATIONS[relation]

    def fill(rng: random.Random) -> Filling:
        rank = rng.randrange(len(known))
        subject, accepted = known[rank]
        question = rng.choice(questions).format(s=subject)
        slots = {
            "opener": rng.choice(_OPENERS), "question": question[0].upper() + question[1:], "answer": accepted[0],
            "ending": rng.choice(_ENDINGS),
        }  # fmt: skip
        check = {"answers": list(accepted), "relation": relation, "subject": subject}
        return filling(slots, check, obscurity=rank / (len(known) - 1))

    return fill


def _verify(prompt: Prompt, completion: str) -> bool:
    """A reply that names another answer of the relation too is a guess."""
    relation = prompt.check["relation"]
    right, subject = prompt.check["answers"], prompt.check["subject"].casefold()
    if relation == "year":
        return set(_YEAR.findall(reply(completion))) == set(right)
    if relation == "count":
        # A number of the question may come again; "an hour" is "one hour".
        asked = values(_ARTICLE.sub("one", subject))
        return values(reply(completion).rpartition("=")[2]) - asked == values(right[0])
    known, _ = _RELATIONS[relation]
    rivals = [
        text for _, accepted in known for text in accepted if text not in right and text.casefold() not in subject
    ]
    return mentions(completion, right, rivals)


GENERAL_KNOWLEDGE = Capability(
    "general_knowledge",
    tuple(
        Template(relation, ("{opener}{question} {ending}",), "Answer: {answer}", _fill(relation))
        for relation in _RELATIONS
    ),
    answer_marker="Answer:",
    verifier=_verify,
)
