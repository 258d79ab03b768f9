"""Kernel arguments that a claim gives its installed system: a grammar, and names that are refused.

They end in a file that a shell reads (/etc/default/grub.d) and on a kernel's command line, so the
grammar has no blank, no quote, no `$`, `;` or backslash in it: the kernel's own quoting is not
offered. Refused are names that say which
system boots, or who configures it: each would make the node something else than was asked for.
"""

import re
from collections.abc import Sequence
from typing import Final

from provisioning.errors import Invalid

ARGUMENT: Final = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*(=[0-9A-Za-z._~%+:@,/=-]*)?", re.ASCII)
MANY: Final = 32
LONGEST: Final = 200
ALL: Final = 1000
"""Characters of all together: the kernel reads 2048 (COMMAND_LINE_SIZE), the image has its own."""

REFUSED: Final = frozenset(
    """
    init rdinit root rootfstype rootflags rootwait rootdelay ro rw initrd noinitrd resume
    boot_image bootif
    ds ci.ds ci.datasource cloud_init cloud_config_url cc cc_end network_config
    ip nfsroot nfsaddrs netroot
    single s emergency rescue break panic_on_oops
    raid md
    """.split()
)
"""As Linux compares names: '-' and '_' are the same. Lower case here; matched without case."""
FAMILIES: Final = ("ipa_", "seed.", "rd.", "systemd.", "root_", "cloud_")
"""The ramdisk's, Seed's, the initrd's, PID 1's: systemd.run would run a command at each boot."""


def check(arguments: Sequence[str]) -> None:
    """Raises Invalid for what is no kernel argument, or one that a claim may not give."""
    if len(arguments) > MANY or sum(map(len, arguments)) > ALL:
        raise Invalid(
            f"more than {MANY} kernel arguments, or more than {ALL} characters of them",
            "Leave out those that a file in the image can say, as in /etc/sysctl.d.",
        )
    for argument in arguments:
        _check_one(argument)
    names = [key(argument) for argument in arguments]
    twice = sorted({n for n in names if n != "console" and names.count(n) > 1})
    if twice:
        raise Invalid(f"the kernel argument {twice[0]} is given twice", "Give it once.")


def _check_one(argument: str) -> None:
    if len(argument) > LONGEST or not ARGUMENT.fullmatch(argument):
        raise Invalid(
            f"{argument[:60]!r} is no kernel argument",
            "Write each one alone, without blanks or quotes: quiet, hugepages=16.",
        )
    name = key(argument)
    if name in REFUSED or name.isdigit() or name.startswith(FAMILIES):
        raise Invalid(
            f"the kernel argument {argument.partition('=')[0][:40]} is not for a claim to give",
            "It says what boots or who configures it; that is the image's and Seed's to say.",
        )


def key(argument: str) -> str:
    """Its name, as the kernel compares it."""
    return argument.partition("=")[0].lower().replace("-", "_")
