"""When and by which command a benchmark's report was measured."""

from datetime import UTC, datetime

from launch import cli


def origin() -> dict[str, str]:
    """{"date", "command"} of this process, started as `python -m MODULE`."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"date": now, "command": cli.command()}
