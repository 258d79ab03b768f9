"""seed claim timeline, seed node timeline."""

from datetime import datetime, timedelta
from typing import Any

from seed import show
from seed.commands.door import client, part

STEPS = {"step": "STEP", "node": "NODE", "began": "BEGAN", "took": "TOOK"}
ENTRIES = {"when": "WHEN", "node": "NODE", "kind": "KIND", "who": "WHO", "what": "WHAT"}


def of_claim(name: str, output: show.Output = show.Format.TABLE) -> None:
    """What became of a claim and of its servers, step by step, and how long each took.

    Example: seed claim timeline web
    """
    _print(client().get(f"/claims/{part(name)}/timeline"), output)


def of_node(name: str, output: show.Output = show.Format.TABLE) -> None:
    """What became of a server, whoever had it, and how long each step took.

    Example: seed node timeline sn-0001
    """
    _print(client().get(f"/nodes/{part(name)}/timeline"), output)


def _print(told: dict[str, Any], output: show.Format) -> None:
    if output is not show.Format.TABLE:
        show.one(told, output)
        return
    if not told["steps"] and not told["entries"]:
        show.out.print("nothing happened to it yet")
        return
    if told["steps"]:
        show.rows([_step(step) for step in told["steps"]], STEPS, output)
        show.out.print()
    show.rows([_entry(entry) for entry in told["entries"]], ENTRIES, output)


def _step(step: dict[str, Any]) -> dict[str, Any]:
    so_far = "" if step["end"] else " so far"
    took = str(timedelta(seconds=round(step["seconds"])))
    return step | {"step": step["name"], "began": _when(step["begin"]), "took": took + so_far}


def _entry(entry: dict[str, Any]) -> dict[str, Any]:
    what = " ".join(text for text in (entry["message"], entry["why"]) if text)
    return entry | {"when": _when(entry["at"]), "what": what}


def _when(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone():%m-%d %H:%M:%S}"
