"""The micro suite: eight procedural, verifiable capabilities over a character vocabulary."""

from read_env.capabilities.base import Suite
from read_env.capabilities.micro.code import CODE
from read_env.capabilities.micro.general_knowledge import GENERAL_KNOWLEDGE
from read_env.capabilities.micro.long_context import LONG_CONTEXT
from read_env.capabilities.micro.math import MATH
from read_env.capabilities.micro.multilingual import MULTILINGUAL
from read_env.capabilities.micro.reasoning import REASONING
from read_env.capabilities.micro.steerability import STEERABILITY
from read_env.capabilities.micro.tool_use import TOOL_USE

MICRO = Suite(
    "micro",
    (GENERAL_KNOWLEDGE, STEERABILITY, REASONING, MATH, CODE, TOOL_USE, LONG_CONTEXT, MULTILINGUAL),
)
