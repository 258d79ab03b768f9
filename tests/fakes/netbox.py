"""An HTTP double of the NetBox routes that pynetbox calls for us: pages, filters, custom fields.

Shapes as NetBox 4.x documents them. It is as strict as we know: a wrong token is 403, an unknown
custom field 400.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.fakes.api import Asked, IronicDouble, ironic_double

TOKEN = "0123456789abcdef0123456789abcdef01234567"
PAGE = 2


@dataclass
class NetBoxDouble:
    double: IronicDouble
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return self.double.url

    @property
    def writes(self) -> list[Asked]:
        return [asked for asked in self.double.asked if asked.method != "GET"]

    def answer(self, asked: Asked) -> tuple[int, dict[str, str], Any]:
        if asked.headers.get("authorization") != f"Token {TOKEN}":
            return 403, {}, {"detail": "Invalid token"}
        parts = urlsplit(asked.path)
        rows = self.tables.get(parts.path)
        if rows is None:
            return 404, {}, {"detail": "Not found."}
        if asked.method == "PATCH":
            return self._patch(rows, json.loads(asked.body))
        return 200, {}, self._page(rows, parts.path, parse_qs(parts.query))

    def _page(self, rows: list[dict[str, Any]], path: str, query: dict[str, list[str]]) -> Any:
        offset = int(query.pop("offset", ["0"])[0])
        query.pop("limit", None)
        chosen = [row for row in rows if all(_fits(row, k, v) for k, v in query.items())]
        later = "&".join(f"{k}={v}" for k, some in query.items() for v in some)
        following = f"{self.url}{path}?offset={offset + PAGE}&limit={PAGE}&{later}"
        return {
            "count": len(chosen),
            "next": following if offset + PAGE < len(chosen) else None,
            "previous": None,
            "results": chosen[offset : offset + PAGE],
        }

    def _patch(
        self, rows: list[dict[str, Any]], body: list[dict[str, Any]]
    ) -> tuple[int, dict[str, str], Any]:
        by_id = {row["id"]: row for row in rows}
        for change in body:
            unknown = change["custom_fields"].keys() - by_id[change["id"]]["custom_fields"].keys()
            if unknown:
                return 400, {}, {"custom_fields": f"Unknown field name {min(unknown)}"}
        for change in body:
            by_id[change["id"]]["custom_fields"] |= change["custom_fields"]
        return 200, {}, [by_id[change["id"]] for change in body]


def _fits(row: dict[str, Any], key: str, values: list[str]) -> bool:
    match key:
        case "id":
            return str(row["id"]) in values
        case "device_id":
            return str(row["device"]["id"]) in values
        case "role" | "site":
            return row[key]["slug"] in values
        case "status":
            return row["status"]["value"] in values
    raise AssertionError(f"no such filter: {key}")


@contextmanager
def netbox_double(tables: dict[str, list[dict[str, Any]]]) -> Iterator[NetBoxDouble]:
    with ironic_double() as double:
        netbox = NetBoxDouble(double, tables)
        double.answer = netbox.answer
        yield netbox
