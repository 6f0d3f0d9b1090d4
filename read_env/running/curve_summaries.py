"""Texts, layout and hyperparameters that stand beside the curves in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from read_env.records import RunStart
from read_env.tasks import utility_name

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

#: Columns of the HPARAMS tab by field of the configuration. TensorBoard sorts columns by name and shows the first five, which
#: should be agent, budget, seed, student and task: the names of all others begin with "with".
_COLUMNS = {
    "seed": "seed", "student": "models.start", "budget": "budget.total_tokens", "with preset": "preset", "with suite": "suite",
    "with step tokens": "budget.step_tokens", "with loss": "distill.loss", "with learning rate": "distill.learning_rate",
    "with schedule": "distill.lr_scheduler_type", "with epochs": "distill.epochs",
}  # fmt: skip


def write_configuration(writer: SummaryWriter, config: Mapping[str, Any]) -> None:
    """Write a configuration, as ``config.json`` has it, as a table in the TEXT tab."""
    rows = [f"| `{name}` | {_shown(value)} |" for name, value in flattened(config).items()]
    writer.add_text("configuration", "\n".join(["| field | value |", "|---|---|", *rows]), 0)


def write_figures(writer: SummaryWriter, start: Mapping[str, Any]) -> None:
    """Write what each curve shows as a table in the TEXT tab."""
    writer.add_text("figures", figures(start), 0)


def write_layout(writer: SummaryWriter, names: Sequence[str]) -> None:
    """Write the charts of the CUSTOM SCALARS tab.

    Args:
        writer: writer of the run.
        names: |C| capability names.
    """

    def chart(*tags: str) -> list[Any]:
        return ["Multiline", list(tags)]

    layout = {
        # The cost, a share of the budget before its weight, would press all others against zero.
        "reward": {"parts": chart(*(f"reward/{part}$" for part in ("total", "gain", "spillover", "forgetting")))},
        "allocation": {"shares": chart(*(f"allocation/{name}$" for name in names))},
        "profile": {"probes": chart(*(f"profile/{name}$" for name in names))},
        "budget": {"spent": chart("budget/spent_share$"), "utility": chart("utility/probes$", "utility/dev$")},
    }
    writer.add_custom_scalars(layout)


def write_hparams(
    writer: SummaryWriter, config: Mapping[str, Any], columns: Mapping[str, Any], metrics: Sequence[str]
) -> None:
    """Write the row of the HPARAMS tab.

    Args:
        writer: writer of the run, whose curves hold the metrics.
        config: the configuration, as ``config.json`` has it.
        columns: further columns, which come first.
        metrics: tags of curves, whose last values are the metrics.
    """
    from torch.utils.tensorboard.summary import hparams

    fields = flattened(config)
    options = {
        name.replace("agent_options.", "with option "): v
        for name, v in fields.items()
        if name.startswith("agent_options.")
    }
    row = {**columns, **{name: fields[field] for name, field in _COLUMNS.items() if field in fields}, **options}
    plain = {
        name: value if isinstance(value, bool | int | float | str) else _shown(value) for name, value in row.items()
    }
    for summary in hparams(plain, dict.fromkeys(metrics, 0.0)):
        # The public add_hparams would write a run of its own.
        writer._get_file_writer().add_summary(summary)


def figures(start: Mapping[str, Any]) -> str:
    """Table of what each curve shows."""
    begun = RunStart.model_validate(start)
    figures = {
        "utility/probes, utility/dev": utility_name(begun.utility_form, begun.utility_score),
        "exam/utility": utility_name(begun.utility_form, begun.exam_score),
        "profile/*": f"score of the probes: {begun.score or 'likelihood'}",
        "exam/*": "exact match of greedily decoded answers"
        + (f"; of {', '.join(start['ungraded'])}, the likelihood per token" if start.get("ungraded") else ""),
        "teacher/profile/*, teacher/exam/*": "the same scores of the teacher",
    }
    lines = (f"| `{tag}` | {text} |" for tag, text in figures.items())
    return "\n".join(["| tag | figure |", "|---|---|", *lines])


def flattened(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Fields of nested sections by their dotted names.

    >>> flattened({"seed": 0, "budget": {"total_tokens": 10}})
    {'seed': 0, 'budget.total_tokens': 10}
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        found |= flattened(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return found


def _shown(value: Any) -> str:
    return str(value).replace("|", "\\|")
