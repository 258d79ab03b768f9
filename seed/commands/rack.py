"""seed rack ..."""

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Group
from rich.live import Live

from seed import rack_text, show
from seed.client import ClientError, Seed
from seed.commands import netbox
from seed.commands.door import REFUSED, USAGE, client, err, fail, part, say
from seed.commands.lists import read_file

app = typer.Typer(no_args_is_help=True, help="The rack plan, and what to do to get there.")
plan_app = typer.Typer(no_args_is_help=True, help="What shall be where.")
app.add_typer(plan_app, name="plan")
app.add_typer(netbox.app, name="netbox")
COLUMNS = {
    "rack": "RACK", "site": "SITE", "row": "ROW", "planned": "PLANNED", "found": "FOUND",
    "right": "RIGHT", "wrong": "WRONG",
}  # fmt: skip
WATCH_SECONDS = 2
BLINK_SECONDS = 60  # a slow BMC's login and one change
_SLOT = re.compile(r"(.+)u(\d+)")


class Paper(StrEnum):
    CSV = "csv"
    HTML = "html"


Technician = Annotated[str, typer.Option(help="Only what this person shall do.")]
RackOption = Annotated[str, typer.Option("--rack", help="Only this rack.")]


@plan_app.command("import")
def imported(
    file: Annotated[Path, typer.Argument(help="CSV, XLSX or YAML.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Drop the plan of all racks it does not name, too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Plan the racks that a file names; all of it or nothing. Other racks keep their plan.

    Example: seed rack plan import room.csv
    """
    api, body = client(), read_file(file)
    yaml = file.suffix.lower() in (".yaml", ".yml")
    ask: dict[str, Any] = {"format": "yaml" if yaml else "table"}
    if replace:
        with err.status(f"reading {file.name}"):
            change = api.upload("/racks:import", body, **ask, replace=True, dry_run=True)
        sentence = f"{change['removed']} planned slots go, {change['slots']} come."
        confirmed(sentence, str(change["removed"]), yes)
        ask |= {"replace": True, "removes": change["removed"]}
    with err.status(f"importing {file.name}"):
        change = api.upload("/racks:import", body, **ask)
    show.one(change, output)


def confirmed(sentence: str, count: str, yes: bool) -> None:
    """Print what goes; without `yes` the count must be typed, unless nothing goes."""
    err.print(show.cell(sentence), soft_wrap=True)
    if yes or count == "0":
        return
    typed = typer.prompt(f"Type {count} to replace them", default="", show_default=False)
    if typed.strip() != count:
        err.print("nothing was done")
        raise typer.Exit(REFUSED)


@app.command("list")
def listed(output: show.Output = show.Format.TABLE) -> None:
    """Every planned rack: slots planned, servers found, slots right and wrong."""
    show.rows(list(client().pages("/racks")), COLUMNS, output)


@app.command("show")
def shown(rack: str, output: show.Output = show.Format.TABLE) -> None:
    """Draw one rack, top unit first, and what to do in it.

    Example: seed rack show r3
    """
    found = _rack(client(), rack)
    if output is not show.Format.TABLE:
        show.one(found, output)
        return
    for text in [*rack_text.drawing(found), "", *rack_text.work(found["work"])]:
        show.out.print(text, soft_wrap=True)


@app.command()
def work(
    technician: Technician = "",
    rack: RackOption = "",
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until Ctrl-C.")] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """What is to be done, one physical action per line. Empty: the room is as planned.

    Example: seed rack work --technician ann --rack r3
    """
    api = client()
    with _live(watch) as update:
        while True:
            lines = api.get("/racks:work", technician=technician or None, rack=rack or None)
            if not watch:
                break
            update("\n".join(rack_text.work(lines)))
            time.sleep(WATCH_SECONDS)
    if output is not show.Format.TABLE:
        show.one(lines, output)
        return
    for text in rack_text.work(lines):
        show.out.print(text, soft_wrap=True)


@app.command()
def locate(
    what: Annotated[str, typer.Argument(metavar="LINE|SLOT", help="A line's id, or r3u17.")],
    on: Annotated[bool, typer.Option("--on/--off", help="Switch it on or off.")],
) -> None:
    """Blink the servers of a line of work, or the one in a slot.

    Example: seed rack locate r3u17 --on
    """
    api = client()
    addresses = _of_line(api, what) or _in_slot(api, what)
    for address in addresses:
        if problem := _blink(api, address, on):
            fail(problem, f"seed bmc show {address}")
        show.out.print(f"{address}: the locate LED is {'on' if on else 'off'}")


@app.command()
def scan(
    label: Annotated[
        str, typer.Argument(metavar="[TEXT]", help="What the label says; else lines of stdin.")
    ] = "",
    blink: Annotated[bool, typer.Option(help="Blink the server that is meant.")] = True,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Show the slot of the server whose serial or QR label was read, and blink it.

    Without TEXT it reads one label per line, as scanners send them; each one puts the LED of the
    one before off.

    Example: seed rack scan SN0001
    """
    api = client()
    if label:
        found = _scanned(api, label, output)
        if blink and found["address"]:
            _try_blink(api, found["address"], on=True)
        return
    lit = ""
    for line in filter(str.strip, sys.stdin):
        try:
            lit = _follow(api, _scanned(api, line.strip(), output)["address"], lit, blink)
        except ClientError as error:  # the next label may be better
            say(error)
    _follow(api, "", lit, blink)


def _follow(api: Seed, address: str, lit: str, blink: bool) -> str:
    """Blink `address` instead of `lit`; which one blinks now."""
    if blink and address != lit:
        for one, on in ((lit, False), (address, True)):
            if one:
                _try_blink(api, one, on)
    return address


@app.command()
def report(
    format_: Annotated[Paper, typer.Option("--format", help="csv, or html to print.")],
    to: Annotated[Path | None, typer.Option(help="Write it there; else standard output.")] = None,
) -> None:
    """All racks on paper: drawings, verdicts, work with boxes to tick.

    Example: seed rack report --format html --to racks.html
    """
    from ipxe.render import write_atomic
    from seed import rack_report

    with err.status("asking for all racks"):
        found = client().get("/racks:report")
    text = rack_report.sheet(found) if format_ is Paper.CSV else rack_report.page(found)
    if to is None:
        sys.stdout.write(text)
        return
    try:
        write_atomic(to, text)
    except OSError as problem:
        fail(f"cannot write {to}: {problem.strerror}", f"ls -ld {to.parent}", USAGE)
    err.print(f"written: {show.cell(to)}", soft_wrap=True)


# --- what verbs share -----------------------------------------------------------------------------


def _rack(api: Seed, name: str) -> Any:  # noqa: ANN401
    """ "r3", "row/r3" or "site/row/r3"."""
    words = [part(word) for word in name.split("/")]
    where = dict(zip(("row", "site"), reversed(words[:-1]), strict=False))
    return api.get(f"/racks/{words[-1]}", **where)


def _of_line(api: Seed, identity: str) -> list[str]:
    """Addresses of a line's BMCs; none if there is no such line."""
    for line in api.get("/racks:work"):
        if line["id"] == identity:
            if not line["bmcs"]:
                fail(f"no server answers there: {line['text']}", "Look for the slot's number.")
            return list(line["bmcs"])
    return []


def _in_slot(api: Seed, label: str) -> list[str]:
    match = _SLOT.fullmatch(label)
    if not match:
        fail(f"there is no line {label!r}", "See the lines: `seed rack work`.")
    unit = int(match[2])
    for slot in _rack(api, match[1])["slots"]:
        if slot["unit"] <= unit < slot["unit"] + slot["height"]:
            if not slot["address"]:
                fail(f"nobody knows which server is in {label}", f"`seed rack show {match[1]}`")
            return [slot["address"]]
    fail(f"nothing is planned in {label}", f"`seed rack show {match[1]}`")


def _scanned(api: Seed, label: str, output: show.Format) -> dict[str, Any]:
    found: dict[str, Any] = api.get("/racks:scan", text=label)
    if output is not show.Format.TABLE:
        show.one(found, output)
        return found
    slot = found["slot"] or {}
    place = f"{slot['slot']}, {slot['verdict']}" if slot else "in no plan"
    if slot and slot["sits"] not in ("", slot["slot"]):
        place += f"; its cables say it is in {slot['sits']}"
    name = f"serial {found['serial']}" if found["serial"] else found["address"]
    show.out.print(f"[bold]{show.cell(name)}: {show.cell(place)}[/bold]", soft_wrap=True)
    if found["work"]:
        for text in rack_text.work(found["work"]):
            show.out.print(text, soft_wrap=True)
    if not found["address"]:
        show.out.print("no BMC of it was found: nothing to blink")
    return found


def _blink(api: Seed, address: str, on: bool) -> str:
    """Switch a locate LED, and wait until the BMC did. What went wrong, in words."""
    until = time.monotonic() + BLINK_SECONDS
    with err.status(f"{address}: locate LED"):
        found = api.post(f"/bmcs/{quote(address)}:locate", {"on": on})
        while found["led_waits"]:
            if time.monotonic() > until:
                return f"the BMC {address} did not switch its LED within {BLINK_SECONDS} s"
            time.sleep(0.3)
            found = api.get(f"/bmcs/{quote(address)}")
    return str(found["led_problem"])


def _try_blink(api: Seed, address: str, on: bool) -> None:
    """A server that does not blink is not the end of a scan."""
    if problem := _blink(api, address, on):
        err.print(f"[yellow]warning:[/yellow] {show.cell(problem)}", soft_wrap=True)


@contextmanager
def _live(watch: bool) -> Iterator[Any]:
    if not watch:
        yield None
        return
    with Live(console=show.out, auto_refresh=False, screen=False) as live:
        yield lambda text: live.update(Group(text), refresh=True)
