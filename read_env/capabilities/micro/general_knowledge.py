"""general_knowledge: finite facts under many phrasings; the splits differ in phrasing, not in fact."""

from __future__ import annotations

import random
from collections.abc import Callable

from read_env.capabilities.base import Capability, Filling, Template
from read_env.capabilities.micro.words import filling


def _facts(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((left, right) for left, right in (pair.split(":") for pair in text.split()))


_CAPITALS = _facts(
    "france:paris spain:madrid italy:rome norway:oslo peru:lima egypt:cairo japan:tokyo kenya:nairobi cuba:havana "
    "chile:santiago ghana:accra india:delhi iran:tehran iraq:baghdad latvia:riga nepal:kathmandu poland:warsaw "
    "qatar:doha sweden:stockholm syria:damascus tunisia:tunis turkey:ankara yemen:sanaa greece:athens"
)
_OPPOSITES = _facts(
    "hot:cold big:small fast:slow high:low wet:dry old:young rich:poor full:empty hard:soft dark:light early:late "
    "thick:thin wide:narrow sharp:blunt clean:dirty brave:shy sweet:sour loud:quiet heavy:weightless smooth:rough"
)
_OPPOSITES += tuple((right, left) for left, right in _OPPOSITES)
_YOUNG = _facts(
    "dog:puppy cat:kitten cow:calf sheep:lamb pig:piglet horse:foal goat:kid bear:cub duck:duckling swan:cygnet "
    "frog:tadpole hare:leveret goose:gosling deer:fawn owl:owlet eagle:eaglet"
)
_NEXT = _facts(
    "monday:tuesday tuesday:wednesday wednesday:thursday thursday:friday friday:saturday saturday:sunday sunday:monday "
    "january:february february:march march:april april:may may:june june:july july:august august:september "
    "september:october october:november november:december december:january"
)
_OPENERS = ("", "hey, ", "now: ", "quick: ", "ok, ", "tell me, ", "q: ", "say, ", "and ", "so, ", "hm, ", "please, ")


def _fact(facts: tuple[tuple[str, str], ...]) -> Callable[[random.Random], Filling]:
    def fill(rng: random.Random) -> Filling:
        rank = rng.randrange(len(facts))
        subject, answer = facts[rank]
        slots = {"opener": rng.choice(_OPENERS), "subject": subject, "answer": answer}
        return filling(slots, rank=rank / len(facts), phrasing=len(slots["opener"]))

    return fill


GENERAL_KNOWLEDGE = Capability(
    "general_knowledge",
    (
        Template(
            "capital",
            ("{opener}capital of {subject}", "{opener}main city of {subject}", "{opener}{subject} has which capital"),
            "{subject}: {answer}",
            _fact(_CAPITALS),
        ),
        Template(
            "opposite",
            ("{opener}opposite of {subject}", "{opener}not {subject} but", "{opener}reverse of {subject}"),
            "{subject}: {answer}",
            _fact(_OPPOSITES),
        ),
        Template(
            "young",
            ("{opener}young of a {subject}", "{opener}baby {subject}", "{opener}a small {subject} is a"),
            "{subject}: {answer}",
            _fact(_YOUNG),
        ),
        Template(
            "next",
            ("{opener}what follows {subject}", "{opener}after {subject} comes", "{opener}one on from {subject}"),
            "{subject}: {answer}",
            _fact(_NEXT),
        ),
    ),
    answer_marker=": ",
)
