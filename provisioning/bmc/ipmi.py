"""IPMI 2.0: found by Get Channel Authentication Capabilities (section 22.13), used by pyghmi.

Each conversation is a process of its own. pyghmi 1.6.19 keeps its sessions in the module and hands
a second caller the dead session of the first (session.py, initting_sessions); a process also ends
when its time is over, whatever the BMC does.
"""

import asyncio
import hashlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from pydantic import SecretStr
from pyghmi.exceptions import IpmiException
from pyghmi.ipmi.command import Command
from pyghmi.ipmi.private.session import Session

from provisioning.bmc import (
    Access,
    Contact,
    Identity,
    Knock,
    Lengths,
    Shout,
    Survey,
    _ipmi_survey,
    _ipmi_wire,
)
from provisioning.errors import BmcError, BmcLoginRefused, BmcRefused, BmcUnreachable, HungUp

Process = subprocess.Popen[str]
PORT = 623
# RMCP header (13.1.3), session-less IPMI 1.5 header, message to the BMC (0x20) from a remote
# console (0x81): Get Channel Authentication Capabilities, IPMI 2.0 data wanted, this channel,
# administrator.
ASK = bytes.fromhex("0600ff07" + "00" + "00000000" + "00000000" + "09" + "2018c8" + "8100388e04b5")
ANSWER_COMMAND_AT, ANSWER_CODE_AT = 19, 20
TRIES = 2
USER_IDS = 64
# IPMI 2.0 allows 20 bytes (22.30, Set User Password). OpenIPMI's simulator 2.0.33 acknowledges 20
# and keeps 16; who believed it would be locked out. 16 is what every one keeps.
LENGTHS = Lengths(1, 16)
DOORS_SECONDS = 2.0  # for each question without a login
LOGGED_IN = 0.9  # part of a conversation's time
LOGIN_SECONDS, LOGOUT_SECONDS = 1.0, 2.0  # what a conversation may take yet that is to end
INVALID_COMMAND, TOO_LONG, TOO_MANY = 0xC1, 0xC8, 0xCA  # completion codes, IPMI 2.0 table 5-2
CHOSEN_HASH_AT, SHA1, SHA1_CODE_BYTES = 16, 1, 12  # RMCP+ Open Session Response, table 13-17


def _understood(data: bytes) -> bool:
    return (
        len(data) > ANSWER_CODE_AT
        and data[:4] == ASK[:4]
        and data[ANSWER_COMMAND_AT] == ASK[19]
        and data[ANSWER_CODE_AT] == 0
    )


class _Listener(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def datagram_received(self, data: bytes, addr: object) -> None:
        if _understood(data) and not self.answered.done():
            self.answered.set_result(True)

    def error_received(self, exc: Exception) -> None:
        if not self.answered.done():
            self.answered.set_result(False)  # port unreachable: nobody there


class _Command(Command):  # type: ignore[misc]
    """pyghmi reads FRU data in large pieces and asks for less when told 0xC9 or 0xCA.

    OpenIPMI's simulator 2.0.33 says 0xC8 (request too long) there instead.
    """

    def raw_command(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        answer = super().raw_command(*args, **kwargs)
        if answer.get("code") == TOO_LONG:
            answer["code"] = TOO_MANY
        return answer

    def get_inventory_of_component(self, component: str) -> Any:  # noqa: ANN401
        return _if_known(lambda: super(_Command, self).get_inventory_of_component(component))

    def get_net_configuration(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return _if_known(lambda: super(_Command, self).get_net_configuration(*args, **kwargs))


def _if_known(ask: Callable[[], Any]) -> Any:  # noqa: ANN401
    """Nothing where the BMC says it does not know the command: virtualbmc has no FRU, no LAN."""
    try:
        return ask()
    except IpmiException as err:
        if getattr(err, "ipmicode", None) == INVALID_COMMAND:
            return {}
        raise


def _with_the_chosen_hash(
    take_answer: Callable[[Session, bytearray], Any],
) -> Callable[[Session, bytearray], Any]:
    """pyghmi 1.6.19 offers SHA-256 and does not read that the BMC chose SHA-1 (IPMI 2.0, 13.18).

    Most BMCs without SHA-256 refuse the offer instead; pyghmi's own server, which is virtualbmc's,
    chooses.
    """

    def answered(session: Session, data: bytearray) -> Any:  # noqa: ANN401
        if len(data) > CHOSEN_HASH_AT and data[1] == 0 and data[CHOSEN_HASH_AT] == SHA1:
            session.attemptedhash, session.currhashlib = SHA1, hashlib.sha1
            session.currhashlen = SHA1_CODE_BYTES
        return take_answer(session, data)

    return answered


Session._got_rmcp_response = _with_the_chosen_hash(Session._got_rmcp_response)


class Ipmi:
    name = "ipmi"
    driver = "ipmi"
    knock: Knock | None = Knock(PORT, ASK, _understood)
    shout: Shout | None = None
    at_once = 8  # processes, half a second of one core each

    def __init__(self) -> None:
        self._going: set[Process] = set()  # of conversations that may be ended

    def hang_up(self) -> None:
        for process in tuple(self._going):
            self._going.discard(process)
            process.terminate()

    def heard(self, address: str) -> Contact | None:
        return Contact(address=address, protocol=self.name)

    async def probe(
        self, address: str, timeout: float, line: socket.socket | None = None
    ) -> Contact | None:
        loop = asyncio.get_running_loop()
        try:
            transport, listener = await loop.create_datagram_endpoint(
                _Listener, remote_addr=(address, PORT)
            )
        except OSError:
            return None
        try:
            for _ in range(TRIES):  # UDP: one loss must not hide a server
                transport.sendto(ASK)
                done, _pending = await asyncio.wait({listener.answered}, timeout=timeout / TRIES)
                if done:
                    found = listener.answered.result()
                    return self.heard(address) if found else None
            return None
        finally:
            transport.close()

    def identify(self, contact: Contact, access: Access, timeout: float) -> Identity:
        told = _converse(contact, access, "identify", timeout, self._going)
        return Identity(**{**told["identity"], "macs": ()})

    def survey(self, contact: Contact, access: Access, timeout: float) -> Survey:
        # Without a login first: a BMC that hangs later has told this much of its doors.
        doors = _ipmi_wire.doors(contact.address, DOORS_SECONDS)
        suites = _ipmi_wire.cipher_suites(contact.address, DOORS_SECONDS)
        seconds = timeout - 2 * DOORS_SECONDS
        heard = _converse(contact, access, "survey", seconds, self._going)["heard"]
        return _ipmi_survey.survey(_ipmi_survey.Heard(**heard), doors, suites)

    def locate(self, contact: Contact, access: Access, on: bool, timeout: float) -> None:
        _converse(contact, access, "light" if on else "darken", timeout, self._going)

    def maker(self, contact: Contact, timeout: float) -> str:
        return ""

    def check_login(self, contact: Contact, access: Access, timeout: float) -> None:
        _converse(contact, access, "check_login", timeout)

    def password_lengths(self, contact: Contact, access: Access, timeout: float) -> Lengths:
        return LENGTHS

    def set_password(
        self, contact: Contact, access: Access, new: SecretStr, timeout: float
    ) -> None:
        _converse(contact, access, "set_password", timeout, new=new.get_secret_value())

    def request_csr(self, contact: Contact, access: Access, timeout: float) -> str:
        raise _no_certificate(contact)

    def install_certificate(
        self, contact: Contact, access: Access, pem: str, timeout: float
    ) -> None:
        raise _no_certificate(contact)

    def driver_info(
        self, contact: Contact, identity: Identity, access: Access, ca_path: str
    ) -> dict[str, Any]:
        return {
            "ipmi_address": contact.address,
            "ipmi_username": access.username,
            "ipmi_password": access.password.get_secret_value(),
            # ipmitool asks for the cipher list first; BMCs that do not answer that question
            # (OpenIPMI's simulator 2.0.33 is one) cost 10 s a command. 3 is what every one has.
            "ipmi_cipher_suite": "3",
        }


def _no_certificate(contact: Contact) -> BmcRefused:
    return BmcRefused(
        f"IPMI on BMC {contact.address} has no certificate", "Switch the BMC's Redfish on."
    )


def _converse(
    contact: Contact,
    access: Access,
    verb: str,
    timeout: float,
    going: set[Process] | None = None,
    **more: str,
) -> dict[str, Any]:
    """One conversation in a process of its own, which ends when its time is over.

    going: where its process is while somebody may end it.
    """
    asked = {
        "verb": verb,
        "more": more,
        "seconds": timeout,
        "address": contact.address,
        "username": access.username,
        "password": access.password.get_secret_value(),
    }
    try:
        told: dict[str, Any] = json.loads(_in_a_process(asked, going))
    except subprocess.TimeoutExpired as err:
        raise _translated(contact.address, "timeout") from err
    except (subprocess.CalledProcessError, ValueError) as err:
        raise BmcError(
            f"IPMI on BMC {contact.address} answered nonsense",
            f"Restart the BMC, then `seed discover {contact.address}`.",
        ) from err
    if "refused" in told:
        raise BmcRefused(
            f"IPMI on BMC {contact.address} did not take it: {told['refused']}",
            "Change it with the vendor's tool, then give it: "
            f"`seed discover {contact.address} --username U --password-stdin`.",
        )
    if "error" in told:
        raise _translated(contact.address, told["error"])
    return told


def _in_a_process(asked: dict[str, Any], going: set[Process] | None) -> str:
    with subprocess.Popen(
        [sys.executable, "-m", "provisioning.bmc.ipmi"],
        stdin=subprocess.PIPE,  # the login: not argv, which every user of the machine can read
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        going = set() if going is None else going
        going.add(process)
        try:
            said, _ = process.communicate(json.dumps(asked), asked["seconds"])
            if process not in going:
                raise HungUp(asked["address"])
        finally:
            going.discard(process)
            process.kill()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return said


# --- inside the conversation's process ------------------------------------------------------------


class _TimeIsUp(BaseException):
    """Not an Exception: pyghmi catches those."""


def _identify(command: _Command) -> dict[str, Any]:
    fru = command.get_inventory_of_component("System") or {}
    lan = command.get_net_configuration(gateway_macs=False)
    return {"identity": asdict(_ipmi_survey.identity(fru, lan))}


def _survey(command: _Command) -> dict[str, Any]:
    """The identity must be told; of the rest, what comes. Sensors last: some have hundreds."""
    heard = _ipmi_survey.Heard(
        fru=_plain(command.get_inventory_of_component("System") or {}),
        lan=_plain(command.get_net_configuration(gateway_macs=False) or {}),
    )
    pieces: dict[str, Callable[[], Any]] = {
        "power": lambda: command.get_power()["powerstate"],
        "chassis": lambda: list(command.raw_command(netfn=0, command=1)["data"]),
        "boot": lambda: bool(command.get_bootdev()),
        "asset_tag": lambda: _quiet(command.get_asset_tag),
        "sensors": lambda: [
            (s.name, int(s.health or 0), [str(state) for state in s.states or []])
            for s in command.get_sensor_data()
        ],
    }
    for name, piece in pieces.items():
        try:
            setattr(heard, name, piece())
        except _TimeIsUp:
            heard.untold.append(f"{name} in time")
            break
        except Exception:  # whatever a BMC makes of it: the other pieces are told all the same
            heard.untold.append(name)
    return {"heard": asdict(heard)}


def _quiet(piece: Callable[[], str]) -> str:
    """DCMI is an extra that many BMCs do not have."""
    try:
        return piece()
    except IpmiException:
        return ""


def _plain(told: dict[str, Any]) -> dict[str, Any]:
    return {str(key): str(value) for key, value in told.items() if value is not None}


def _light(command: _Command, on: bool) -> dict[str, Any]:
    command.set_identify(on=on)
    return {}


class _Refused(Exception):
    """The BMC was understood and said no: nothing changed."""


def _set_password(command: _Command, new: str) -> dict[str, Any]:
    name = command.ipmi_session.userid
    wanted = name.decode() if isinstance(name, bytes) else str(name)
    for uid in range(1, USER_IDS):
        if command.get_user_name(uid) == wanted:
            try:
                command.set_user_password(uid, password=new)
            except IpmiException as err:
                raise _Refused(f"Set User Password answered {err}") from err
            return {}
    raise _Refused("no user id has that name")


VERBS: dict[str, Callable[..., dict[str, Any]]] = {
    "check_login": lambda command: {},
    "set_password": _set_password,
    "identify": _identify,
    "survey": _survey,
    "light": lambda command: _light(command, True),
    "darken": lambda command: _light(command, False),
}


def _translated(address: str, said: str) -> BmcError:
    text = said.lower()
    if any(word in text for word in ("password", "unauthorized", "insufficient", "invalid name")):
        return BmcLoginRefused(
            f"the BMC {address} refused the login",
            f"Give the right one: `seed discover {address} --username U --password-stdin`.",
        )
    if "timeout" in text or "no connection" in text:
        return BmcUnreachable(
            f"IPMI on BMC {address} did not answer",
            f"Check cable and VLAN of the BMC port (UDP 623), then `seed discover {address}`.",
        )
    return BmcError(
        f"IPMI on BMC {address} gave an error", f"Restart the BMC, then `seed discover {address}`."
    )


def _time_is_up(*_: object) -> None:
    signal.setitimer(signal.ITIMER_REAL, LOGOUT_SECONDS)
    raise _TimeIsUp


def _hurry(*_: object) -> None:
    """A login that is under way may end: only then there is something to log out of."""
    signal.setitimer(signal.ITIMER_REAL, LOGIN_SECONDS)


def main() -> None:
    """The conversation: a verb and a JSON login on standard input, JSON facts or an error back."""
    asked = json.loads(sys.stdin.read())
    signal.signal(signal.SIGALRM, _time_is_up)
    signal.setitimer(signal.ITIMER_REAL, asked["seconds"] * LOGGED_IN)  # the rest is for the logout
    signal.signal(signal.SIGTERM, _hurry)
    told: dict[str, Any] = {}
    try:
        command = _Command(
            bmc=asked["address"], userid=asked["username"], password=asked["password"]
        )
        try:
            told = VERBS[asked["verb"]](command, **asked["more"])
        finally:
            command.ipmi_session.logout()
    except _Refused as err:
        told = {"refused": str(err)}
    except IpmiException as err:
        told = {"error": str(err)}
    except _TimeIsUp:
        told = {"error": "timeout"}
    json.dump(told, sys.stdout)


PLUGIN = Ipmi()

if __name__ == "__main__":
    main()
