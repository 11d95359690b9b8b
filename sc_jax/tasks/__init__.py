"""Tasks: what a network is for. One task, one short file, one row here."""

from sc_jax.errors import unknown
from sc_jax.tasks.classification import classification
from sc_jax.tasks.task import Task

__all__ = ["TASKS", "Task", "classification", "task"]

TASKS: dict[str, Task] = {"classification": classification}


def task(name: str) -> Task:
    """A task by its name; UsageError names the known ones."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]
