"""seed network ..., seed layout ..."""

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from seed import show
from seed.commands.door import REFUSED, client, err, fail, part
from seed.commands.hardware_class import text_of

app = typer.Typer(no_args_is_help=True, help="Networks of nodes: VLANs, pools, VIPs.")
layout = typer.Typer(no_args_is_help=True, help="How nodes' NICs are used: bonds, VLANs, bridges.")
COLUMNS = {"name": "NETWORK", "role": "ROLE", "vlan": "VLAN", "mtu": "MTU", "cidrs": "SUBNETS",
           "given": "GIVEN"}  # fmt: skip
ADDRESSES = {"address": "ADDRESS", "kind": "KIND", "node": "NODE", "claim": "CLAIM",
             "label": "LABEL"}  # fmt: skip
LAYOUTS = {"name": "LAYOUT", "nics": "NICS", "links": "LINKS", "networks": "NETWORKS"}
File = Annotated[Path, typer.Argument(help="YAML; - for standard input.")]


@app.command("list")
def listed(output: show.Output = show.Format.TABLE) -> None:
    """Every network."""
    show.rows(list(client().pages("/networks")), COLUMNS, output)


@app.command("show")
def shown(name: str, output: show.Output = show.Format.TABLE) -> None:
    """One network: its document, and who has which address of it.

    Example: seed network show storage
    """
    api = client()
    found = api.get(f"/networks/{part(name)}")
    found["addresses"] = list(api.pages(f"/networks/{part(name)}/addresses"))
    if output is not show.Format.TABLE:
        show.one(found, output)
        return
    typer.echo(found["text"])
    show.rows(found["addresses"], ADDRESSES, output)


@app.command()
def put(file: File, output: show.Output = show.Format.TABLE) -> None:
    """Keep a network, or a new version of it. What somebody relies on is not changed.

    Example: seed network put storage.yaml
    """
    found = _put("networks", file)
    show.rows([found], COLUMNS, output)
    if found["document"].get("relayed"):
        err.print("relayed ranges count from dnsmasq's next start on: `seed down`, then `seed up`")


@app.command()
def delete(name: str, output: show.Output = show.Format.TABLE) -> None:
    """Forget a network that nobody uses, with its VIPs and reservations.

    Example: seed network delete storage
    """
    _gone(client().delete(f"/networks/{part(name)}"), output)


@app.command()
def reserve(
    network: str,
    address: str,
    why: Annotated[str, typer.Option(help="For those who find it taken.")] = "",
    output: show.Output = show.Format.TABLE,
) -> None:
    """Keep an address from being given to a node.

    Example: seed network reserve storage 10.40.0.50 --why "old filer"
    """
    path = f"/networks/{part(network)}/addresses/{part(address)}"
    show.rows([client().put(path, {"why": why})], ADDRESSES, output)


@app.command()
def vip(
    network: str,
    name: Annotated[str, typer.Argument(help="Of the service.")],
    address: Annotated[str, typer.Argument(help="Outside the pools; else Seed chooses.")] = "",
    output: show.Output = show.Format.TABLE,
) -> None:
    """An address for a service that moves between nodes; the same one each time.

    Example: seed network vip api kube-api
    """
    path = f"/networks/{part(network)}/vips/{part(name)}"
    show.rows([client().put(path, {"address": address})], ADDRESSES, output)


@app.command()
def free(network: str, address: str, output: show.Output = show.Format.TABLE) -> None:
    """Free a reservation or a VIP. What nodes have is given back by their claims.

    Example: seed network free storage 10.40.0.50
    """
    _gone(client().delete(f"/networks/{part(network)}/addresses/{part(address)}"), output)


@layout.command("list")
def layouts(output: show.Output = show.Format.TABLE) -> None:
    """Every layout."""
    show.rows(list(client().pages("/layouts")), LAYOUTS, output)


@layout.command("show")
def shown_layout(name: str, output: show.Output = show.Format.TABLE) -> None:
    """One layout: its document.

    Example: seed layout show bonded
    """
    found = client().get(f"/layouts/{part(name)}")
    if output is show.Format.TABLE:
        typer.echo(found["text"], nl=False)
    else:
        show.one(found, output)


@layout.command("put")
def put_layout(file: File, output: show.Output = show.Format.TABLE) -> None:
    """Keep a layout, or a new version of it. Claims that live keep theirs.

    Example: seed layout put bonded.yaml
    """
    show.rows([_put("layouts", file)], LAYOUTS, output)


@layout.command("delete")
def delete_layout(name: str, output: show.Output = show.Format.TABLE) -> None:
    """Forget a layout.

    Example: seed layout delete bonded
    """
    _gone(client().delete(f"/layouts/{part(name)}"), output)


def _put(noun: str, file: Path) -> dict[str, Any]:
    text = text_of(file)
    found: dict[str, Any] = client().put(f"/{noun}/{part(_name(text, file))}", {"text": text})
    return found


def _name(text: str, file: Path) -> str:
    """What the document calls itself; all else of it is the API's to judge."""
    try:
        told = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        told = {}  # the API says where it is wrong
    name = told.get("name") if isinstance(told, dict) else None
    if name is None and not isinstance(told, dict):
        fail(f"{file} is not a map of keys and values", "docs/networks.md shows one.", REFUSED)
    return str(name or file.stem)


def _gone(names: list[str], output: show.Format) -> None:
    show.rows([{"name": name} for name in names], {"name": "GONE"}, output)
