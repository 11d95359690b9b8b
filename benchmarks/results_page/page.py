"""The text of docs/results.md around what was measured."""

import re

INTRODUCTION = """\
Made by `benchmarks/results_page/make.py` from the files that real runs left; each
section has its own date and machine, and compares only what one run measured. Bytes are
measured: each test image through the frozen tables and the coder, and accuracy is that
of the decoded latent. The default's bottleneck, batch, beta and rates were chosen on
20,000 images of the whole Fashion-MNIST training set that are in neither split of the
embedded cut, with the teachers of seeds 0 and 2; test tables of earlier defaults had
been seen by then."""


def anonymous(command: str) -> str:
    """A command without the folders that its data stood in; other lines as they are."""
    if not command.lstrip().startswith("python "):
        return command
    return re.sub(r"(?<![^\s=:,'\"])(?:/|~|\.\.?/)[^\s=:,'\"]*/", "", command)


def merged(old: str, page: list[str]) -> str:
    """`page` in place of the sections of the same titles in `old`; others stay."""
    _, *kept = re.split(r"^(?=## )", old, flags=re.MULTILINE)
    _, *made = re.split(r"^(?=## )", "\n".join(page) + "\n", flags=re.MULTILINE)
    found = {text.splitlines()[0]: text for text in kept}
    found |= {text.splitlines()[0]: text for text in made}
    texts = ["# Results\n\n" + INTRODUCTION + "\n", *found.values()]
    return "\n".join(text.strip() + "\n" for text in texts)
