"""One BMC as people read it: who, what is in it, what is wrong, what it can do. 80 columns."""

from typing import Any

from rich.table import Table

from seed import show

FACTS = (
    "address", "protocol", "state", "node", "resource_class", "login", "credential",
    "fingerprint", "detail", "problem", "remedy", "seen_at",
)  # fmt: skip
SERVER = (
    "vendor", "model", "serial", "system_uuid", "asset_tag", "firmware", "bios_version",
    "bmc_version", "bmc_mac", "power", "health", "ailing",
)  # fmt: skip
GB = 10**9


def bmc(data: dict[str, Any], output: show.Format) -> None:
    """A table here means several; `-o json|yaml` is the answer itself."""
    if output is not show.Format.TABLE:
        show.one(data, output)
        return
    show.fields({name: data[name] for name in FACTS})
    _server(data)
    _parts(data["inventory"])
    _weak(data["findings"])
    if data["abilities"]:
        _titled("ABILITIES")
        show.fields({k: _yes(v) for k, v in data["abilities"].items()} | {"led now": data["led"]})
    _rows("IRONIC", ("interface", "value", "reason"), data["interfaces"])


def _server(data: dict[str, Any]) -> None:
    seen = data["inventory"]
    _titled("SERVER", "as its BMC told " + (data["inventory_at"] or "never"))
    show.fields({**_known_before(data), **{n: seen[n] for n in SERVER if seen[n]}, **_sums(seen)})
    if data["survey_problem"]:
        show.out.print(f"[red]not asked since:[/red] {show.cell(data['survey_problem'])}")
        show.out.print(f"  try: {show.cell(data['survey_remedy'])}")


def _parts(seen: dict[str, Any]) -> None:
    drives = [drive | {"size": _size(drive["size_bytes"])} for drive in seen["drives"]]
    _rows("DRIVES", ("name", "media", "size", "serial", "model"), drives)
    nics = [_nic(nic) for nic in seen["nics"]]
    _rows("NICS", ("mac", "link", "speed", "neighbour", "name"), nics)


def _weak(findings: list[str]) -> None:
    if findings:
        _titled("FINDINGS")
    for finding in findings:
        show.out.print(f"[yellow]-[/yellow] {show.cell(finding)}")


def _known_before(data: dict[str, Any]) -> dict[str, Any]:
    """What the login or the wire told, for what the inventory leaves out."""
    who = {name: data[name] for name in ("vendor", "model", "serial", "system_uuid", "firmware")}
    if data["maker"] and not (data["vendor"] or data["inventory"]["vendor"]):
        who["vendor"] = f"unknown BMC, OUI says {data['maker']}"
    macs = {} if data["inventory"]["nics"] else {"macs": data["macs"]}
    return {**who, "bmc_mac": data["manager_mac"], **macs}


def _sums(seen: dict[str, Any]) -> dict[str, str]:
    cpus, threads, memory = seen["cpu_count"], seen["cpu_threads"], seen["memory_mib"]
    processors = f"{cpus} x {seen['cpu_model'] or seen['cpu_arch']}, {threads} threads"
    return {
        "processors": processors if cpus else "",
        "memory": f"{memory / 1024:.0f} GiB" if memory else "",
    }


def _nic(nic: dict[str, Any]) -> dict[str, Any]:
    speed = nic["speed_mbps"]
    return nic | {
        "link": {True: "up", False: "down", None: ""}[nic["link"]],
        "speed": f"{speed / 1000:g}G" if speed else "",
        "neighbour": [
            f"{n['switch'] or n.get('chassis', '')}:{n['port']}" for n in nic["neighbours"]
        ],
    }


def _size(size: int) -> str:
    return f"{size / GB:.0f} GB" if size < 10_000 * GB else f"{size / GB / 1000:.1f} TB"


def _yes(value: Any) -> Any:  # noqa: ANN401
    return {True: "yes", False: ""}[value] if isinstance(value, bool) else value


def _titled(title: str, more: str = "") -> None:
    show.out.print(f"\n[bold]{title}[/bold] {show.cell(more)}".rstrip())


def _rows(title: str, columns: tuple[str, ...], rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    _titled(title)
    filled = [name for name in columns if any(row.get(name) for row in rows)]
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in filled:
        table.add_column(name, no_wrap=name != filled[-1], overflow="fold")
    for row in rows:
        table.add_row(*(show.cell(row.get(name)) for name in filled))
    show.out.print(table)
