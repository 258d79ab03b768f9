"""How often a BMC refused a login, on file. Standard library only: BMCs run elsewhere."""

import json
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict


class Record(TypedDict):
    count: int
    times: list[str]


def read(path: Path) -> Record:
    """The record on file; nothing refused if there is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {"count": 0, "times": []}
    return {"count": int(found["count"]), "times": list(found["times"])}


class FailedLogins:
    """Counts refused logins in the file `failed_logins`: count, and times in UTC (ISO 8601)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def add(self) -> None:
        """One more. On file, whole, before the answer goes out."""
        with self._lock:
            record = read(self.path)
            record["count"] += 1
            record["times"].append(datetime.now(UTC).isoformat(timespec="milliseconds"))
            fresh = self.path.with_name(self.path.name + ".new")
            fresh.write_text(json.dumps(record))
            fresh.replace(self.path)
