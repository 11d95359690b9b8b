"""One class of K: logits f32[B, K] against labels i32[B]; top-1 accuracy."""

from __future__ import annotations

from sc_jax.tasks.task import Task, means


def _metrics(logits, batch):
    right = logits.argmax(-1) == batch["label"]
    return {"accuracy": right.astype("float32")}


def _summary(metrics):
    return {"top-1": means(metrics)["accuracy"]}


def _reply(logits):
    return {"prediction": logits.argmax(-1), "logits": logits}


def _logits(logits):
    return logits


classification = Task(
    name="classification",
    metrics=_metrics,
    quality="accuracy",
    summary=_summary,
    figure="top-1",
    reply=_reply,
    logits=_logits,
)
