"""seed cluster ..."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml

from seed import show
from seed.commands import cluster_access, cluster_change
from seed.commands.claim import SHOWN_NODES, WHY, Timeout, WaitFlag, Why
from seed.commands.cluster_autoscaler import autoscaler
from seed.commands.cluster_show import follow, printed
from seed.commands.confirm import give_back
from seed.commands.door import REFUSED, USAGE, client, fail, part
from seed.commands.hardware_class import text_of as document
from seed.commands.wishes import text_of

app = typer.Typer(no_args_is_help=True, help="Kubernetes, or a swarm, on servers of yours.")
app.command()(cluster_change.scale)
app.command()(cluster_change.replace)
app.command()(cluster_change.upgrade)
app.command()(cluster_access.kubeconfig)
app.command()(cluster_access.check)
app.command()(autoscaler)
COLUMNS: Final = {
    "name": "CLUSTER", "whose": "PROJECT", "kind": "KIND", "version": "VERSION",
    "state": "STATE", "nodes": "NODES", "vip": "VIP", "detail": "NOW",
}  # fmt: skip
PLANNED: Final = {
    "name": "MEMBER", "node": "NODE", "address": "ADDRESS", "interface": "NIC", "where": "PLACE",
}  # fmt: skip
GivenSecrets = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=FILE", help="What options of add-ons name; repeatable."),
]
File = Annotated[Path, typer.Argument(help="YAML; - for standard input.")]


@app.command()
def create(
    file: File,
    ssh_key: Annotated[
        list[Path] | None, typer.Option(help="Public key file, beside the file's; repeatable.")
    ] = None,
    secret: GivenSecrets = None,
    wait: WaitFlag = False,
    timeout: Timeout = 7200,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Make a cluster as FILE says. Safe to repeat: the same wish is the same cluster.

    Example: seed cluster create web.yaml --ssh-key ~/.ssh/id_ed25519.pub --wait
    """
    api, wish = client(), _wish(file, ssh_key, secret)
    cluster = api.put(f"/clusters/{part(str(wish.get('name') or ''))}", wish)
    if wait:
        cluster = follow(api, cluster["id"], "ready", timeout)
    printed(cluster, output)


@app.command()
def plan(
    file: File,
    ssh_key: Annotated[list[Path] | None, typer.Option(help="Public key file.")] = None,
    secret: GivenSecrets = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Who would go where, with which addresses, or what is missing. Nothing is held.

    Ends with 1 when it cannot be had now.

    Example: seed cluster plan web.yaml
    """
    found = client().post("/clusters:plan", _wish(file, ssh_key, secret))
    if output is show.Format.TABLE:
        _planned(found)
    else:
        show.one(found, output)
    if not found["fits"]:
        raise typer.Exit(REFUSED)


def _planned(found: dict[str, Any]) -> None:
    show.out.print(show.cell(found["sentence"]), soft_wrap=True)
    if not found["fits"]:
        show.out.print(show.cell(found["remedy"]), soft_wrap=True)
        whys = [{"node": node, "why": why} for node, why in found["reasons"].items()]
        if whys:
            show.out.print(show.group(whys[:SHOWN_NODES], WHY))
        return
    version = f"{found['version']}, " if found["version"] else ""
    show.out.print(f"{version}its API at {found['vip']}:{found['api_port']}")
    for addon, ranges in found["ranges"].items():
        show.out.print(f"{addon}: {', '.join(ranges)}", soft_wrap=True)
    rows = [node | {"where": _place(node["labels"])} for node in found["nodes"]]
    show.out.print(show.group(rows, PLANNED))


def _place(labels: dict[str, str]) -> str:
    return f"{labels['rack']}u{labels['unit']}" if "rack" in labels else ""


@app.command("list")
def listed(
    ended: Annotated[bool, typer.Option(help="Released ones too.")] = False,
    state: Annotated[str | None, typer.Option(help="Only those: ready, degraded, ...")] = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Your project's clusters, or all that you may see."""
    found = list(client().pages("/clusters", ended=ended, state=state))
    if output is show.Format.TABLE:
        several = len({c["project"] for c in found}) > 1
        found = [
            c
            | {
                "nodes": len(c["members"]),
                "whose": c["project"] if several else "",
                "detail": c["problem"] or c["detail"],
            }
            for c in found
        ]
    show.rows(found, COLUMNS, output)


@app.command("show")
def shown(name: str, output: show.Output = show.Format.TABLE) -> None:
    """One cluster, its members and what each of them does now.

    Example: seed cluster show web
    """
    printed(client().get(f"/clusters/{part(name)}"), output)


@app.command()
def release(
    name: str,
    now: Annotated[bool, typer.Option("--now", help="No undo window.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    why: Why = "",
    wait: WaitFlag = False,
    timeout: Timeout = 7200,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Give all of its servers back: off now, disks erased when the undo window is over.

    Example: seed cluster release web
    """
    api = client()
    cluster = give_back(
        api, f"/clusters/{part(name)}", lambda seen: bool(seen["released"]), yes,
        {"now": now, "why": why},
    )  # fmt: skip
    if wait:
        cluster = follow(api, cluster["id"], "released", timeout)
    printed(cluster, output)


@app.command()
def undo(name: str, output: show.Output = show.Format.TABLE) -> None:
    """Take a release back while the disks are untouched.

    Example: seed cluster undo web
    """
    printed(client().post(f"/clusters/{part(name)}:undo"), output)


def _wish(
    file: Path, ssh_key: list[Path] | None, secret: list[str] | None = None
) -> dict[str, Any]:
    try:
        wish = yaml.safe_load(document(file))
    except yaml.YAMLError as problem:
        fail(f"{file} is no YAML: {str(problem).splitlines()[0]}", f"Mend {file}.", USAGE)
    if not isinstance(wish, dict):
        fail(f"{file} says nothing about a cluster", "seed cluster create --help", USAGE)
    keys = [text_of(path).strip() for path in ssh_key or ()]
    if keys:
        wish["ssh_keys"] = [*(wish.get("ssh_keys") or []), *keys]
    if given := dict(_secret(word) for word in secret or ()):
        wish["secrets"] = {**(wish.get("secrets") or {}), **given}
    return wish


def _secret(word: str) -> tuple[str, str]:
    name, sign, path = word.partition("=")
    if not sign or not name or not path:
        fail("--secret is not NAME=FILE", "Write --secret ceph-key=./ceph.key.", USAGE)
    return name, text_of(Path(path))
