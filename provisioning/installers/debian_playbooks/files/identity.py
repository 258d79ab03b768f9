"""Users of the services, their roles, services and endpoints; prints what it made.

stdin: JSON {url, ca, region, admin, users: {name: password}, services: {type: [name, url]}}.
Plain requests with one token: that is a second for each, and the SDK takes longer to begin.
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from keystoneauth1 import session
from keystoneauth1.identity import v3

Row = dict[str, Any]


class Identity:
    """Keystone by its administrator."""

    def __init__(self, told: Row) -> None:
        auth = v3.Password(
            auth_url=told["url"], username="admin", password=told["admin"], project_name="admin",
            user_domain_name="Default", project_domain_name="Default",
        )  # fmt: skip
        self.url, self.told = told["url"].rstrip("/"), told
        self.session = session.Session(auth, verify=told["ca"] or True, timeout=300)
        self.made: list[str] = []

    def ask(self, method: str, path: str, **more: object) -> Row:
        # A worker that ends in the middle, or is not there yet, is the proxy's 502 or 504.
        answer = self.session.request(
            self.url + path, method, connect_retries=5, status_code_retries=5,
            retriable_status_codes=[502, 503, 504], status_code_retry_delay=2.0, **more
        )  # fmt: skip
        row: Row = answer.json() if answer.content else {}
        return row

    def all(self, what: str) -> list[Row]:
        found: list[Row] = self.ask("GET", f"/{what}")[what]
        return found

    def make(self, kind: str, said: str, **body: object) -> Row:
        self.made.append(said)
        row: Row = self.ask("POST", f"/{kind}s", json={kind: body})[kind]
        return row

    def run(self) -> None:
        with ThreadPoolExecutor(3) as pool:
            kinds = ("projects", "roles", "users", "services", "endpoints")
            lists = dict(zip(kinds, pool.map(self.all, kinds), strict=True))
            project = self._project(lists["projects"])
            roles = [r["id"] for r in lists["roles"] if r["name"] in ("admin", "service")]
            users = {u["name"]: u for u in lists["users"] if u["domain_id"] == "default"}
            services = {s["type"]: s for s in lists["services"]}
            jobs = [
                partial(self._user, name, users.get(name), project, roles)
                for name in self.told["users"]
            ] + [
                partial(self._service, kind, services.get(kind), lists["endpoints"])
                for kind in self.told["services"]
            ]
            for _ in pool.map(lambda job: job(), jobs):
                pass

    def _project(self, projects: list[Row]) -> str:
        found = next((p for p in projects if p["name"] == "service"), None)
        found = found or self.make("project", "project service", name="service")
        return str(found["id"])

    def _user(self, name: str, user: Row | None, project: str, roles: list[str]) -> None:
        body = {"name": name, "password": self.told["users"][name], "domain_id": "default"}
        fresh = user is None
        user = user or self.make("user", f"user {name}", **body)
        if not fresh and not self._opens(name):
            # The same password again would be one more row, and end the tokens of who works now.
            self.made.append(f"password of {name}")
            path = f"/users/{user['id']}"
            self.ask("PATCH", path, json={"user": {"password": body["password"]}})
        for role in roles:
            self.ask("PUT", f"/projects/{project}/users/{user['id']}/roles/{role}")

    def _opens(self, name: str) -> bool:
        auth = v3.Password(
            auth_url=self.url, username=name, password=self.told["users"][name],
            user_domain_name="Default", unscoped=True,
        )  # fmt: skip
        verify = self.told["ca"] or True
        try:
            return bool(session.Session(auth, verify=verify, timeout=300).get_token())
        except Exception as error:
            if getattr(error, "http_status", 0) != 401:
                raise
            return False

    def _service(self, kind: str, service: Row | None, endpoints: list[Row]) -> None:
        name, url = self.told["services"][kind]
        service = service or self.make("service", f"service {kind}", name=name, type=kind)
        for interface in ("public", "internal"):
            found = [
                e for e in endpoints
                if e["service_id"] == service["id"] and e["interface"] == interface
                and e["region_id"] == self.told["region"]
            ]  # fmt: skip
            if not found:
                self.make(
                    "endpoint", f"endpoint {kind} {interface}", url=url, interface=interface,
                    service_id=service["id"], region_id=self.told["region"],
                )  # fmt: skip
            elif found[0]["url"] != url:
                self.made.append(f"endpoint {kind} {interface}")
                path = f"/endpoints/{found[0]['id']}"
                self.ask("PATCH", path, json={"endpoint": {"url": url}})


def main() -> None:
    identity = Identity(json.load(sys.stdin))
    identity.run()
    for line in identity.made:
        sys.stdout.write(f"made {line}\n")


if __name__ == "__main__":
    main()
