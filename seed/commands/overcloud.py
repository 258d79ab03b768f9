"""seed overcloud ..."""

from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml

from seed import show, when
from seed.commands.claim import SHOWN_NODES, WHY, Timeout, WaitFlag, Why
from seed.commands.cluster import File
from seed.commands.cluster_show import MEMBERS, follow, member_line
from seed.commands.confirm import confirm, give_back
from seed.commands.door import REFUSED, USAGE, client, err, fail, part
from seed.commands.hardware_class import text_of as document
from seed.commands.overcloud_access import check, clouds, export, give, gives, import_
from seed.commands.wishes import text_of

app = typer.Typer(no_args_is_help=True, help="An OpenStack on servers of yours.")
app.command()(check)
app.command()(clouds)
app.command()(export)
app.command()(gives)
app.command()(give)
app.command("import")(import_)
COLUMNS: Final = {
    "name": "OVERCLOUD", "whose": "PROJECT", "installer": "INSTALLER", "state": "STATE",
    "nodes": "NODES", "vip": "VIP", "detail": "NOW",
}  # fmt: skip
PLANNED: Final = {
    "name": "NODE", "node": "SERVER", "place": "PLACE", "roles": "ROLES", "where": "ADDRESSES",
}  # fmt: skip
STAGES: Final = {
    "name": "STAGE", "state": "STATE", "tries": "TRIES", "took": "SECONDS", "task": "TASK",
    "hosts": "ON",
}  # fmt: skip
INSTALLERS: Final = {"name": "INSTALLER", "how": "HOW", "services": "SERVICES"}
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Keys = Annotated[
    list[Path] | None, typer.Option(help="Public key file, beside the file's; repeatable.")
]
Count = Annotated[int | None, typer.Option(min=0, help="So many there shall be.")]


@app.command()
def create(
    file: File,
    ssh_key: Keys = None,
    wait: WaitFlag = False,
    timeout: Timeout = 14400,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Make an overcloud as FILE says. Safe to repeat: the same wish is the same overcloud.

    Example: seed overcloud create cloud.yaml --ssh-key ~/.ssh/id_ed25519.pub --wait
    """
    api, wish = client(), _wish(file, ssh_key)
    made = api.put(f"/overclouds/{part(str(wish.get('name') or ''))}", wish)
    if wait:
        made = follow(api, made["id"], "ready", timeout, "overcloud")
    printed(made, output)


@app.command()
def plan(file: File, ssh_key: Keys = None, output: show.Output = show.Format.TABLE) -> None:
    """What goes where, what is missing, which addresses collide. Nothing is held.

    Ends with 1 when it cannot be had now.

    Example: seed overcloud plan cloud.yaml
    """
    found = client().post("/overclouds:plan", _wish(file, ssh_key))
    if output is show.Format.TABLE:
        _planned(found)
    else:
        show.one(found, output)
    if not found["fits"]:
        raise typer.Exit(REFUSED)


@app.command("list")
def listed(
    ended: Annotated[bool, typer.Option(help="Released ones too.")] = False,
    state: Annotated[str | None, typer.Option(help="Only those: ready, degraded, ...")] = None,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Your project's overclouds, or all that you may see."""
    found = list(client().pages("/overclouds", ended=ended, state=state))
    if output is show.Format.TABLE:
        several = len({one["project"] for one in found}) > 1
        found = [
            one
            | {
                "nodes": len(one["members"]),
                "whose": one["project"] if several else "",
                "detail": one["problem"] or one["detail"],
            }
            for one in found
        ]
    show.rows(found, COLUMNS, output)


@app.command("show")
def shown(name: str, output: show.Output = show.Format.TABLE) -> None:
    """One overcloud: its stages, its nodes, and what goes on.

    Example: seed overcloud show cloud
    """
    printed(client().get(f"/overclouds/{part(name)}"), output)


@app.command()
def resume(
    name: str,
    stage: Annotated[str, typer.Option(help="This one again; else the one that failed.")] = "",
    wait: WaitFlag = False,
    timeout: Timeout = 14400,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Go on at the stage that failed, or run one again.

    Example: seed overcloud resume cloud
    """
    api = client()
    made = api.post(f"/overclouds/{part(name)}:resume", {"stage": stage})
    if wait:
        made = follow(api, made["id"], "ready", timeout, "overcloud")
    printed(made, output)


@app.command()
def scale(
    name: str,
    compute: Count = None,
    control: Count = None,
    network: Count = None,
    storage: Count = None,
    monitoring: Count = None,
    yes: Yes = False,
    wait: WaitFlag = False,
    timeout: Timeout = 14400,
    output: show.Output = show.Format.TABLE,
) -> None:
    """More or fewer nodes of a role. Who leaves is taken out of OpenStack, and its disk erased.

    By kolla-ansible that is yours to do: move its servers away first.

    Example: seed overcloud scale cloud --compute 3
    """
    body = {
        "compute": compute, "control": control, "network": network, "storage": storage,
        "monitoring": monitoring,
    }  # fmt: skip
    told = {key: value for key, value in body.items() if value is not None}
    if not told:
        fail("no role is named", f"seed overcloud scale {name} --compute 3", USAGE)
    _change(name, "scale", told, yes, wait, timeout, output)


@app.command()
def replace(
    name: str,
    node: Annotated[str, typer.Argument(help="See `seed overcloud show`.")],
    yes: Yes = False,
    wait: WaitFlag = False,
    timeout: Timeout = 14400,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Another server in a node's place: it is installed first, then the old one leaves.

    Of kolla-ansible nobody takes the old one out of OpenStack but you: move its servers away first.

    Example: seed overcloud replace cloud cloud-compute-1
    """
    _change(name, "replace", {"node": node}, yes, wait, timeout, output)


@app.command()
def release(
    name: str,
    now: Annotated[bool, typer.Option("--now", help="No undo window.")] = False,
    yes: Yes = False,
    why: Why = "",
    wait: WaitFlag = False,
    timeout: Timeout = 7200,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Give all of its servers back: off now, disks erased when the undo window is over.

    Example: seed overcloud release cloud
    """
    api = client()
    made = give_back(
        api, f"/overclouds/{part(name)}", lambda seen: bool(seen["released"]), yes,
        {"now": now, "why": why},
    )  # fmt: skip
    if wait:
        made = follow(api, made["id"], "released", timeout, "overcloud")
    printed(made, output)


@app.command()
def undo(name: str, output: show.Output = show.Format.TABLE) -> None:
    """Take a release back while the disks are untouched.

    Example: seed overcloud undo cloud
    """
    printed(client().post(f"/overclouds/{part(name)}:undo"), output)


@app.command()
def installers(output: show.Output = show.Format.TABLE) -> None:
    """What can make an OpenStack of your servers, by Seed or by yourself."""
    found = client().get("/installers")
    if output is show.Format.TABLE:
        found = [
            one
            | {
                "how": "Seed runs it" if one["runs"] else "files for people who run it",
                "services": ", ".join(one["services"]),
            }
            for one in found
        ]
    show.rows(found, INSTALLERS, output)


def printed(made: dict[str, Any], output: show.Format) -> None:
    if output is not show.Format.TABLE:
        show.one(made, output)
        return
    names = (
        "name", "project", "installer", "release", "state", "since", "image", "network", "vip",
        "proves", "detail", "problem", "remedy", "undo_until",
    )  # fmt: skip
    facts = {name: made.get(name) or None for name in names}
    show.fields(when.shown(facts, "since", "undo_until"))
    if made["stages"]:
        show.out.print(show.group([_stage(one) for one in made["stages"]], STAGES))
    if made["members"]:
        show.out.print(show.group([member_line(one) for one in made["members"]], MEMBERS))


def _stage(stage: dict[str, Any]) -> dict[str, Any]:
    seconds = stage["seconds"]
    return stage | {
        "took": "" if seconds is None else f"{seconds:.0f}",
        "task": stage["task"] if stage["state"] in ("running", "failed") else "",
        "hosts": ", ".join(stage["hosts"]),
        "tries": stage["tries"] or "",
    }


def _planned(found: dict[str, Any]) -> None:
    show.out.print(show.cell(found["sentence"]), soft_wrap=True)
    if not found["fits"]:
        show.out.print(show.cell(found["remedy"]), soft_wrap=True)
        whys = [{"node": node, "why": why} for node, why in found["reasons"].items()]
        if whys:
            show.out.print(show.group(whys[:SHOWN_NODES], WHY))
    for name, address in found["vips"].items():
        show.out.print(f"{name} VIP {address}")
    if found["stages"]:
        show.out.print(f"stages: {', '.join(found['stages'])}", soft_wrap=True)
    rows = [
        node
        | {
            "roles": ", ".join(node["roles"]),
            "where": ", ".join(f"{use} {one}" for use, one in node["addresses"].items() if one),
        }
        for node in found["nodes"]
    ]
    if rows:
        show.out.print(show.group(rows, PLANNED))


def _change(
    name: str, verb: str, told: dict[str, Any], yes: bool, wait: bool, timeout: int,
    output: show.Format,
) -> None:  # fmt: skip
    api = client()
    made = api.get(f"/overclouds/{part(name)}")
    offer = api.post(f"/overclouds/{made['id']}:plan-{verb}", told)
    if offer["nodes"]:
        confirm(offer, yes)
    else:
        err.print(show.cell(offer["sentence"]), soft_wrap=True)
    made = api.post(f"/overclouds/{made['id']}:{verb}", told | {"plan": offer["hash"]})
    if wait:
        made = follow(api, made["id"], "ready", timeout, "overcloud")
    printed(made, output)


def _wish(file: Path, ssh_key: list[Path] | None) -> dict[str, Any]:
    try:
        wish = yaml.safe_load(document(file))
    except yaml.YAMLError as problem:
        fail(f"{file} is no YAML: {str(problem).splitlines()[0]}", f"Mend {file}.", USAGE)
    if not isinstance(wish, dict):
        fail(f"{file} says nothing about an overcloud", "seed overcloud create --help", USAGE)
    keys = [text_of(path).strip() for path in ssh_key or ()]
    if keys:
        wish["ssh_keys"] = [*(wish.get("ssh_keys") or []), *keys]
    return wish
