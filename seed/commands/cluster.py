"""seed cluster ..."""

import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml

from seed import show, when
from seed.client import Seed, Stuck, TooLong, Unavailable
from seed.commands.claim import Timeout, WaitFlag, Why
from seed.commands.confirm import confirm
from seed.commands.door import REFUSED, USAGE, client, err, fail, part
from seed.commands.hardware_class import text_of as document
from seed.commands.wishes import text_of

app = typer.Typer(no_args_is_help=True, help="Kubernetes, or a swarm, on servers of yours.")
COLUMNS: Final = {
    "name": "CLUSTER", "whose": "PROJECT", "kind": "KIND", "version": "VERSION",
    "state": "STATE", "nodes": "NODES", "vip": "VIP", "detail": "NOW",
}  # fmt: skip
MEMBERS: Final = {
    "name": "MEMBER", "node": "NODE", "address": "ADDRESS", "far": "STATE", "now": "NOW",
}  # fmt: skip
PLANNED: Final = {
    "name": "MEMBER", "node": "NODE", "address": "ADDRESS", "interface": "NIC", "where": "PLACE",
}  # fmt: skip
LOOK_SECONDS: Final = 1.0
PATIENCE: Final = 300.0
"""Seconds that Seed may be gone while a cluster is waited for."""
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
    _print(cluster, output)


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
    _print(client().get(f"/clusters/{part(name)}"), output)


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
    cluster = api.get(f"/clusters/{part(name)}")
    plan = {"hash": ""}
    if not cluster["released"]:
        plan = api.post(f"/clusters/{cluster['id']}:plan-release")
        confirm(plan, yes)
    body = {"plan": plan["hash"], "now": now, "why": why}
    cluster = api.post(f"/clusters/{cluster['id']}:release", body)
    if wait:
        cluster = follow(api, cluster["id"], "released", timeout)
    _print(cluster, output)


@app.command()
def undo(name: str, output: show.Output = show.Format.TABLE) -> None:
    """Take a release back while the disks are untouched.

    Example: seed cluster undo web
    """
    _print(client().post(f"/clusters/{part(name)}:undo"), output)


def follow(api: Seed, identity: str, state: str, timeout: float) -> dict[str, Any]:
    """Until it is in `state`. Raises Stuck, TooLong; Seed may be restarted meanwhile."""
    deadline = time.monotonic() + timeout
    seen = time.monotonic()
    with err.status("...") as progress:
        while True:
            try:
                cluster = dict(api.get(f"/clusters/{identity}"))
                seen = time.monotonic()
            except Unavailable:
                if time.monotonic() > min(deadline, seen + PATIENCE):
                    raise
                time.sleep(LOOK_SECONDS)
                continue
            progress.update(f"{cluster['name']} {cluster['state']}: {show.cell(cluster['detail'])}")
            if cluster["state"] == state:
                return cluster
            if cluster["problem"]:
                raise Stuck(cluster["problem"], cluster["remedy"])
            if cluster["ended_at"]:
                raise Stuck(f"{cluster['name']} was released", "`seed cluster list --ended`")
            if time.monotonic() > deadline:
                raise TooLong(
                    f"cluster {cluster['name']} is still {cluster['state']} after {timeout:.0f} s",
                    f"`seed cluster show {cluster['name']}`",
                )
            time.sleep(LOOK_SECONDS)


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


def _print(cluster: dict[str, Any], output: show.Format) -> None:
    if output is not show.Format.TABLE:
        show.one(cluster, output)
        return
    names = (
        "name", "project", "kind", "version", "state", "since", "image", "network", "detail",
        "problem", "remedy", "undo_until",
    )  # fmt: skip
    facts = {name: cluster.get(name) or None for name in names}
    facts["api"] = f"{cluster['vip']}:{cluster['api_port']}"
    show.fields(when.shown(facts, "since", "undo_until"))
    if cluster["members"]:
        show.out.print(show.group([_member(m) for m in cluster["members"]], MEMBERS))


def _member(member: dict[str, Any]) -> dict[str, Any]:
    """far: the claim's state until it is active, then how it joins."""
    if member["claim_state"] != "active":
        return member | {"far": member["claim_state"], "now": member["claim_detail"]}
    lacks = f"lacks {member['missing']}" if member["missing"] else member["step_detail"]
    if member["joined_at"] and member["step_state"] != "failed":
        return member | {"far": "joined", "now": ""}
    far = member["step_state"] or "booted"
    now = ": ".join(filter(None, (member["step"], lacks)))
    return member | {"far": far, "now": now}
