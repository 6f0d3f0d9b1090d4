"""Reasons for which a run would be refused, collected for ``read-env check``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from read_env.capabilities import get_suite
from read_env.capabilities.base import Suite
from read_env.capabilities.contamination import evaluation_hashes
from read_env.capabilities.stream import held_out
from read_env.config import Config
from read_env.distillation.budget import check_group_of_samples
from read_env.distillation.text.alignment import align
from read_env.distillation.text.encoding import Encoder
from read_env.distillation.text.lengths import (
    LengthLimit,
    Reader,
    fitting_suite,
    held_out_sizes,
    measure_lengths,
)
from read_env.errors import ReadEnvError
from read_env.losses import get_objective
from read_env.running.agents import AgentSpec
from read_env.running.check_remote import Rows
from read_env.running.requests import check_agents


class Refusals:
    """Messages of the errors that a run of a configuration would raise.

    Attributes:
        found: one message per error.
    """

    def __init__(self) -> None:
        self.found: list[str] = []

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Collect a ReadEnvError in place of raising it."""
        try:
            yield
        except ReadEnvError as error:
            if str(error) not in self.found:
                self.found.append(str(error))

    def look(self, config: Config, readers: Sequence[Reader]) -> Rows:
        """Check suite, task, agent, objective, held-out sets, lengths and budget of a configuration.

        Args:
            config: the configuration.
            readers: the models whose tokenizers are on this machine.

        Returns:
            Lengths of prompts and references by role.
        """
        rows: Rows = []
        with self.noted():
            check_agents(config, [AgentSpec.parse(config.agent, config.agent_options)], [config.task])
        with self.noted():
            get_objective(config.distill.loss)
        with self.noted():
            check_group_of_samples(config)
        with self.noted():
            evaluation_hashes(config.decontamination_files)
        suite: Suite | None = None
        with self.noted():
            suite = get_suite(config.suite)
        if len(readers) == 2:
            encoders: dict[str, Encoder] = {reader.role: reader.encoder for reader in readers}
            with self.noted():
                align(encoders["teacher"], encoders["student"], config.distill.loss)
        if suite is None:
            return rows
        sizes, before = held_out_sizes(config), len(self.found)
        for capability in suite:
            for split, count in sizes.items():
                with self.noted():
                    held_out(capability, split, count)
        if len(self.found) == before:
            with self.noted():
                suite, _ = fitting_suite(suite, LengthLimit(readers, config.distill.max_completion_tokens), config)
                for reader in readers:
                    rows.append((reader.role, str(measure_lengths(suite, reader, config))))
        return rows
