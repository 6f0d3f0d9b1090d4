"""Reasons for which a run would be refused, collected for ``read-env check``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from read_env.capabilities import get_suite
from read_env.capabilities.contamination import evaluation_hashes
from read_env.capabilities.splits import fit_splits
from read_env.capabilities.stream import held_out
from read_env.config import Config
from read_env.distillation.budget import check_group_of_samples
from read_env.distillation.examples.references import require_answers
from read_env.distillation.text.alignment import align
from read_env.distillation.text.lengths import (
    LengthLimit,
    Reader,
    fitting_suite,
    held_out_sizes,
    measure_lengths,
)
from read_env.errors import ReadEnvError
from read_env.running.agents import AgentSpec
from read_env.running.check_remote import Rows
from read_env.running.harness import check_template
from read_env.running.harness_tasks import HarnessTasks, load_tasks
from read_env.running.requests import check_agents

_Result = TypeVar("_Result")


class Refusals:
    """Messages of the errors that a run of a configuration would raise.

    Attributes:
        found: one message per error.
    """

    def __init__(self) -> None:
        self.found: list[str] = []

    def attempt(self, call: Callable[[], _Result]) -> _Result | None:
        """Result of a call; None if it raises a ReadEnvError, whose message is collected."""
        try:
            return call()
        except ReadEnvError as error:
            if str(error) not in self.found:
                self.found.append(str(error))
            return None

    def look(self, config: Config, readers: Sequence[Reader]) -> Rows:
        """Check suite, task, agent, objective, held-out sets, lengths and budget of a configuration.

        Args:
            config: the configuration.
            readers: the models whose tokenizers are on this machine, the student last.

        Returns:
            Lengths of prompts and references by role.
        """
        agent = self.attempt(lambda: AgentSpec.parse(config.agent, config.agent_options))
        agents = [] if agent is None else [agent]
        # Each alone, so that an unknown task does not hide what is wrong with the agent.
        for one in (([], [config.task]), (agents, []), (agents, [config.task])):
            self.attempt(partial(check_agents, config, *one))
        if config.resolved:
            self.attempt(lambda: check_group_of_samples(config))
        self.attempt(lambda: evaluation_hashes(config.decontamination_files))
        if config.eval.external:
            tasks = HarnessTasks.of(config)
            self.attempt(lambda: load_tasks(tasks))
            if readers and readers[-1].role == "student":
                self.attempt(lambda: check_template(tasks, readers[-1].encoder.tokenizer))
        if readers and readers[-1].role == "student":
            for teacher in readers[:-1]:
                self.attempt(partial(align, teacher.encoder, readers[-1].encoder, config.distill.loss))
        suite = self.attempt(lambda: get_suite(config.suite))
        if suite is None:
            return []
        self.attempt(lambda: require_answers(suite, config.distill.loss))
        before = len(self.found)
        for capability in suite:
            for split, count in held_out_sizes(config).items():
                self.attempt(partial(held_out, capability, split, count))
        if len(self.found) > before or not config.resolved:
            return []
        limit = LengthLimit(readers, config.distill.max_completion_tokens)
        fitting = self.attempt(lambda: fitting_suite(suite, limit, config))
        if fitting is None:
            return []
        config = fit_splits(config, fitting[0])
        reading = [reader for reader in readers if any(map(reader.reads, fitting[0].names))]
        return [(reader.role, str(measure_lengths(fitting[0], reader, config))) for reader in reading]
