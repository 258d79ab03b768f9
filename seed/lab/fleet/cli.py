"""`seed lab fleet`: thousands of BMCs without servers, to try sweeps, inventories and faults on."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import SecretStr, ValidationError

from provisioning.errors import Invalid, SeedError
from seed.lab.fleet.running import Control, running
from seed.lab.fleet.shapes import Shape
from seed.lab.fleet.spec import Lie, Spec
from seed.lab.host import run

app = typer.Typer(
    help="Thousands of BMCs without servers, in one process.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
SOCKETS = Path("/run/seed-fleet")
NamespaceOption = Annotated[str, typer.Option(help="Network namespace it lives in.")]
OWN = "seed-fleet"


def _control(namespace: str) -> Control:
    return Control(SOCKETS / f"{namespace}.sock")


@contextmanager
def sentences() -> Iterator[None]:
    """Print an error as its sentence and its remedy, and exit with 1."""
    try:
        yield
    except SeedError as error:
        typer.secho(f"error: {error}", fg="red", err=True)
        typer.secho(f"  try: {error.remedy}", err=True)
        raise typer.Exit(1) from error


@contextmanager
def _existing(namespace: str) -> Iterator[None]:
    """The namespace; made for the while if there is none of that name."""
    made = not (Path("/run/netns") / namespace).exists()
    if made:
        run("ip", "netns", "add", namespace)
    try:
        yield
    finally:
        if made:
            run("ip", "netns", "delete", namespace)


@app.command()
def up(
    bmcs: Annotated[int, typer.Option(help="How many.")] = 100,
    network: Annotated[str, typer.Option("--range", help="Spread over it.")] = "10.64.0.0/16",
    namespace: NamespaceOption = OWN,
    attach: Annotated[str, typer.Option(help="Namespace that reaches them, such as Seed's.")] = "",
    password_file: Annotated[
        Path | None, typer.Option(help="Else the password is `fleet`.")
    ] = None,
    speaks: Annotated[str, typer.Option(help="both, redfish, ipmi; several: in turn.")] = "both",
    login_seconds: Annotated[float, typer.Option(min=0)] = 0.0,
    get_seconds: Annotated[float, typer.Option(min=0)] = 0.0,
    loss: Annotated[float, typer.Option(min=0, max=0.9, help="Share lost each way.")] = 0.0,
) -> None:
    """Run a fleet until Ctrl-C: user admin, Redfish on TCP 443, the IPMI probe on UDP 623.

    Example: seed lab fleet up --bmcs 1000 --range 10.64.0.0/16
    """
    with sentences():
        facts = {
            "range": network, "bmcs": bmcs, "speaks": speaks.split(","), "loss": loss,
            "login_seconds": login_seconds, "get_seconds": get_seconds,
        }  # fmt: skip
        spec = _spec(facts, password_file)
        SOCKETS.mkdir(mode=0o700, exist_ok=True)
        with (
            _existing(namespace),
            running(spec, namespace, _control(namespace).path, attach) as fleet,
        ):
            typer.echo(f"{bmcs} BMCs answer in {network}, namespace {attach or namespace}")
            typer.echo(f"{fleet.bytes_per_bmc() / 1000:.1f} kB of memory for each; Ctrl-C ends it")
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                typer.echo(f"{fleet.bytes_per_bmc() / 1000:.1f} kB of memory for each at the end")


def _spec(facts: dict[str, Any], password_file: Path | None) -> Spec:
    password = password_file.read_text().strip() if password_file else "fleet"
    try:
        spec = Spec(password=SecretStr(password), **facts)
        spec.where()
    except ValidationError as err:
        first = err.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise Invalid(f"{place}: {first['msg']}", "seed lab fleet up --help") from err
    except ValueError as err:
        raise Invalid(str(err), "Give a larger --range, or fewer --bmcs.") from err
    return spec


@app.command("list")
def listed(namespace: NamespaceOption = OWN) -> None:
    """Every BMC as JSON: who it is, and what it counted (logins, failed logins, sessions)."""
    with sentences():
        typer.echo(json.dumps(_control(namespace).bmcs(), indent=2))


@app.command()
def lie(
    address: str,
    kind: Annotated[Lie | None, typer.Argument(help="None: the truth again.")] = None,
    namespace: NamespaceOption = OWN,
) -> None:
    """Let one BMC answer wrongly from now on.

    Example: seed lab fleet lie 10.64.0.1 hang
    """
    with sentences():
        _control(namespace).lie(address, kind)


@app.command()
def shape(
    address: str,
    kinds: Annotated[list[Shape] | None, typer.Argument(help="None: as plain as the rest.")] = None,
    namespace: NamespaceOption = OWN,
) -> None:
    """Let one BMC do honestly what some vendors do otherwise: pages, OEM places, an older LED.

    Example: seed lab fleet shape 10.64.0.1 dell paged
    """
    with sentences():
        _control(namespace).shape(address, *(kinds or []))
