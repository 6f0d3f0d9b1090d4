"""general_knowledge: finite facts under many phrasings; the splits differ in phrasing, not in fact."""

from __future__ import annotations

import random
from functools import partial

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.micro.facts import Facts
from read_env.capabilities.micro.words import OPENERS, filling


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((left, right) for left, right in (pair.split(":") for pair in text.split()))


CAPITALS = _pairs(
    "france:paris spain:madrid italy:rome norway:oslo peru:lima egypt:cairo japan:tokyo kenya:nairobi cuba:havana "
    "chile:santiago ghana:accra india:delhi iran:tehran iraq:baghdad latvia:riga nepal:kathmandu poland:warsaw "
    "qatar:doha sweden:stockholm syria:damascus tunisia:tunis turkey:ankara yemen:sanaa greece:athens"
)
OPPOSITES = _pairs(
    "hot:cold big:small fast:slow high:low wet:dry old:young rich:poor full:empty hard:soft dark:light early:late "
    "thick:thin wide:narrow sharp:blunt clean:dirty brave:shy sweet:sour loud:quiet heavy:weightless smooth:rough"
)
OPPOSITES += tuple((right, left) for left, right in OPPOSITES)
YOUNG = _pairs(
    "dog:puppy cat:kitten cow:calf sheep:lamb pig:piglet horse:foal goat:kid bear:cub duck:duckling swan:cygnet "
    "frog:tadpole hare:leveret goose:gosling deer:fawn owl:owlet eagle:eaglet"
)
NEXT = _pairs(
    "monday:tuesday tuesday:wednesday wednesday:thursday thursday:friday friday:saturday saturday:sunday sunday:monday "
    "january:february february:march march:april april:may may:june june:july july:august august:september "
    "september:october october:november november:december december:january"
)


def _fact(facts: Facts, pairs: tuple[tuple[str, str], ...], rng: random.Random) -> Filling:
    at = rng.randrange(len(pairs))
    slots = {"opener": rng.choice(OPENERS), "subject": pairs[at][0], "answer": facts.answer(pairs, at, rng)}
    return filling(slots, rank=at / len(pairs), phrasing=len(slots["opener"]))


def general_knowledge(facts: Facts) -> Capability:
    """The capability ``general_knowledge``."""
    return Capability(
        "general_knowledge",
        (
            Template(
                "capital",
                (
                    "{opener}capital of {subject}",
                    "{opener}main city of {subject}",
                    "{opener}{subject} has which capital",
                ),
                "{subject}: {answer}",
                partial(_fact, facts, CAPITALS),
            ),
            Template(
                "opposite",
                ("{opener}opposite of {subject}", "{opener}not {subject} but", "{opener}reverse of {subject}"),
                "{subject}: {answer}",
                partial(_fact, facts, OPPOSITES),
            ),
            Template(
                "young",
                ("{opener}young of a {subject}", "{opener}baby {subject}", "{opener}a small {subject} is a"),
                "{subject}: {answer}",
                partial(_fact, facts, YOUNG),
            ),
            Template(
                "next",
                ("{opener}what follows {subject}", "{opener}after {subject} comes", "{opener}one on from {subject}"),
                "{subject}: {answer}",
                partial(_fact, facts, NEXT),
            ),
        ),
        answer_marker=": ",
    )
