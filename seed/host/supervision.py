"""Who keeps the services running: systemd for an installed appliance, supervisor elsewhere."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from seed.host import supervisor, systemd
from seed.host.services import Service
from seed.host.supervisor import ServiceStatus
from seed.settings import Settings


class Supervision(Protocol):
    """What both modules do; see there."""

    def start(self, settings: Settings, services: Sequence[Service]) -> None: ...
    def running(self, settings: Settings) -> bool: ...
    def stop(self, settings: Settings, timeout: float = ...) -> None: ...
    def status(self, settings: Settings) -> list[ServiceStatus]: ...
    def states(self, settings: Settings) -> dict[str, str]: ...
    def reload(self, settings: Settings, name: str) -> None: ...
    def logs(self, settings: Settings, name: str, follow: bool, lines: int) -> Iterator[str]: ...


def of(settings: Settings) -> Supervision:
    return systemd if systemd.responsible(settings) else supervisor
