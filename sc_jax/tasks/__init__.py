"""Tasks: what a network is for. One task, one short file, one row here."""

from sc_jax import plugins
from sc_jax.tasks.classification import classification
from sc_jax.tasks.multilabel import multilabel
from sc_jax.tasks.task import Task, check

__all__ = ["TASKS", "Task", "check", "classification", "find", "multilabel"]

TASKS: dict[str, Task] = {"classification": classification, "multilabel": multilabel}


def find(name: str) -> Task:
    """A task by its name here, or FILE.py:name; UsageError names the known ones."""
    if plugins.is_file(name):
        return plugins.from_file("task", name, lambda found: isinstance(found, Task))
    return plugins.find("task", name, TASKS)
