"""seed cluster scale, replace, upgrade: what is erased is shown before, and asked for."""

from typing import Annotated, Any

import typer

from seed import show
from seed.commands.claim import Timeout, WaitFlag
from seed.commands.cluster_show import follow, printed
from seed.commands.confirm import confirm
from seed.commands.door import USAGE, client, err, fail, part

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def scale(
    name: str,
    workers: Annotated[int | None, typer.Option(min=0, help="So many there shall be.")] = None,
    control: Annotated[int | None, typer.Option(min=1, help="So many, and odd.")] = None,
    yes: Yes = False,
    wait: WaitFlag = False,
    timeout: Timeout = 7200,
    output: show.Output = show.Format.TABLE,
) -> None:
    """More or fewer workers, or control planes. Who leaves is drained, and its disk erased.

    Example: seed cluster scale web --workers 5
    """
    if workers is None and control is None:
        fail("neither --workers nor --control", f"seed cluster scale {name} --workers 5", USAGE)
    body = {"workers": workers, "control": control}
    told = {key: value for key, value in body.items() if value is not None}
    _change(name, "scale", told, yes, wait, timeout, output)


def replace(
    name: str,
    member: Annotated[str, typer.Argument(help="See `seed cluster show`.")],
    yes: Yes = False,
    wait: WaitFlag = False,
    timeout: Timeout = 7200,
    output: show.Output = show.Format.TABLE,
) -> None:
    """Another server in a member's place: it joins first, then the member leaves.

    A member that nobody hears of goes at once. Said again of one that cannot leave: it is given up.

    Example: seed cluster replace web web-worker-1
    """
    _change(name, "replace", {"member": member}, yes, wait, timeout, output)


def upgrade(
    name: str,
    version: Annotated[str, typer.Option(help="Of Kubernetes: 1.36.3.")] = "",
    image: Annotated[str, typer.Option(help="Published image of all members.")] = "",
    yes: Yes = False,
    wait: WaitFlag = False,
    timeout: Timeout = 86400,
    output: show.Output = show.Format.TABLE,
) -> None:
    """All members anew, one at a time, control planes first: drained, imaged, joined again.

    Example: seed cluster upgrade web --version 1.36.3
    """
    told = {key: value for key, value in (("version", version), ("image", image)) if value}
    if not told:
        fail("neither --version nor --image", f"seed cluster upgrade {name} --image ...", USAGE)
    _change(name, "upgrade", told, yes, wait, timeout, output)


def _change(
    name: str, verb: str, told: dict[str, Any], yes: bool, wait: bool, timeout: int,
    output: show.Format,
) -> None:  # fmt: skip
    api = client()
    cluster = api.get(f"/clusters/{part(name)}")
    plan = api.post(f"/clusters/{cluster['id']}:plan-{verb}", told)
    if plan["nodes"]:
        confirm(plan, yes)
    else:
        err.print(show.cell(plan["sentence"]), soft_wrap=True)
    body = told | {"plan": plan["hash"]}
    cluster = api.post(f"/clusters/{cluster['id']}:{verb}", body)
    if wait:
        cluster = follow(api, cluster["id"], "ready", timeout)
    printed(cluster, output)
