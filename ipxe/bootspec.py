"""What one network boot does: a closed set of answers, and the choice between them.

Every value ends in an iPXE script that a firmware runs, so every value is checked here against a
strict grammar: no line end, no `;`, no `${`, no space gets through.
"""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath

from provisioning import kernel_args
from provisioning.errors import Invalid

# EUI-48, lower case, colons: as Ironic stores ports.
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
# RFC 3986 without userinfo, query and fragment; `$`, `;`, quotes and blanks are not in it.
URL = re.compile(r"https?://[0-9A-Za-z.\-]+(:[0-9]{1,5})?(/[0-9A-Za-z._~%+:@-]+)*/?")
ARGUMENT = kernel_args.ARGUMENT
# As useradd, Debian and mktemp make paths: what no configuration file of ours gives a meaning.
PATH = re.compile(r"(/[0-9A-Za-z._@+-]+)+")
INTERFACE = re.compile(r"[0-9A-Za-z._-]{1,15}")
COMMAND_LINE = 2047
"""Characters of a kernel command line on x86: COMMAND_LINE_SIZE without the NUL."""
ROOM = 200
"""Of it for what the template adds: BOOTIF and the names of the initrds."""
COLLECTORS = "ipa-inspection-collectors=default,lldp,logs"
"""Kernel argument: what the ramdisk collects when it inspects; `logs` last, for it has theirs."""


def _matches(pattern: re.Pattern[str], value: str, what: str, remedy: str) -> str:
    if not pattern.fullmatch(value):
        raise Invalid(f"{value!r} is not {what}", remedy)
    return value


def checked_mac(mac: str) -> str:
    """`mac` itself. Raises Invalid unless it is EUI-48 in lower case with colons."""
    return _matches(MAC, mac, "a MAC address", "write it like 52:54:00:12:34:56")


def checked_url(url: str) -> str:
    """`url` itself. Raises Invalid unless it is a plain http or https address."""
    return _matches(URL, url, "a boot URL", "write it like http://192.0.2.1/images/ramdisk/kernel")


def checked_path(path: PurePath) -> PurePath:
    """`path` itself. Raises Invalid unless it is absolute and means itself in every file of ours.

    `%` is supervisord's and systemd's, `$` nginx's and Ironic's, a blank ends a word of dnsmasq's.
    """
    remedy = "use letters, digits, '.', '_', '-', '@' and '+' in each folder's name"
    _matches(PATH, str(path), "a path that can stand in a configuration file", remedy)
    return path


def checked_interface(name: str) -> str:
    """`name` itself. Raises Invalid unless it is a network interface's."""
    return _matches(INTERFACE, name, "an interface name", "see `ip link`")


def console_arguments(words: str) -> tuple[str, ...]:
    """The setting `console_args`, checked, one each: kernel arguments separated by blanks.

    Raises Invalid for one that has another grammar, or that says more than where output goes:
    which system boots, or what the ramdisk's agent trusts (ipa-insecure, ipa-ntp-server).
    """
    arguments = tuple(words.split(" ")) if words else ()
    for argument in arguments:
        checked_argument(argument)
        name = kernel_args.key(argument)
        if name in kernel_args.REFUSED or name.startswith(("ipa_", "seed.")):
            raise Invalid(
                f"{argument!r} is no console argument", "write where output goes: console=ttyS0"
            )
    return arguments


def checked_argument(argument: str) -> str:
    """`argument` itself. Raises Invalid unless it is one kernel argument without blanks."""
    return _matches(
        ARGUMENT, argument, "a kernel argument", "write each one alone: quiet, console=ttyS0,115200"
    )


@dataclass(frozen=True, slots=True)
class Nothing:
    """Answer the machine with nothing: its firmware goes on to the next boot entry."""


@dataclass(frozen=True, slots=True)
class LocalDisk:
    """Start what is on the first disk that boots."""


@dataclass(frozen=True, slots=True)
class Chain:
    """Go on with another script, and with the local disk where that script does not exist.

    The latter matters: Ironic takes its file away before the last boot of a deployment, and many
    servers go to the network first whatever they were told.

    url: absolute http(s) URL of an iPXE script.
    """

    url: str

    def __post_init__(self) -> None:
        checked_url(self.url)


@dataclass(frozen=True, slots=True)
class Ramdisk:
    """Load a kernel and its initrds and start them.

    kernel:  absolute http(s) URL.
    initrds: one or more URLs, loaded in this order.
    args:    kernel arguments, one per item. `BOOTIF` and `initrd` are added by the template.
    """

    kernel: str
    initrds: tuple[str, ...]
    args: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.initrds:
            raise Invalid("a ramdisk boot needs an initrd", "name at least one initrd URL")
        for url in (self.kernel, *self.initrds):
            checked_url(url)
        for argument in self.args:
            checked_argument(argument)
        if sum(len(argument) + 1 for argument in self.args) > COMMAND_LINE - ROOM:
            raise Invalid("the kernel arguments are too long", "shorten console_args")


BootSpec = Nothing | LocalDisk | Chain | Ramdisk


class Standing(StrEnum):
    """How a MAC stands with us."""

    UNKNOWN = "unknown"
    """No node has it."""
    IDLE = "idle"
    """A node has it and nobody ordered anything."""
    ORDERED = "ordered"
    """Ironic is inspecting, cleaning or deploying the node."""


def hyphened(mac: str) -> str:
    """52:54:00:12:34:56 as 52-54-00-12-34-56: Ironic's file names and iPXE's `hexhyp`."""
    return checked_mac(mac).replace(":", "-")


def ironic_script(boot_url: str, mac: str) -> str:
    """URL of the script that Ironic keeps for `mac` while it works on the node.

    Ironic links http_root/pxelinux.cfg/<mac with hyphens> (ironic.common.pxe_utils).
    """
    return f"{boot_url}/ironic/pxelinux.cfg/{hyphened(mac)}"


def discovery(boot_url: str, gateway_url: str, console_args: str) -> Ramdisk:
    """The published ramdisk, reporting what it finds to the node gateway.

    console_args: kernel arguments separated by blanks, as in the settings.
    """
    folder = f"{boot_url}/images/ramdisk/current"
    return Ramdisk(
        kernel=f"{folder}/kernel",
        initrds=(f"{folder}/initramfs",),
        args=(
            f"ipa-inspection-callback-url={gateway_url}/v1/continue_inspection",
            f"ipa-api-url={gateway_url}",
            COLLECTORS,
            "nofb",
            "vga=normal",
            *console_arguments(console_args),
            "quiet",
            "systemd.show_status=false",
        ),
    )


def choose(
    standing: Standing, mac: str, boot_url: str, unknown: Ramdisk | Nothing | None = None
) -> BootSpec:
    """What a machine with `mac` boots.

    boot_url: plain HTTP address of this appliance on the provisioning wire.
    unknown:  the discovery ramdisk where that is switched on; else nothing.
    """
    match standing:
        case Standing.ORDERED:
            return Chain(ironic_script(boot_url, mac))
        case Standing.IDLE:
            return LocalDisk()
        case Standing.UNKNOWN:
            return unknown or Nothing()
