"""A server's own word against what was asked for, difference by difference.

`wanted` is Order.wanted; what it does not name is not looked at. Beside what other modules ask for
it may have "parts": the names of the one-time parts that were made for it. `proof` has the shape of
api/proof.py, but a server wrote it: nothing of it is believed to be there.
"""

from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, Final

Wanted = Mapping[str, Any]
Told = Mapping[str, Any]
SHOWN: Final = 80
"""Characters of what a server says, inside a sentence of ours."""
FEW: Final = 6  # items of a list, ditto


def differs(wanted: Wanted, proof: Told) -> list[str]:
    """What is not as it was asked for, a sentence each. Empty: all of it is."""
    rules: tuple[tuple[str, Callable[[Any, Told], Iterable[str]]], ...] = (
        ("hostname", _hostname),
        ("macs", _macs),
        ("links", _links),
        ("routes", _routes),
        ("dns", lambda asked, told: _servers("DNS", asked, told.get("dns"))),
        ("ntp", lambda asked, told: _servers("NTP", asked, told.get("ntp"))),
        ("disks", _disks),
        ("kernel", _kernel),
        ("kernel_args", _kernel_args),
        ("services", _services),
    )
    found = [s for key, rule in rules if wanted.get(key) for s in rule(wanted[key], proof)]
    return [*found, *_parts(wanted.get("parts") or (), proof), *_cloud_init(proof)]


def of_node(name: str, wanted: Wanted, proof: Told) -> str:
    """The same about the node `name`, in one line; empty: nothing differs."""
    found = differs(wanted, proof)
    more = f"; and {len(found) - FEW} more" if len(found) > FEW else ""
    return f"{name}: {'; '.join(found[:FEW])}{more}" if found else ""


def _hostname(asked: str, told: Told) -> Iterable[str]:
    if told.get("hostname") != asked:
        yield f"it calls itself {_quoted(told.get('hostname'))}, asked was {asked!r}"


def _macs(asked: list[str], told: Told) -> Iterable[str]:
    has = {str(n.get("mac", "")).lower() for n in _rows(told, "nics")}
    has |= {str(n.get("own_mac", "")).lower() for n in _rows(told, "links")}
    missing = sorted({m.lower() for m in asked} - has)
    if missing:
        yield f"it has no NIC {', '.join(missing)}"


# --- network ------------------------------------------------------------------------------------


def _links(asked: list[dict[str, Any]], told: Told) -> Iterable[str]:
    links = _rows(told, "links")
    for want in asked:
        has = _link(want, links)
        if has is None:
            yield f"it has no {want.get('kind', 'link')} {_title(want)}"
        else:
            yield from (f"{_title(want)} {fault}" for fault in _link_faults(want, has, links))


def _title(link: Mapping[str, Any]) -> str:
    return str(link.get("name") or link.get("mac") or "?")


def _link(want: dict[str, Any], links: list[dict[str, Any]]) -> dict[str, Any] | None:
    """A NIC is found by its MAC, as its name may be the kernel's choice; all others by name."""
    mac = str(want.get("mac", "")).lower()
    if want.get("kind", "physical") == "physical" and mac:
        hardware = (link for link in links if link.get("kind") == "physical")
        return next((link for link in hardware if mac in _macs_of(link)), None)
    return next((link for link in links if link.get("name") == want.get("name")), None)


def _macs_of(link: Mapping[str, Any]) -> set[str]:
    return {str(link.get(key, "")).lower() for key in ("own_mac", "mac")} - {""}


def _link_faults(
    want: dict[str, Any], has: dict[str, Any], links: list[dict[str, Any]]
) -> Iterable[str]:
    yield from _link_basics(want, has)
    yield from _addresses(want, has)
    if bond := want.get("bond"):
        yield from _bond(bond, _dict(has, "bond"))
    if vlan := want.get("vlan"):
        yield from _vlan(vlan, _dict(has, "vlan"), links)
    if bridge := want.get("bridge"):
        lacking = set(bridge.get("ports", ())) - set(_words(_dict(has, "bridge"), "ports"))
        if lacking:
            yield f"lacks the port {_some(lacking)}"


def _link_basics(want: dict[str, Any], has: dict[str, Any]) -> Iterable[str]:
    if want.get("name") and want["name"] != has.get("name"):
        yield f"is called {_quoted(has.get('name'))}"
    if want.get("kind") and want["kind"] != has.get("kind"):
        yield f"is a {_plain(has.get('kind'))}, asked was a {want['kind']}"
    if want.get("mac") and want["mac"].lower() not in _macs_of(has):
        yield f"has the MAC {_quoted(has.get('mac'))}, asked was {want['mac']}"
    if want.get("mtu") and want["mtu"] != has.get("mtu"):
        yield f"has MTU {_plain(has.get('mtu'))}, asked was {want['mtu']}"
    if has.get("up") is False:
        yield "has no link"


def _addresses(want: dict[str, Any], has: dict[str, Any]) -> Iterable[str]:
    addresses = {_interface(a) for a in _words(has, "addresses")}
    lacking = [a for a in want.get("addresses", ()) if _interface(a) not in addresses]
    if lacking:
        yield f"has not the address {_some(lacking)}, but {_some(addresses) or 'none'}"
    if want.get("dhcp") and not addresses:
        yield "got no address by DHCP"


def _bond(want: dict[str, Any], has: Mapping[str, Any]) -> Iterable[str]:
    if want.get("mode") and want["mode"] != has.get("mode"):
        yield f"is a bond of mode {_plain(has.get('mode'))}, asked was {want['mode']}"
    asked = {m.lower() for m in want.get("members", ())}
    members = {m.lower() for m in _words(has, "members")}
    if asked - members:
        yield f"lacks the member {_some(asked - members)}"
    if asked and members - asked:
        yield f"has the member {_some(members - asked)}, which was not asked for"


def _vlan(
    want: dict[str, Any], has: Mapping[str, Any], links: list[dict[str, Any]]
) -> Iterable[str]:
    if want.get("id") != has.get("id"):
        yield f"has VLAN {_plain(has.get('id'))}, asked was {want.get('id')}"
    parent = next((link for link in links if link.get("name") == has.get("link")), {})
    if want.get("link") and want["link"] not in {has.get("link"), *_macs_of(parent)}:
        yield f"is on {_quoted(has.get('link'))}, asked was {want['link']}"


def _routes(asked: list[dict[str, str]], told: Told) -> Iterable[str]:
    has = {(_network(r.get("to")), _address(r.get("via"))) for r in _rows(told, "routes")}
    for route in asked:
        if (_network(route["to"]), _address(route["via"])) not in has:
            yield f"it has no route to {route['to']} via {route['via']}"


def _servers(kind: str, asked: list[str], has: object) -> Iterable[str]:
    known = {_address(a) for a in has if isinstance(a, str)} if isinstance(has, list) else set()
    lacking = [a for a in asked if _address(a) not in known]
    if lacking:
        yield f"it does not ask the {kind} server {_some(lacking)}, but {_some(known) or 'none'}"


# --- disks and system ---------------------------------------------------------------------------


def _disks(asked: dict[str, Any], told: Told) -> Iterable[str]:
    disks = _rows(told, "disks")
    has = {str(d.get("serial") or "") for d in disks} | {str(d.get("wwn") or "") for d in disks}
    yield from _root(asked.get("root") or {}, disks, _dict(told, "root"))
    for what in ("data", "kept"):
        for disk in asked.get(what) or ():
            if disk.get("serial") not in has:
                role = f" for {disk['role']}" if disk.get("role") else ""
                yield f"it has no {what} disk {disk.get('serial')}{role}"


def _root(
    asked: dict[str, Any], disks: list[dict[str, Any]], has: Mapping[str, Any]
) -> Iterable[str]:
    wanted = set(asked.get("serials") or ())
    under = [d for d in disks if d.get("root") is True]
    named = {str(d.get("serial") or "") for d in under}
    named |= {str(d.get("wwn") or "") for d in under}
    if wanted - named:
        yield f"its root is not on the disk {_some(wanted - named)}, but on {_some(named - {''})}"
    if wanted and len(under) > len(wanted):
        yield f"its root is on {len(under)} disks, asked was {len(wanted)}"
    if asked.get("raid"):
        if has.get("raid") != asked["raid"]:
            yield f"its root is on {_raid(has)}, asked was RAID {asked['raid']}"
        elif wanted and has.get("disks") != len(wanted):
            yield f"its root's RAID has {_plain(has.get('disks'))} disks of {len(wanted)}"
    elif "raid" in asked and has.get("raid") is not None:
        yield f"its root is on {_raid(has)}, asked was none"


def _raid(has: Mapping[str, Any]) -> str:
    return "no RAID" if has.get("raid") is None else f"RAID {_plain(has['raid'])}"


def _kernel(asked: str, told: Told) -> Iterable[str]:
    if told.get("kernel") != asked:
        yield f"its kernel is {_quoted(told.get('kernel'))}, asked was {asked}"


def _kernel_args(asked: list[str], told: Told) -> Iterable[str]:
    has = set(str(told.get("cmdline") or "").split())
    lacking = [arg for arg in asked if arg not in has]
    if lacking:
        yield f"its kernel was not given {_some(lacking)}"


def _services(asked: list[str], told: Told) -> Iterable[str]:
    states = {s.get("name"): s.get("state") for s in _rows(told, "services")}
    for name in asked:
        if states.get(name) != "active":
            yield f"its service {name} is {_plain(states.get(name) or 'unknown')}"


def _parts(asked: Iterable[str], told: Told) -> Iterable[str]:
    missing = set(asked) - {str(part.get("name")) for part in _rows(told, "parts")}
    if missing:
        yield f"it says nothing of its part {_some(missing)}"
    for part in _rows(told, "parts"):
        if part.get("problem") or part.get("fetched") is not True:
            why = _plain(part.get("problem") or "nobody says why")
            yield f"it did not get its part {_plain(part.get('name'))}: {why}"


def _cloud_init(told: Told) -> Iterable[str]:
    status = _dict(told, "cloud_init").get("status")
    if status != "done":
        yield f"cloud-init ended as {_quoted(status)}"


# --- what a server says -------------------------------------------------------------------------


def _rows(told: Told, key: str) -> list[dict[str, Any]]:
    rows = told.get(key)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _dict(told: Told, key: str) -> Mapping[str, Any]:
    value = told.get(key)
    return value if isinstance(value, dict) else {}


def _words(told: Told, key: str) -> list[str]:
    value = told.get(key)
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []


def _quoted(value: object) -> str:
    return repr(str(value)[:SHOWN]) if value not in (None, "") else "nothing"


def _plain(value: object) -> str:
    """Without quotes, where it is harmless to read."""
    text = str(value)[:SHOWN]
    return text if text.isascii() and text.isprintable() else repr(text)


def _some(items: Iterable[str]) -> str:
    words = sorted(_plain(item) for item in items)
    more = f" and {len(words) - FEW} more" if len(words) > FEW else ""
    return ", ".join(words[:FEW]) + more


def _interface(text: object) -> str:
    try:
        return str(ip_interface(str(text)))
    except ValueError:
        return str(text)


def _network(text: object) -> str:
    try:
        return str(ip_network(str(text), strict=False))
    except ValueError:
        return str(text)


def _address(text: object) -> str:
    try:
        return str(ip_address(str(text)))
    except ValueError:
        return str(text)
