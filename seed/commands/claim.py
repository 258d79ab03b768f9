"""seed claim ..."""

from pathlib import Path
from typing import Annotated, Any

import typer

from seed import known_hosts as known
from seed import show, when
from seed.client import Seed
from seed.commands.confirm import give_back
from seed.commands.door import REFUSED, USAGE, client, err, fail, part
from seed.commands.wishes import text_of, wishing

app = typer.Typer(no_args_is_help=True, help="Servers with an image on them, for you.")
COLUMNS = {
    "name": "CLAIM", "whose": "PROJECT", "state": "STATE", "count": "NODES",
    "resource_class": "CLASS", "image": "IMAGE", "ends": "ENDS", "detail": "NOW",
}  # fmt: skip
WHY = {"node": "NODE", "why": "WHY NOT"}
SHOWN_NODES = 40
WaitFlag = Annotated[bool, typer.Option("--wait", help="Follow it to the end.")]
Timeout = Annotated[int, typer.Option(min=1, help="Seconds to wait at most.")]
Why = Annotated[str, typer.Option(help="Kept with who did it and when.")]
Keys = Annotated[list[Path], typer.Option(help="Public key file; may be repeated.")]


@app.command()
@wishing
def create(
    name: str,
    ssh_key: Keys,
    wishes: dict[str, Any],
    wait: WaitFlag = False,
    timeout: Timeout = 7200,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Ask for servers with IMAGE on them. Safe to repeat: the same wish is the same claim.

    Example: seed claim create web --image debian --count 2 --ssh-key ~/.ssh/id_ed25519.pub --wait
    """
    api = client()
    body = {**wishes, "name": name, "ssh_keys": [text_of(path).strip() for path in ssh_key]}
    claim = api.put(f"/claims/{part(name)}", body)
    if wait:
        claim = follow(api, claim["id"], "active", timeout)
    _print(claim, output)


@app.command()
@wishing
def explain(
    wishes: dict[str, Any],
    name: Annotated[str, typer.Argument(help="As it would be called.")] = "explained",
    ssh_key: Annotated[list[Path] | None, typer.Option(help="Public key file.")] = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """What would become of such a claim: which rule keeps which node away. Nothing is held.

    Ends with 1 when it cannot be had now.

    Example: seed claim explain --image debian --count 8 --spread rack --memory 256
    """
    keys = [text_of(path).strip() for path in ssh_key or ()]
    found = client().post("/claims:explain", {**wishes, "name": name, "ssh_keys": keys})
    if output is show.Format.TABLE:
        _explained(found)
    else:
        show.one(found, output)
    if not found["fits"]:
        raise typer.Exit(REFUSED)


def _explained(found: dict[str, Any]) -> None:
    show.out.print(show.cell(found["sentence"]), soft_wrap=True)
    if found["fits"]:
        show.out.print(f"it would get: {show.cell(found['chosen'])}", soft_wrap=True)
    elif found["free_at"]:
        far = when.short(found["free_at"])
        show.out.print(f"it could be had about {when.local(found['free_at'])}, {far}")
    whys = found["nearest"] | {node: why for node, why in found["nodes"].items() if why}
    rows = [{"node": node, "why": "; ".join(why)} for node, why in whys.items()]
    if rows:
        show.out.print(show.group(rows[:SHOWN_NODES], WHY))
    if len(rows) > SHOWN_NODES:
        show.out.print(f"and {len(rows) - SHOWN_NODES} more: -o json")


@app.command("list")
def listed(
    ended: Annotated[bool, typer.Option(help="Released ones too.")] = False,
    state: Annotated[str | None, typer.Option(help="Only those: active, queued, ...")] = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Your project's claims, or all that you may see. ENDS: when the lease is over."""
    api = client()
    found = list(api.pages("/claims", ended=ended, state=state, project=api.project or None))
    nodes = 0
    if output is show.Format.TABLE:
        nodes = sum(bool(c["cluster"]) for c in found)
        found = [c for c in found if not c["cluster"]]
        several = len({c["project"] for c in found}) > 1
        found = [
            c
            | {
                "ends": when.short(c["lease_end"]) if not c["ended_at"] else "",
                "whose": c["project"] if several else "",
            }
            for c in found
        ]
    show.rows(found, COLUMNS, output)
    if nodes:
        err.print(f"{nodes} more are nodes of clusters: seed cluster list")


@app.command("show")
def shown(name: str, output: show.Output = show.Format.TABLE) -> None:
    """One claim and what was handed out.

    Example: seed claim show web
    """
    _print(client().get(f"/claims/{part(name)}"), output)


@app.command()
def renew(
    name: str,
    ends: Annotated[
        str | None, typer.Option(help="2026-12-01 08:00 in your time zone, or 3d from now.")
    ] = None,
    lasts: Annotated[str | None, typer.Option("--for", help="So long from now: 12h, 3d.")] = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Keep a claim longer, or shorter.

    Example: seed claim renew web --for 3d
    """
    if (ends is None) == (lasts is None):
        fail("neither or both of --ends and --for", f"seed claim renew {name} --for 3d", USAGE)
    body = (
        {"ends_at": when.moment(ends).isoformat()}
        if ends
        else {"lease_seconds": when.seconds(lasts or "")}
    )
    _print(client().post(f"/claims/{part(name)}:renew", body), output)


@app.command()
def protect(name: str, why: Why = "", output: show.Output = show.Format.TABLE) -> None:
    """Neither released by mistake, nor by the end of its lease.

    Example: seed claim protect web
    """
    _print(client().post(f"/claims/{part(name)}:protect", {"why": why}), output)


@app.command()
def unprotect(name: str, why: Why = "", output: show.Output = show.Format.TABLE) -> None:
    """It can be released again, and its lease counts again.

    Example: seed claim unprotect web
    """
    _print(client().post(f"/claims/{part(name)}:unprotect", {"why": why}), output)


@app.command()
def prioritize(
    name: str,
    priority: Annotated[int, typer.Argument(min=0, max=100, help="Higher comes first.")],
    output: show.Output = show.Format.TABLE,
) -> None:
    """Where a claim stands in the queue.

    Example: seed claim prioritize web 50
    """
    _print(client().post(f"/claims/{part(name)}:prioritize", {"priority": priority}), output)


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
    """Give the servers back: off now, disks erased when the undo window is over.

    Example: seed claim release web
    """
    api = client()
    claim = give_back(
        api, f"/claims/{part(name)}", lambda seen: seen["wanted"] == "released", yes,
        {"now": now, "why": why},
    )  # fmt: skip
    if wait:
        claim = follow(api, claim["id"], "released", timeout)
    _print(claim, output)


@app.command()
def undo(name: str, output: show.Output = show.Format.TABLE) -> None:
    """Take a release back while the disks are untouched.

    Example: seed claim undo web
    """
    _print(client().post(f"/claims/{part(name)}:undo"), output)


@app.command("ssh-config")
def ssh_config(name: str) -> None:
    """Host blocks for ~/.ssh/config, one per server of an active claim.

    Example: seed claim ssh-config web >~/.ssh/seed-web.conf
    """
    typer.echo(client().claims.ssh_config(name), nl=False)


@app.command("known-hosts")
def known_hosts(
    name: str,
    write: Annotated[
        bool, typer.Option("--write", help="Put them into FILE; stale lines of them go.")
    ] = False,
    file: Annotated[Path, typer.Option(help="Where to.")] = Path("~/.ssh/known_hosts"),
) -> None:
    """The SSH host keys that a claim's servers reported themselves; printed, unless told to write.

    Example: seed claim known-hosts web --write
    """
    lines = client().claims.known_hosts(name)
    if not write:
        typer.echo(lines, nl=False)
        return
    try:
        stale = known.refresh(file.expanduser(), lines)
    except (OSError, UnicodeDecodeError) as problem:
        fail(f"cannot write {file}: {problem}", f"ls -l {file}", USAGE)
    gone = f", {stale} stale removed" if stale else ""
    err.print(f"{len(lines.splitlines())} host keys are in {show.cell(file)}{gone}")


def follow(api: Seed, identity: str, state: str, timeout: int) -> dict[str, Any]:
    """Until the claim is in `state`; ends the program when it is stuck or takes too long."""
    with err.status("...") as progress:
        claim = api.claims.wait(
            identity,
            state,
            timeout,
            lambda c: progress.update(f"{c.name} {c.state}: {show.cell(c.detail)}"),
        )
    return claim.model_dump(mode="json")


def _print(claim: dict[str, Any], output: show.Format) -> None:
    if output is not show.Format.TABLE:
        show.one(claim, output)
        return
    names = (
        "name", "project", "state", "since", "count", "image", "resource_class", "starts_at",
        "lease_end", "priority", "expected_at", "detail", "problem", "remedy", "undo_until",
    )  # fmt: skip
    facts = {name: claim.get(name) for name in names}
    facts["priority"] = claim.get("priority") if claim["state"] == "queued" else None
    facts = when.shown(facts, "since", "starts_at", "lease_end", "expected_at", "undo_until")
    show.fields(facts | ({"protected": "yes"} if claim.get("protected") else {}))
    for node in (claim["handout"] or {}).get("nodes", []):
        place = f", {node['rack']}u{node['unit']}" if node["rack"] else ""
        login = "@".join(filter(None, (node["ssh_user"], node["address"])))
        show.out.print(f"  {node['name']}  {login}  on {node['node_name']}{place}")
