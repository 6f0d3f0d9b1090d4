"""Downstream tasks: task cards, requirement vectors, utility."""

from read_env.tasks.card import Exemplar, TaskCard, essential, load_task, task_names, utility_name

__all__ = ["Exemplar", "TaskCard", "essential", "load_task", "task_names", "utility_name"]
