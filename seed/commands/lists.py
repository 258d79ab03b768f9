"""seed packing-list ..., seed import, seed observation ..."""

from pathlib import Path
from typing import Annotated, Any

import typer

from seed import show
from seed.commands.door import USAGE, client, err, fail

packing = typer.Typer(no_args_is_help=True, help="What vendors say they sent.")
observed = typer.Typer(no_args_is_help=True, help="Every server that anybody saw or announced.")
DONE = {
    "name": "LIST", "format": "FORMAT", "servers": "SERVERS", "new": "NEW", "gone": "GONE",
    "logins": "LOGINS", "ignored": "COLUMNS NOT KEPT",
}  # fmt: skip
LISTS = {"name": "LIST", "source": "SOURCE", "servers": "SERVERS"}
LINES = {
    "status": "STATUS", "serial": "SERIAL", "bmc_mac": "BMC MAC", "bmc_address": "ADDRESS",
    "model": "MODEL", "asset_tag": "ASSET", "where": "WHERE",
}  # fmt: skip
BOXES = {
    "state": "STATE", "bmc_address": "ADDRESS", "serial": "SERIAL", "name": "NAME",
    "model": "MODEL", "sources": "SOURCES",
}  # fmt: skip
WORDS = {
    "source": "SOURCE", "origin": "FROM", "serial": "SERIAL", "bmc_mac": "BMC MAC",
    "bmc_address": "ADDRESS", "system_uuid": "UUID",
}  # fmt: skip
File = Annotated[Path, typer.Argument(help="A file on this machine; its name is the list's name.")]


@packing.command("import")
def import_list(
    file: File,
    username: Annotated[str, typer.Option(help="BMC user of rows that name none.")] = "",
    accept_matches: Annotated[
        bool,
        typer.Option(
            "--accept-matches",
            help="Accept by itself, in your name, what has a row's BMC MAC and serial number.",
        ),
    ] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Read a vendor's list (CSV or XLSX): all of it, or none. Again: it is replaced.

    Example: seed packing-list import pallet-7.csv --username root
    """
    body = read_file(file)
    with err.status(f"reading {file.name}, sealing its passwords, looking up host names"):
        done = client().upload(
            "/packing-lists", body, name=file.name, username=username, accept_matches=accept_matches
        )
    _show_done(done, output)


@packing.command("list")
def lists(output: show.Output = show.Format.TABLE) -> None:
    """Every packing list and imported file."""
    show.rows(list(client().pages("/packing-lists")), LISTS, output)


@packing.command()
def diff(
    name: Annotated[str | None, typer.Argument(help="All lists, if none is named.")] = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """What arrived, what is missing, and what is here but on no list.

    Example: seed packing-list diff pallet-7.csv
    """
    show.rows(_called(client().get("/packing-lists:diff", name=name)), LINES, output)


def import_file(
    file: File,
    file_format: Annotated[
        str | None, typer.Option("--format", help="How to read it, if Seed guesses wrong.")
    ] = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Take over another tool's list of servers; nothing is enrolled before `seed bmc accept`.

    Reads Bifrost's baremetal.json, .yml and .csv, files of `baremetal create`, TripleO's
    instackenv.json and Metal3's BareMetalHosts with their Secrets.

    Example: seed import baremetal.json
    """
    body = read_file(file)
    with err.status(f"reading {file.name}, sealing its passwords, looking up host names"):
        done = client().upload("/imports", body, name=file.name, format=file_format)
    _show_done(done, output)


def _show_done(done: dict[str, Any], output: show.Format) -> None:
    show.rows([done], DONE, output)
    if output is show.Format.TABLE and done["hosts"]:
        show.out.print("BMC HOST NAMES", *done["hosts"], sep="\n  ", markup=False)


def read_file(file: Path) -> bytes:
    """Its bytes, or one sentence and the end of the program."""
    try:
        return file.read_bytes()
    except OSError as problem:
        fail(f"cannot read {file}: {problem.strerror}", f"ls -l {file}", USAGE)


def _called(boxes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With what a person calls each, for the problems below the table."""
    return [
        {**box, "address": box["bmc_address"] or box["serial"] or box["bmc_mac"]} for box in boxes
    ]


@observed.command("list")
def boxes(output: show.Output = show.Format.TABLE) -> None:
    """One row per server, whoever told of it."""
    show.rows(_called(list(client().pages("/observations"))), BOXES, output)


@observed.command("show")
def box(
    name: Annotated[str, typer.Argument(help="Serial, UUID, MAC, BMC address or node's name.")],
    output: show.Output = show.Format.TABLE,
) -> None:
    """One server, and who said what of it.

    Example: seed observation show ABC1234
    """
    found: dict[str, Any] = client().get("/observations", match=name)[0]
    words = found["words"]
    if output is not show.Format.TABLE:
        show.one(found, output)
        return
    show.one({k: v for k, v in found.items() if k != "words"}, output)
    show.rows(words, WORDS, output)


@observed.command()
def forget(
    name: Annotated[str, typer.Argument(help="Serial, UUID, MAC, BMC address or node's name.")],
    source: Annotated[
        str | None, typer.Option(help="Only this one's word: packing-list, import, lease, ramdisk.")
    ] = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Drop what lists, leases and ramdisks said of a server; what a sweep found stays.

    Example: seed observation forget ABC1234 --source lease
    """
    show.one(client().post("/observations:forget", {"name": name, "source": source}), output)
