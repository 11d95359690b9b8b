"""Tasks: what a network is for. One task, one short file, one row here."""

from sc_jax.tasks.classification import classification
from sc_jax.tasks.multilabel import multilabel
from sc_jax.tasks.task import Task, check, probabilities

__all__ = ["TASKS", "Task", "check", "classification", "multilabel", "probabilities"]

TASKS: dict[str, Task] = {"classification": classification, "multilabel": multilabel}
