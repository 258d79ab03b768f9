"""seed claim ..."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from seed import show
from seed.client import REFUSED, TOO_LONG, USAGE, Client, err, fail, part
from seed.commands.bmc import client
from seed.commands.confirm import confirm

app = typer.Typer(no_args_is_help=True, help="Servers with an image on them, for you.")
COLUMNS = {
    "name": "CLAIM", "state": "STATE", "count": "NODES", "resource_class": "CLASS",
    "image": "IMAGE", "detail": "NOW",
}  # fmt: skip
WaitFlag = Annotated[bool, typer.Option("--wait", help="Follow it to the end.")]
Timeout = Annotated[int, typer.Option(min=1, help="Seconds to wait at most.")]


@app.command()
def create(
    name: str,
    image: Annotated[str, typer.Option(help="Published image, see `seed image list`.")],
    ssh_key: Annotated[list[Path], typer.Option(help="Public key file; may be repeated.")],
    count: Annotated[int, typer.Option(min=1, max=500)] = 1,
    resource_class: Annotated[str, typer.Option(help="See `seed node list`.")] = "baremetal",
    user_data: Annotated[Path | None, typer.Option(help="cloud-init user-data file.")] = None,
    wait: WaitFlag = False,
    timeout: Timeout = 7200,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Ask for COUNT servers with IMAGE on them. Safe to repeat: the same wish is the same claim.

    Example: seed claim create web --image debian --count 2 --ssh-key ~/.ssh/id_ed25519.pub --wait
    """
    api = client()
    body = {
        "name": name,
        "image": image,
        "count": count,
        "resource_class": resource_class,
        "ssh_keys": [_read(path).strip() for path in ssh_key],
        "user_data": _read(user_data) if user_data else "",
    }
    claim = api.put(f"/claims/{part(name)}", body)
    if wait:
        claim = follow(api, claim["id"], "active", timeout)
    _print(claim, output)


@app.command("list")
def listed(
    ended: Annotated[bool, typer.Option(help="Released ones too.")] = False,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Your project's claims."""
    show.rows(client().get("/claims", ended=ended), COLUMNS, output)


@app.command("show")
def shown(name: str, output: show.Output = show.Format.TABLE) -> None:
    """One claim and what was handed out.

    Example: seed claim show web
    """
    _print(client().get(f"/claims/{part(name)}"), output)


@app.command()
def release(
    name: str,
    now: Annotated[bool, typer.Option("--now", help="No undo window.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: WaitFlag = False,
    timeout: Timeout = 7200,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Give the servers back: off now, disks erased when the undo window is over.

    Example: seed claim release web
    """
    api = client()
    claim = api.get(f"/claims/{part(name)}")
    plan = {"hash": ""}
    if claim["wanted"] != "released":
        plan = api.post(f"/claims/{claim['id']}:plan-release")
        confirm(plan, yes)
    claim = api.post(f"/claims/{claim['id']}:release", {"plan": plan["hash"], "now": now})
    if wait:
        claim = follow(api, claim["id"], "released", timeout)
    _print(claim, output)


@app.command()
def undo(name: str, output: show.Output = show.Format.TABLE) -> None:
    """Take a release back while the disks are untouched.

    Example: seed claim undo web
    """
    _print(client().post(f"/claims/{part(name)}:undo"), output)


def follow(api: Client, identity: str, state: str, timeout: int) -> dict[str, Any]:
    """Until the claim is in `state`; ends the program when it is stuck or takes too long."""
    deadline = time.monotonic() + timeout
    with err.status("...") as progress:
        while True:
            claim: dict[str, Any] = api.get(f"/claims/{identity}")
            progress.update(f"{claim['name']} {claim['state']}: {show.cell(claim['detail'])}")
            if claim["state"] == state:
                return claim
            if claim["problem"]:
                fail(claim["problem"], claim["remedy"], REFUSED)
            if time.monotonic() > deadline:
                fail(
                    f"claim {claim['name']} is still {claim['state']} after {timeout} s",
                    f"seed claim show {claim['name']}",
                    TOO_LONG,
                )
            time.sleep(1)


def _read(path: Path) -> str:
    try:
        return path.expanduser().read_text()
    except OSError as problem:
        fail(f"cannot read {path}: {problem.strerror}", f"ls -l {path}", USAGE)
    except UnicodeDecodeError:
        fail(f"{path} is not a text file", f"file {path}", USAGE)


def _print(claim: dict[str, Any], output: show.Format) -> None:
    if output is not show.Format.TABLE:
        show.one(claim, output)
        return
    shown = {k: claim[k] for k in ("name", "project", "state", "since", "image", "resource_class")}
    shown |= {k: claim[k] for k in ("detail", "problem", "remedy", "undo_until")}
    show.fields(shown)
    for node in (claim["handout"] or {}).get("nodes", []):
        addresses = ", ".join(node["addresses"].values())
        show.out.print(f"  {node['name']}  {node['ssh_user']}@{addresses}  on {node['node_name']}")
