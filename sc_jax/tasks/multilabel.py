"""Any of K labels at once: logits f32[B, K] against bool[B, K]; F1, mean precision.

A label is in the answer where its probability, the sigmoid of its logit, is above 1/2.
Reports show mean average precision, which ranks a whole set by each label and so is no
mean over examples: VOC's area under precision and recall, every point of it, over the
labels that occur (Everingham et al. 2010, https://doi.org/10.1007/s11263-009-0275-4).
Trained by losses.task.BinaryCrossEntropy.
"""

from __future__ import annotations

import numpy as np

from sc_jax.tasks.task import Task, means, namespace


def _metrics(logits, batch):
    labels = batch["label"].astype("float32")
    answer = (logits > 0).astype("float32")
    both, either = (answer * labels).sum(-1), (answer + labels).sum(-1)
    # Nothing to find and nothing found is an answer without a mistake.
    f1 = (2 * both + (either == 0)) / (either + (either == 0))
    return {"f1": f1.astype("float32"), "score": logits, "truth": labels}


def _summary(metrics):
    score, truth = metrics["score"], metrics["truth"] > 0
    found = [average_precision(s, t) for s, t in zip(score.T, truth.T) if t.any()]
    mean_f1 = means({"f1": metrics["f1"]})
    return {"mAP": float(np.mean(found)) if found else 0.0, **mean_f1}


def average_precision(score: np.ndarray, truth: np.ndarray) -> float:
    """Mean precision at the rank of each true example: f[N], bool[N] -> 0..1.

    Equal scores share the precision behind the last of them, whatever their order.
    """
    order = np.argsort(-score, kind="stable")
    ranked, hits = score[order], truth[order]
    last = np.searchsorted(-ranked, -ranked, side="right") - 1
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    return float(precision[last][hits].mean())


def _reply(logits):
    return {"labels": logits > 0, "logits": logits}


def _logits(logits):
    """f32[B, 2]: the label nearest to 1/2, as yes and no; it is what may be wrong."""
    xp = namespace(logits)
    least = xp.abs(logits).min(-1)
    return xp.stack([least, xp.zeros_like(least)], -1)


multilabel = Task(
    name="multilabel",
    metrics=_metrics,
    quality="f1",
    summary=_summary,
    figure="mAP",
    reply=_reply,
    logits=_logits,
)
