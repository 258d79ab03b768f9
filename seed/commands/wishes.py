"""What a claim may ask for, as options; `claim create` and `claim explain` have the same."""

import inspect
from base64 import b64encode
from collections.abc import Callable
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from seed import when
from seed.commands.door import USAGE, fail

KEY_VALUE = "KEY=VALUE"


class Domain(StrEnum):
    RACK = "rack"
    FEED = "feed"
    SWITCH = "switch"


class Together(StrEnum):
    RACK = "rack"


def wish(
    image: Annotated[str, typer.Option(help="Published image, see `seed image list`.")],
    count: Annotated[
        int | None, typer.Option(min=1, max=500, help="How many; else 1, or one per --node.")
    ] = None,
    resource_class: Annotated[str | None, typer.Option(help="Else baremetal.")] = None,
    trait: Annotated[list[str] | None, typer.Option(help="Each must have it; repeatable.")] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar=KEY_VALUE, help="Each must have it; repeatable.")
    ] = None,
    rack: Annotated[list[str] | None, typer.Option(help="One of these; repeatable.")] = None,
    node: Annotated[list[str] | None, typer.Option(help="One of these; repeatable.")] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="Hardware threads, at least.")] = None,
    memory: Annotated[int | None, typer.Option(min=1, help="GiB, at least.")] = None,
    disk: Annotated[int | None, typer.Option(min=1, help="GiB of the root disk, at least.")] = None,
    spread: Annotated[Domain | None, typer.Option(help="No two in one.")] = None,
    pack: Annotated[Together | None, typer.Option(help="All in one.")] = None,
    root_device: Annotated[
        list[str] | None,
        typer.Option(metavar=KEY_VALUE, help="Ironic's root device hint; repeatable."),
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="How its NICs are used: a layout by name.")
    ] = None,
    data_disk: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE[,KEY=VALUE...]", help="osd,size=>= 900,count=2; repeatable."),
    ] = None,
    root_raid: Annotated[
        int | None, typer.Option(min=1, max=1, help="1: root on a mirror of two disks.")
    ] = None,
    kernel_arg: Annotated[
        list[str] | None, typer.Option(help="Of the installed system; repeatable.")
    ] = None,
    hostnames: Annotated[str | None, typer.Option(help="A pattern such as db-{n:02}.")] = None,
    user_data: Annotated[Path | None, typer.Option(help="cloud-init user-data file.")] = None,
    secret_file: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATH=FILE",
            help="Each node fetches it once, to PATH (or PATH,0640,user:group); repeatable.",
        ),
    ] = None,
    protected: Annotated[
        bool, typer.Option("--protected", help="Not released before `seed claim unprotect`.")
    ] = False,
    queue: Annotated[
        bool, typer.Option("--queue", help="Wait for nodes instead of being refused.")
    ] = False,
    priority: Annotated[int | None, typer.Option(min=0, max=100, help="In the queue.")] = None,
    starts: Annotated[
        str | None, typer.Option(help="2026-12-01 08:00, or 3d from now; else at once.")
    ] = None,
    ends: Annotated[
        str | None, typer.Option(help="When it ends by itself: a time, or 3d from now.")
    ] = None,
    lasts: Annotated[
        str | None, typer.Option("--for", help="How long, once it has its nodes: 12h, 3d, 2w.")
    ] = None,
) -> dict[str, Any]:
    """The body to send: only what was asked for."""
    told: dict[str, Any] = {
        "image": image,
        "count": count,
        "resource_class": resource_class,
        "traits": trait,
        "labels": _pairs("--label", label),
        "racks": rack,
        "nodes": node,
        "cpus": cpus,
        "memory_gib": memory,
        "disk_gib": disk,
        "spread": spread,
        "pack": pack,
        "root_device": _pairs("--root-device", root_device),
        "layout": layout,
        "disks": [_data_disk(word) for word in data_disk or ()],
        "root_raid": root_raid,
        "kernel_args": kernel_arg,
        "hostnames": hostnames,
        "user_data": text_of(user_data) if user_data else None,
        "secret_files": [_secret_file(word) for word in secret_file or ()],
        "protected": protected,
        "if_full": "queue" if queue else None,
        "priority": priority,
        "starts_at": when.moment(starts).isoformat() if starts else None,
        "ends_at": when.moment(ends).isoformat() if ends else None,
        "lease_seconds": when.seconds(lasts) if lasts else None,
    }
    return {name: value for name, value in told.items() if value}


def wishing(verb: Callable[..., None]) -> Callable[..., None]:
    """`verb` has all options of `wish`, and gets what they come to as its argument `wishes`.

    An option that it has itself is its own: it says another default.
    """
    own = [p for p in inspect.signature(verb).parameters.values() if p.name != "wishes"]
    named = {p.name for p in own}
    asked = [p for p in inspect.signature(wish).parameters.values() if p.name not in named]
    shared = named & set(inspect.signature(wish).parameters)

    @wraps(verb)
    def typed(**given: Any) -> None:
        told = {p.name: given.pop(p.name) for p in asked} | {name: given[name] for name in shared}
        wishes = wish(**told)
        verb(wishes=wishes, **given)

    both = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *asked)]
    typed.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    typed.__annotations__ = {p.name: p.annotation for p in both}
    del typed.__wrapped__  # else its signature counts
    return typed


def _pairs(option: str, words: list[str] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words or ():
        key, sign, value = word.partition("=")
        if not sign or not key:
            fail(f"{option} {word!r} is not {KEY_VALUE}", f"Write {option} role=db.", USAGE)
        if found.setdefault(key, value) != value:
            fail(f"{option} {key} is given twice", "Give each key one value.", USAGE)
    return found


def _data_disk(word: str) -> dict[str, Any]:
    """`osd,size=>= 900,count=2,keep` as the API has it."""
    role, *rest = word.split(",")
    told: dict[str, Any] = {"role": role}
    for part in rest:
        key, sign, value = part.partition("=")
        if key == "keep" and not sign:
            told["keep"] = True
        elif not sign or not key or key in told:
            fail(f"--data-disk {word!r}: {part!r} is not {KEY_VALUE}, given once",
                 "Write --data-disk 'osd,size=>= 900,count=2'.", USAGE)  # fmt: skip
        else:
            told[key] = int(value) if key == "count" and value.isdigit() else value
    return told


def text_of(path: Path) -> str:
    """A file's text, or one sentence and the end of the program."""
    try:
        return path.expanduser().read_text()
    except OSError as problem:
        fail(f"cannot read {path}: {problem.strerror}", f"ls -l {path}", USAGE)
    except UnicodeDecodeError:
        fail(f"{path} is not a text file", f"file {path}", USAGE)


def _secret_file(word: str) -> dict[str, str]:
    """PATH[,MODE[,OWNER]]=FILE, as the API wants it."""
    where, sign, name = word.rpartition("=")
    path, _, rest = where.partition(",")
    mode, _, owner = rest.partition(",")
    if not sign or not path or not name:
        fail("--secret-file is not PATH=FILE", "Write --secret-file /etc/app/key=./key.", USAGE)
    try:
        content = Path(name).expanduser().read_bytes()
    except OSError as problem:
        fail(f"cannot read {name}: {problem.strerror}", f"ls -l {name}", USAGE)
    told = {"path": path, "content_b64": b64encode(content).decode(), "owner": owner}
    return told | ({"mode": mode} if mode else {})
