"""The log of one slow test: every command, what it printed, and when."""

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType


class Log:
    """path: the file. commit: what is tested."""

    def __init__(self, path: Path, commit: str) -> None:
        self.path, self.commit = path, commit
        self.begin = time.monotonic()
        self.file = path.open("w", encoding="utf-8")
        self.say(f"commit {commit}")

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.file.close()

    def say(self, text: str) -> None:
        self.file.write(f"[{time.monotonic() - self.begin:7.1f} s] {text.rstrip()}\n")
        self.file.flush()

    def run(
        self, argv: Sequence[str], timeout: float, *, ok: bool = True, given: str | None = None
    ) -> str:
        """Run `argv` on this machine; return what it printed. Fails unless it ended with 0."""
        self.say(f"$ {' '.join(argv)}")
        done = subprocess.run(
            argv, input=given, capture_output=True, text=True, timeout=timeout, check=False
        )
        self.say(f"{done.stdout}{done.stderr}-> {done.returncode}")
        assert done.returncode == 0 or not ok, f"{argv}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout
