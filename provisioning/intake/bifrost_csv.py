"""Bifrost's older inventory, CSV without headings: one server per line, columns by their place."""

from dataclasses import dataclass

from provisioning.identity import mac_key
from provisioning.intake import Document, Listed, listed

# 4 to 6 are CPUs, MB, GB; 7 and 8 a flavour and a kind; 12 to 15 IPMI bridging; 18 another address.
MAC, USERNAME, PASSWORD, BMC, UUID, NAME, IPV4, DRIVER = 0, 1, 2, 3, 9, 10, 11, 16


@dataclass(frozen=True, slots=True)
class BifrostCsv:
    name: str = "bifrost-csv"
    title: str = "Bifrost's baremetal.csv"

    def fits(self, document: Document) -> bool:
        return bool(document.rows) and all(
            len(row) > NAME and mac_key(row[MAC]) for row in document.rows[:1]
        )

    def read(self, document: Document) -> list[Listed]:
        return [_server(number, row) for number, row in enumerate(document.rows, 1)]


def _server(number: int, row: tuple[str, ...]) -> Listed:
    cells = (*row, *[""] * (DRIVER + 1 - len(row)))
    return listed(
        f"row {number}",
        {
            "macs": [cells[MAC]],
            "username": cells[USERNAME],
            "password": cells[PASSWORD],
            "bmc_address": cells[BMC],
            "name": cells[NAME],
            "facts": {
                "node_uuid": cells[UUID],
                "ipv4_address": cells[IPV4],
                "driver": cells[DRIVER] or "ipmi",
            },
        },
    )


PLUGIN = BifrostCsv()
