"""Which answer a Redfish request gets: logins, sessions, what can be changed (DSP0266)."""

import base64
import binascii
import json
import secrets
from dataclasses import dataclass, field
from typing import Any, cast

from seed.lab.fleet import shapes, tree
from seed.lab.fleet.bmc import Account, Bmc
from seed.lab.fleet.lies import amended
from seed.lab.fleet.parts import ACCOUNTS, ROOT
from seed.lab.fleet.spec import Lie

OPEN = (ROOT, "/redfish", f"{ROOT}/odata", f"{ROOT}/$metadata")
RESET = {
    "On": "On", "ForceOn": "On", "ForceRestart": "On", "GracefulRestart": "On",
    "PowerCycle": "On", "ForceOff": "Off", "GracefulShutdown": "Off",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Request:
    """headers: names in lower case. path: without the slash at its end and without the query."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    query: str = ""

    def json(self) -> dict[str, Any]:
        try:
            found = json.loads(self.body or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class Answer:
    """seconds: how long the BMC thinks before it says so."""

    status: int
    body: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def problem(status: int, code: str, message: str, seconds: float = 0.0) -> Answer:
    info = {"MessageId": f"Base.1.8.{code}", "Message": message}
    error = {"code": info["MessageId"], "message": message, "@Message.ExtendedInfo": [info]}
    headers = {"WWW-Authenticate": 'Basic realm="BMC"'} if status == 401 else {}
    return Answer(status, {"error": error}, headers, seconds)


def answer(bmc: Bmc, request: Request) -> Answer:
    """What this BMC says."""
    bmc.counts.requests += 1
    if request.path in OPEN and request.method in ("GET", "HEAD"):
        if request.path == ROOT:
            return _get(bmc, request)
        return Answer(200, {"v1": f"{ROOT}/"})
    if request.path == f"{tree.SESSIONS}/Sessions" and request.method == "POST":
        return _open_session(bmc, request)
    refused, seconds = _who(bmc, request)
    if refused:
        return refused
    said = _VERBS.get(request.method, _not_allowed)(bmc, request)
    return Answer(said.status, said.body, said.headers, seconds + bmc.get_seconds)


def _who(bmc: Bmc, request: Request) -> tuple[Answer | None, float]:
    """A refusal, or None; and the seconds that looking took."""
    token = request.headers.get("x-auth-token")
    if token:
        if any(secrets.compare_digest(token, t) for t, _ in bmc.sessions.values()):
            return None, 0.0
        return problem(401, "NoValidSession", "There is no valid session."), 0.0
    kind, _, encoded = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "basic":
        return problem(401, "NoValidSession", "Log in first."), 0.0
    try:
        name, _, password = base64.b64decode(encoded).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        name = password = ""
    if _login(bmc, name, password):
        return None, bmc.login_seconds
    return _refused(bmc), 0.0


def _login(bmc: Bmc, name: str, password: str) -> bool:
    for account in bmc.accounts.values():
        if account.name == name and account.enabled:
            right = secrets.compare_digest(account.password.encode(), password.encode())
            if right or (bmc.lie is Lie.EMPTY_PASSWORD and not password):
                bmc.counts.logins += 1
                return True
    bmc.counts.failed_logins += 1
    return False


def _refused(bmc: Bmc) -> Answer:
    what = "The login was refused."
    return problem(401, "InsufficientPrivilege", what, bmc.login_seconds)


def _open_session(bmc: Bmc, request: Request) -> Answer:
    asked = request.json()
    name = str(asked.get("UserName", ""))
    if not _login(bmc, name, str(asked.get("Password", ""))):
        return _refused(bmc)
    if len(bmc.sessions) >= bmc.session_limit:
        return problem(503, "SessionLimitExceeded", "All sessions are taken.", bmc.login_seconds)
    bmc.counts.sessions_opened += 1
    number, token = str(bmc.counts.sessions_opened), secrets.token_hex(16)
    bmc.sessions[number] = (token, name)
    bmc.counts.sessions_most = max(bmc.counts.sessions_most, len(bmc.sessions))
    path = f"{tree.SESSIONS}/Sessions/{number}"
    headers = {"X-Auth-Token": token, "Location": path}
    return Answer(201, tree.show(bmc, path), headers, bmc.login_seconds)


def _missing() -> Answer:
    return problem(404, "ResourceMissingAtURI", "There is no such resource.")


def _not_allowed(bmc: Bmc, request: Request) -> Answer:
    return problem(405, "ActionNotSupported", f"{request.method} is not possible here.")


def _get(bmc: Bmc, request: Request) -> Answer:
    if shapes.refuses(bmc, request.query):
        return problem(501, "QueryNotSupported", "There is no such query.")
    body = shapes.shaped(bmc, request.path, request.query, tree.show(bmc, request.path))
    return _missing() if body is None else Answer(200, amended(bmc, request.path, body))


def _post(bmc: Bmc, request: Request) -> Answer:
    asked, verb = request.json(), request.path.rpartition("/")[2]
    if verb == "ComputerSystem.Reset":
        bmc.power = RESET.get(str(asked.get("ResetType")), bmc.power)
        return Answer(204)
    if verb in ("VirtualMedia.InsertMedia", "VirtualMedia.EjectMedia"):
        medium = request.path.partition("/Actions/")[0]
        image = asked.get("Image") if verb.endswith("InsertMedia") else None
        bmc.changes[medium] = {"Image": image, "Inserted": image is not None}
        return Answer(204)
    if request.path == f"{ACCOUNTS}/Accounts":
        number = str(max(map(int, bmc.accounts), default=0) + 1)
        bmc.accounts[number] = Account(
            str(asked.get("UserName", "")), str(asked.get("Password", "")),
            str(asked.get("RoleId", "ReadOnly")), bool(asked.get("Enabled", True)),
        )  # fmt: skip
        return Answer(201, tree.show(bmc, f"{request.path}/{number}"))
    return _missing()


def _patch(bmc: Bmc, request: Request) -> Answer:
    if tree.show(bmc, request.path) is None:
        return _missing()
    folder, _, number = request.path.rpartition("/")
    if folder == f"{ACCOUNTS}/Accounts":
        return _change_account(bmc.accounts[number], request.json())
    bmc.changes[request.path] = bmc.changes.get(request.path, {}) | request.json()
    return Answer(200, tree.show(bmc, request.path))


def _change_account(account: Account, asked: dict[str, Any]) -> Answer:
    password = asked.get("Password")
    if password is not None and not 8 <= len(str(password)) <= 32:
        return problem(400, "PropertyValueFormatError", "A password has 8 to 32 characters.")
    account.password = str(password) if password is not None else account.password
    account.name = str(asked.get("UserName", account.name))
    account.enabled = bool(asked.get("Enabled", account.enabled))
    account.role = str(asked.get("RoleId", account.role))
    return Answer(204)


def _delete(bmc: Bmc, request: Request) -> Answer:
    folder, _, number = request.path.rpartition("/")
    owner = {f"{tree.SESSIONS}/Sessions": bmc.sessions, f"{ACCOUNTS}/Accounts": bmc.accounts}
    known = cast(dict[str, Any], owner.get(folder, {}))
    return Answer(204) if known.pop(number, None) else _missing()


_VERBS = {"GET": _get, "HEAD": _get, "POST": _post, "PATCH": _patch, "DELETE": _delete}
