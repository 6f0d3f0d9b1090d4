"""The instruct suite: eight procedural, verifiable capabilities for instruction-tuned language models."""

from read_env.capabilities.base import Suite
from read_env.capabilities.instruct.code import CODE
from read_env.capabilities.instruct.general_knowledge import GENERAL_KNOWLEDGE
from read_env.capabilities.instruct.long_context import LONG_CONTEXT
from read_env.capabilities.instruct.math import MATH
from read_env.capabilities.instruct.multilingual import MULTILINGUAL
from read_env.capabilities.instruct.reasoning import REASONING
from read_env.capabilities.instruct.steerability import STEERABILITY
from read_env.capabilities.instruct.tool_use import TOOL_USE

INSTRUCT = Suite(
    "instruct",
    (GENERAL_KNOWLEDGE, STEERABILITY, REASONING, MATH, CODE, TOOL_USE, LONG_CONTEXT, MULTILINGUAL),
)
