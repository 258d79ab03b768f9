"""Does a service answer? Each function says so now, without waiting, and never raises."""

import socket
from pathlib import Path

import httpx

from seed.host import netns
from seed.host.paths import Paths
from seed.settings import Settings

_TIMEOUT = 3.0  # seconds


def ironic(settings: Settings) -> bool:
    """Ironic's API takes our password and its conductor has both drivers."""
    return {"redfish", "ipmi"} <= ironic_drivers(settings)


def ironic_drivers(settings: Settings) -> set[str]:
    """Names of the drivers that a living conductor offers; empty if Ironic does not answer."""
    path = Paths(settings).ironic_password("seed-reconciler")

    def ask() -> set[str]:
        auth = ("seed-reconciler", path.read_text(encoding="utf-8").strip())
        answer = httpx.get(
            f"{settings.ironic_url}/v1/drivers", auth=auth, timeout=_TIMEOUT, trust_env=False
        )
        answer.raise_for_status()
        return {driver["name"] for driver in answer.json()["drivers"]}

    try:
        return netns.call(settings.namespace, ask)
    except (httpx.HTTPError, OSError, ValueError, KeyError):
        return set()


def boot_files(settings: Settings) -> bool:
    """nginx serves the first boot script."""

    def ask() -> bool:
        answer = httpx.get(f"{settings.boot_url}/boot.ipxe", timeout=_TIMEOUT, trust_env=False)
        return answer.status_code == 200

    try:
        return netns.call(settings.namespace, ask)
    except (httpx.HTTPError, OSError):
        return False


def api(settings: Settings) -> bool:
    """The API answers on its socket."""
    return answers(settings.api_socket, "/healthz")


def autoscaler(settings: Settings) -> bool:
    """Somebody listens where autoscalers ask."""
    host, _, port = settings.autoscaler_address.rpartition(":")

    def ask() -> bool:
        with socket.create_connection((host, int(port)), timeout=_TIMEOUT):
            return True

    try:
        return netns.call(settings.namespace, ask)
    except OSError:
        return False


def answers(unix_socket: Path, route: str) -> bool:
    """An HTTP server behind `unix_socket` answers `route` with 200."""
    try:
        with httpx.Client(
            transport=httpx.HTTPTransport(uds=str(unix_socket)), timeout=_TIMEOUT
        ) as client:
            return client.get(f"http://seed{route}").status_code == 200
    except (httpx.HTTPError, OSError):
        return False


def udp_port(settings: Settings, port: int) -> bool:
    """Somebody holds UDP `port` on the wildcard address."""

    def taken() -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("0.0.0.0", port))  # noqa: S104  bound only to see whether it is free
            except OSError:
                return True
        return False

    return netns.call(settings.namespace, taken)
