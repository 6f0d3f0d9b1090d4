"""The micro suite: ten procedural, verifiable capabilities over a character vocabulary.

Eight are the capabilities of ReAD (arXiv 2605.11290). The last two, ``sums`` and ``prices``, are drills: short completions
of what others contain.
"""

from read_env.capabilities.base import Suite
from read_env.capabilities.micro.code import code
from read_env.capabilities.micro.facts import Facts
from read_env.capabilities.micro.general_knowledge import general_knowledge
from read_env.capabilities.micro.long_context import LONG_CONTEXT
from read_env.capabilities.micro.math import math
from read_env.capabilities.micro.multilingual import multilingual
from read_env.capabilities.micro.prices import prices
from read_env.capabilities.micro.reasoning import reasoning
from read_env.capabilities.micro.steerability import STEERABILITY
from read_env.capabilities.micro.sums import sums
from read_env.capabilities.micro.tool_use import tool_use


def micro_suite(facts: Facts) -> Suite:
    """The micro suite with references that follow from ``facts``."""
    return Suite(
        "micro",
        (
            general_knowledge(facts), STEERABILITY, reasoning(facts), math(facts), code(facts), tool_use(facts),
            LONG_CONTEXT, multilingual(facts), sums(facts), prices(facts),
        ),
    )  # fmt: skip


MICRO = micro_suite(Facts())
