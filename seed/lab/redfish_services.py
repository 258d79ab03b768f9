"""SessionService and AccountService of a Redfish BMC (DSP0266, sections 13.3 and 13.4)."""

import json
from typing import Any

from flask import Flask, Response, request

from seed.lab.failed_logins import FailedLogins
from seed.lab.redfish_accounts import (
    IDLE_SECONDS,
    MAX_PASSWORD,
    MIN_PASSWORD,
    Account,
    Accounts,
    Session,
    Sessions,
)

SESSIONS = "/redfish/v1/SessionService"
ACCOUNTS = "/redfish/v1/AccountService"


def answer(body: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(body), status=status, content_type="application/json")


def problem(status: int, code: str, message: str) -> Response:
    """A Redfish error."""
    info = {"MessageId": f"Base.1.8.{code}", "Message": message}
    error = {"code": info["MessageId"], "message": message, "@Message.ExtendedInfo": [info]}
    response = answer({"error": error}, status)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="BMC"'
    return response


def _missing() -> Response:
    return problem(404, "ResourceMissingAtURI", "There is no such resource.")


def _body() -> dict[str, Any]:
    found = request.get_json(silent=True, force=True)
    return found if isinstance(found, dict) else {}


def members(path: str, kind: str, ids: list[str]) -> dict[str, Any]:
    """A collection's body."""
    return {
        "@odata.type": f"#{kind}Collection.{kind}Collection",
        "@odata.id": path,
        "Name": f"{kind} Collection",
        "Members@odata.count": len(ids),
        "Members": [{"@odata.id": f"{path}/{number}"} for number in ids],
    }


class SessionService:
    """Opens, lists and closes sessions."""

    def __init__(self, accounts: Accounts, sessions: Sessions, failed: FailedLogins) -> None:
        self.accounts = accounts
        self.sessions = sessions
        self.failed = failed

    def mount(self, app: Flask) -> None:
        app.add_url_rule(SESSIONS, view_func=self.service)
        members = f"{SESSIONS}/Sessions"
        app.add_url_rule(members, view_func=self.list_sessions, methods=["GET"])
        app.add_url_rule(members, view_func=self.open_session, methods=["POST"])
        app.add_url_rule(f"{members}/<number>", view_func=self.show_session, methods=["GET"])
        app.add_url_rule(f"{members}/<number>", view_func=self.close_session, methods=["DELETE"])

    def service(self) -> Response:
        return answer(
            {
                "@odata.type": "#SessionService.v1_1_6.SessionService",
                "@odata.id": SESSIONS,
                "Id": "SessionService",
                "Name": "Session Service",
                "ServiceEnabled": True,
                "SessionTimeout": int(IDLE_SECONDS),
                "Status": {"State": "Enabled", "Health": "OK"},
                "Sessions": {"@odata.id": f"{SESSIONS}/Sessions"},
            }
        )

    def list_sessions(self) -> Response:
        ids = [session.id for session in self.sessions.all()]
        return answer(members(f"{SESSIONS}/Sessions", "Session", ids))

    def open_session(self) -> Response:
        body = _body()
        username = str(body.get("UserName", ""))
        if not self.accounts.check(username, str(body.get("Password", ""))):
            self.failed.add()
            return problem(401, "InsufficientPrivilege", "The login was refused.")
        session = self.sessions.open(username)
        if session is None:
            return problem(503, "SessionLimitExceeded", "All sessions are taken.")
        response = answer(self._session(session), 201)
        response.headers["X-Auth-Token"] = session.token
        response.headers["Location"] = f"{SESSIONS}/Sessions/{session.id}"
        return response

    def show_session(self, number: str) -> Response:
        for session in self.sessions.all():
            if session.id == number:
                return answer(self._session(session))
        return _missing()

    def close_session(self, number: str) -> Response:
        return Response(status=204) if self.sessions.close(number) else _missing()

    @staticmethod
    def _session(session: Session) -> dict[str, Any]:
        return {
            "@odata.type": "#Session.v1_2_1.Session",
            "@odata.id": f"{SESSIONS}/Sessions/{session.id}",
            "Id": session.id,
            "Name": f"Session {session.id}",
            "UserName": session.username,
        }


class AccountService:
    """Lists, makes, changes and removes accounts."""

    def __init__(self, accounts: Accounts, sessions: Sessions) -> None:
        self.accounts = accounts
        self.sessions = sessions

    def mount(self, app: Flask) -> None:
        app.add_url_rule(ACCOUNTS, view_func=self.account_service)
        members = f"{ACCOUNTS}/Accounts"
        app.add_url_rule(members, view_func=self.list_accounts, methods=["GET"])
        app.add_url_rule(members, view_func=self.make_account, methods=["POST"])
        one = f"{members}/<number>"
        app.add_url_rule(one, view_func=self.show_account, methods=["GET"])
        app.add_url_rule(one, view_func=self.change_account, methods=["PATCH"])
        app.add_url_rule(one, view_func=self.remove_account, methods=["DELETE"])

    def account_service(self) -> Response:
        return answer(
            {
                "@odata.type": "#AccountService.v1_7_0.AccountService",
                "@odata.id": ACCOUNTS,
                "Id": "AccountService",
                "Name": "Account Service",
                "ServiceEnabled": True,
                "MinPasswordLength": MIN_PASSWORD,
                "MaxPasswordLength": MAX_PASSWORD,
                "AccountLockoutThreshold": 0,
                "Accounts": {"@odata.id": f"{ACCOUNTS}/Accounts"},
            }
        )

    def list_accounts(self) -> Response:
        ids = [account.id for account in self.accounts.all()]
        return answer(members(f"{ACCOUNTS}/Accounts", "ManagerAccount", ids))

    def make_account(self) -> Response:
        body = _body()
        username, password = str(body.get("UserName", "")), str(body.get("Password", ""))
        if not username or self.accounts.find(username):
            return problem(400, "ResourceAlreadyExists", "The name is empty or taken.")
        if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
            return problem(400, "PropertyValueFormatError", "The password's length is wrong.")
        account = self.accounts.add(username, password, str(body.get("RoleId", "ReadOnly")))
        response = answer(self._account(account), 201)
        response.headers["Location"] = f"{ACCOUNTS}/Accounts/{account.id}"
        return response

    def show_account(self, number: str) -> Response:
        account = self.accounts.get(number)
        return answer(self._account(account)) if account else _missing()

    def change_account(self, number: str) -> Response:
        account = self.accounts.get(number)
        if account is None:
            return _missing()
        body = _body()
        if "Password" in body:
            password = str(body["Password"])
            if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
                return problem(400, "PropertyValueFormatError", "The password's length is wrong.")
            account.set_password(password)
        if "Enabled" in body:
            account.enabled = bool(body["Enabled"])
        self.accounts.save()
        self.sessions.close_of(account.username)
        return answer(self._account(account))

    def remove_account(self, number: str) -> Response:
        account = self.accounts.get(number)
        if account is None:
            return _missing()
        if len(self.accounts.all()) == 1:
            return problem(400, "ResourceCannotBeDeleted", "The last account stays.")
        self.accounts.remove(number)
        self.sessions.close_of(account.username)
        return Response(status=204)

    @staticmethod
    def _account(account: Account) -> dict[str, Any]:
        return {
            "@odata.type": "#ManagerAccount.v1_6_0.ManagerAccount",
            "@odata.id": f"{ACCOUNTS}/Accounts/{account.id}",
            "Id": account.id,
            "Name": f"Account {account.username}",
            "UserName": account.username,
            "RoleId": account.role,
            "Enabled": account.enabled,
            "Locked": False,
            "Password": None,
        }
