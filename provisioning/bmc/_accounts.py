"""A Redfish BMC's AccountService (DSP0268, ManagerAccount), over a connection of sushy's.

`web` has get(path) and patch(path, data, headers): sushy's Connector, which knows no accounts.
"""

from typing import Any, Protocol

from pydantic import SecretStr

from provisioning.bmc import Lengths
from provisioning.errors import BmcRefused

SERVICE = "/redfish/v1/AccountService"
ACCOUNTS_CAP = 64  # a BMC has 10 to 16; a lying one could list for ever
MOST = 255  # the longest that is believed
PLAIN_LEAST, PLAIN_MOST = 1, 16  # of IPMI 1.5 (22.30 of 2.0): what every one takes


class Web(Protocol):
    def get(self, path: str) -> Any: ...  # noqa: ANN401
    def patch(self, path: str, data: Any, headers: Any) -> Any: ...  # noqa: ANN401


def lengths(web: Web) -> Lengths:
    """MinPasswordLength and MaxPasswordLength; some BMCs leave them out, or say 0."""
    service = _service(web)
    least, most = (service.get(f"{end}PasswordLength") for end in ("Min", "Max"))
    return Lengths(
        least if isinstance(least, int) and 0 < least <= MOST else PLAIN_LEAST,
        most if isinstance(most, int) and 0 < most <= MOST else PLAIN_MOST,
    )


def set_password(web: Web, username: str, new: SecretStr) -> None:
    """PATCH the account of that name. Its ETag goes along: some BMCs refuse without (412, 428)."""
    for member in _members(web):
        answer = web.get(member)
        if answer.json().get("UserName") == username:
            tag = answer.headers.get("ETag")
            body = {"Password": new.get_secret_value()}
            web.patch(member, data=body, headers={"If-Match": tag} if tag else {})
            return
    raise BmcRefused(
        f"the BMC lists no account named {username!r}",
        "Change its password with the vendor's tool, then give it: "
        "`seed discover ADDRESS --username U --password-stdin`.",
    )


def _service(web: Web) -> dict[str, Any]:
    found = web.get(SERVICE).json()
    if not isinstance(found, dict):
        raise TypeError("the AccountService is no object")
    return found


def _members(web: Web) -> list[str]:
    path = _service(web)["Accounts"]["@odata.id"]
    return [str(m["@odata.id"]) for m in web.get(path).json()["Members"][:ACCOUNTS_CAP]]
