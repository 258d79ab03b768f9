"""How every verb ends: one sentence, its remedy, one exit code; and the client it talks with.

Exit codes: 0 done, 1 refused (the sentence and its remedy are on stderr), 2 wrong usage,
3 Seed or something it needs does not answer, 4 waited too long, 130 ended by Ctrl-C.
"""

import os
from contextvars import ContextVar
from pathlib import Path
from threading import Timer
from typing import Any, Final, NoReturn

import httpx
import typer
from rich.console import Console
from typer.core import TyperGroup

from seed.client import ClientError, Misconfigured, Seed, TooLong, Unavailable, segment
from seed.config import settings

REFUSED, USAGE, UNAVAILABLE, TOO_LONG = 1, 2, 3, 4
CODES: Final = {Misconfigured: USAGE, Unavailable: UNAVAILABLE, TooLong: TOO_LONG}
SHOWN_REASONS: Final = 20
LATE_SECONDS: Final = 2.0
PROJECT: ContextVar[str] = ContextVar("project", default="")
"""What `seed --project NAME` says, or else $SEED_PROJECT."""

err = Console(stderr=True, highlight=False)
part = segment


class Verbs(TyperGroup):
    """The whole CLI: whatever a verb's call raised ends it in the same way."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        before = PROJECT.set(ctx.params.get("project") or "")
        try:
            return super().invoke(ctx)
        except ClientError as error:
            refuse(error)
        finally:
            PROJECT.reset(before)


class Patient(Seed):
    """Says once that an answer takes long, where a person looks on."""

    def _once(self, verb: str, path: str, **kwargs: Any) -> httpx.Response:
        late = Timer(LATE_SECONDS, self._say)
        late.daemon = True
        late.start()
        try:
            return super()._once(verb, path, **kwargs)
        finally:
            late.cancel()

    def _say(self) -> None:
        if err.is_terminal and not self._said:
            self._said = True
            err.print("waiting for Seed ...")

    _said = False


def client() -> Seed:
    """Of a Seed elsewhere, if $SEED_SERVER names one: then this machine needs no settings.

    People do not wait for a second try: they read what is wrong.
    """
    socket = Path() if os.environ.get("SEED_SERVER") else settings().api_socket
    return Patient.from_environment(socket, tries=1, project=PROJECT.get())


def refuse(error: ClientError) -> NoReturn:
    """Print what went wrong, and end."""
    say(error)
    raise typer.Exit(
        next((code for kind, code in CODES.items() if isinstance(error, kind)), REFUSED)
    )


def say(error: ClientError) -> None:
    """What went wrong; of a claim that cannot be had, the nodes that lack least come first."""
    reasons = dict(error.problem.get("nearest") or {}) | error.reasons
    for name, why in list(reasons.items())[:SHOWN_REASONS]:
        words = "; ".join(map(str, why)) if isinstance(why, list) else str(why)
        err.print(f"  {plain(name)}: {plain(words)}", soft_wrap=True)
    if len(reasons) > SHOWN_REASONS:
        err.print(f"  and {len(reasons) - SHOWN_REASONS} more nodes")
    # The remedy of a document's fault is for programs, which have no help of a verb's.
    programs = error.code == "invalid" and error.remedy.startswith("curl ")
    _say(error.detail, "the same verb with --help" if programs else error.remedy)


def fail(what: str, remedy: str, code: int = REFUSED) -> NoReturn:
    _say(what, remedy)
    raise typer.Exit(code)


def _say(what: str, remedy: str) -> None:
    err.print(f"[red]error:[/red] {plain(what)}", soft_wrap=True)
    if remedy:
        err.print(f"  try: {plain(remedy)}", soft_wrap=True)


def plain(text: str) -> str:
    return text.replace("[", r"\[")
