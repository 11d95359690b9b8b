"""One class of K: logits f32[B, K] against labels i32[B]."""

from __future__ import annotations

from sc_jax.tasks.task import Task, means


def _metrics(logits, batch):
    right = logits.argmax(-1) == batch["label"]
    return {"accuracy": right.astype("float32")}


def _reply(logits):
    return {"prediction": logits.argmax(-1), "logits": logits}


def _logits(logits):
    return logits


classification = Task(
    name="classification",
    metrics=_metrics,
    quality="accuracy",
    summary=means,
    reply=_reply,
    logits=_logits,
)
