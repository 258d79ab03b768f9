"""seed event ..."""

import json
import re
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import typer

from seed import show
from seed.client import Seed, Unavailable
from seed.commands.door import REFUSED, client, err, fail

app = typer.Typer(no_args_is_help=True, help="What happened, and whether all of it is still there.")
COLUMNS = {"id": "ID", "when": "WHEN", "kind": "KIND", "who": "WHO", "what": "WHAT"}
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
PATIENCE = (1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before the next try, when the stream was cut

Subject = Annotated[
    str | None, typer.Option(help="A node's or claim's UUID, a BMC's address, a name.")
]
Kind = Annotated[str, typer.Option(help="How the kind begins: claim. or claim.released, say.")]


@app.command("list")
def listed(
    subject: Subject = None,
    kind: Kind = "",
    after: Annotated[int, typer.Option(min=0, help="Only younger ones than this number.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 100,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Events, oldest first.

    Example: seed event list --kind claim. --limit 20
    """
    found = client().get("/events", subject=subject, kind=kind, after=after, limit=limit)
    if output is show.Format.TABLE:
        found = [_line(event) for event in found]
    show.rows(found, COLUMNS, output)


@app.command()
def watch(
    subject: Subject = None,
    kind: Kind = "",
    after: Annotated[
        int | None, typer.Option(min=0, help="Begin after this number, not now.")
    ] = None,
    count: Annotated[int, typer.Option(min=0, help="End after so many; 0: never.")] = 0,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Follow events as they happen, until Ctrl-C. One that was cut off goes on where it was.

    With -o json each event is one line.

    Example: seed event watch --kind claim.
    """
    api = client()
    params = {"kind": kind, "limit": 1} | ({"subject": subject} if subject else {})
    api.get("/events", **params)  # refused, or nobody there: said at once
    for number, event in enumerate(follow(api, params, after), 1):
        _print(event, output)
        if number == count:
            return


@app.command()
def verify(
    head: Annotated[
        str, typer.Option(help="ID:HASH as an earlier `seed event verify` printed it.")
    ] = "",
    output: show.Output = show.Format.TABLE,
) -> None:
    """Walk the chain of all events: was one changed, removed or put in? Ends with 1 if so.

    Keep the head that it prints somewhere else: only with one can a cut end be seen.

    Example: seed event verify
    """
    with err.status("walking along the chain ..."):
        found = client().get("/events:verify", head=head)
    if output is not show.Format.TABLE or found["ok"]:
        show.one(found, output)
    if not found["ok"]:
        fail(
            f"the chain of events is broken at {found['broken']}: {found['why']}",
            f"See what stands there: `seed event list --after {max(found['broken'] - 3, 0)}`; "
            "then compare with a backup.",
            REFUSED,
        )


def follow(api: Seed, params: dict[str, Any], after: int | None) -> Iterator[dict[str, Any]]:
    """Events without end. What was cut is taken up after the last one that came."""
    last, tries = after, 0
    while True:
        try:
            for number, event in _stream(api, params, last):
                last, tries = number, 0
                if event:
                    yield event
        except Unavailable:
            pass
        pause = PATIENCE[min(tries, len(PATIENCE) - 1)]
        tries += 1
        err.print(f"the stream was cut; again in {pause:.0f} s")
        time.sleep(pause)


def _stream(
    api: Seed, params: dict[str, Any], last: int | None
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """(number, event) of one connection; the first has a number only: where it begins."""
    headers = {"Accept": "text/event-stream"}
    if last is not None:
        headers["Last-Event-ID"] = str(last)
    number = last or 0
    with api.stream("/events", params, headers) as answer:
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if name == "id":
                number = int(value)
            elif name == "data":
                yield number, json.loads(value)
            elif not line:
                yield number, None


def _line(event: dict[str, Any]) -> dict[str, Any]:
    at = datetime.fromisoformat(event["at"]).astimezone()
    subject, what = event["subject"], event["message"]
    if subject and subject not in what:  # an id stands behind: it is for copying
        what = f"{what} {subject}" if _ID.fullmatch(subject) else f"{subject}: {what}"
    what += f" ({event['why']})" if event["why"] else ""
    return event | {"when": f"{at:%m-%d %H:%M:%S}", "what": what}


def _print(event: dict[str, Any], output: show.Format) -> None:
    match output:
        case show.Format.JSON:
            typer.echo(json.dumps(event))
        case show.Format.YAML:
            show.one([event], output)
        case show.Format.TABLE:
            told = _line(event)
            show.out.print(
                show.cell(f"{told['when']}  {told['kind']:<20}  {told['who']:<10}  {told['what']}"),
                soft_wrap=True,
            )
