"""Verbs about this machine: init, up, down, status, doctor, logs, serve."""

import gc
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from seed import show
from seed.commands import break_glass
from seed.commands.door import REFUSED, err
from seed.config import settings
from seed.settings import Settings


class Process(StrEnum):
    API = "api"
    RECONCILER = "reconciler"
    IMAGES = "images"
    AUTOSCALER = "autoscaler"


def add_to(app: typer.Typer) -> None:
    for verb in (init, up, down, status, doctor, logs):
        app.command()(verb)
    app.command(hidden=True)(serve)


def init(
    management: Annotated[str, typer.Option(help="Interface people and programs reach Seed on.")],
    provisioning: Annotated[str, typer.Option(help="Interface of the wire servers boot from.")],
    out_of_band: Annotated[str, typer.Option(help="Interface towards the BMCs.")],
    namespace: Annotated[str, typer.Option(help="Network namespace to live in.")] = "",
    state_dir: Annotated[Path, typer.Option(help="Databases, keys, images.")] = Path(
        "/var/lib/seed"
    ),
    run_dir: Annotated[Path, typer.Option(help="Sockets.")] = Path("/run/seed"),
    log_dir: Annotated[Path, typer.Option(help="Logs.")] = Path("/var/log/seed"),
    undo_seconds: Annotated[int, typer.Option(min=0, help="Undo window of a release.")] = 600,
    discovery_ramdisk: Annotated[
        bool,
        typer.Option("--discovery-ramdisk", help="Unknown servers boot it, and say what they are."),
    ] = False,
    force: Annotated[bool, typer.Option(help="Replace an existing seed.toml.")] = False,
) -> None:
    """Write seed.toml for this machine's three networks.

    Example: seed init --management eno1 --provisioning eno2 --out-of-band eno3
    """
    from seed.host import setup
    from seed.settings import config_file

    _, warnings = setup.init(
        management=management,
        provisioning=provisioning,
        out_of_band=out_of_band,
        namespace=namespace,
        force=force,
        state_dir=state_dir,
        run_dir=run_dir,
        log_dir=log_dir,
        undo_seconds=undo_seconds,
        discovery_ramdisk=discovery_ramdisk,
    )
    for warning in warnings:
        err.print(f"[yellow]warning:[/yellow] {warning}", soft_wrap=True)
    typer.echo(f"wrote {config_file()}; next: seed up")


def up() -> None:
    """Start everything on this machine and wait until it answers."""
    from provisioning.store import Store  # half a second that no other verb needs
    from seed.host import appliance

    store = Store(settings().database_url)
    took = appliance.up(settings(), _say, prepare_database=store.create)
    typer.echo(f"ready in {took:.1f} s")


def down() -> None:
    """Stop everything on this machine. Servers go on as they are."""
    from seed.host import appliance

    appliance.down(settings(), _say)


def status(output: show.Output = show.Format.TABLE) -> None:
    """How each service on this machine is."""
    from seed.host import appliance

    rows = [asdict(s) for s in appliance.status(settings())]
    for row in rows:
        row["since"] = row["since"].isoformat(timespec="seconds") if row["since"] else ""
        row["memory_mb"] = round(row["memory_mb"], 1)
    columns = {
        "name": "SERVICE", "state": "STATE", "pid": "PID", "since": "SINCE",
        "restarts": "RESTARTS", "memory_mb": "MB",
    }  # fmt: skip
    show.rows(rows, columns, output)
    break_glass.warn(settings().api_socket)
    if any(row["state"] != "RUNNING" for row in rows):
        raise typer.Exit(REFUSED)


def doctor(output: show.Output = show.Format.TABLE) -> None:
    """Look at everything Seed needs on this machine, and say what to do about what is wrong."""
    from seed.host import checks, sign_on

    with _spinner("looking"):
        found = [*checks.doctor(settings()), *sign_on.findings(settings())]
    rows = [{**asdict(f), "ok": "ok" if f.ok else "WRONG"} for f in found]
    columns = {"ok": "", "check": "CHECK", "sentence": "SEEN", "remedy": "DO"}
    show.rows(rows, columns, output)
    break_glass.warn(settings().api_socket)
    if not all(f.ok for f in found):
        raise typer.Exit(REFUSED)


def logs(
    service: Annotated[str, typer.Argument(help="As in `seed status`.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as lines come.")] = False,
    lines: Annotated[int, typer.Option(min=1, help="How many of the last ones.")] = 100,
) -> None:
    """Print a service's log.

    Example: seed logs ironic --follow
    """
    from seed.host import appliance

    for line in appliance.logs(settings(), service, follow, lines):
        sys.stdout.write(line)


def serve(process: Process) -> None:
    """Run one of Seed's own services in the foreground; the supervisor calls this."""
    gc.disable()  # modules are no garbage: looking for some while they load is a seventh of a start
    run = _service(process)
    gc.freeze()
    gc.enable()
    run(settings())


def _service(process: Process) -> Callable[[Settings], None]:
    if process is Process.API:
        from seed.serve import serve_api as service
    elif process is Process.IMAGES:
        from seed.images_service import serve_images as service
    elif process is Process.AUTOSCALER:
        from seed.autoscaler.service import serve_autoscaler as service
    else:
        from seed.reconciler import serve_reconciler as service
    return service


def _say(step: str, seconds: float) -> None:
    err.print(f"{seconds:6.1f} s  {step}")


@contextmanager
def _spinner(what: str) -> Iterator[None]:
    begin = time.monotonic()
    with err.status(what):
        yield
    if time.monotonic() - begin > 2:
        _say(what, time.monotonic() - begin)
