"""When and by which command a benchmark's report was made."""

import sys
from datetime import UTC, datetime


def origin() -> dict[str, str]:
    """{"date", "command"} of this process, started as `python -m MODULE`."""
    spec = sys.modules["__main__"].__spec__
    module = spec.name if spec else sys.argv[0]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(["python -m", module, *sys.argv[1:]]),
    }
