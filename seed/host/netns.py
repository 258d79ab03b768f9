"""Do things inside a named network namespace, from a process outside it."""

import ctypes
import json
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from ipaddress import IPv4Interface
from pathlib import Path
from typing import TypeVar

from provisioning.errors import HostError

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_FOLDER = Path("/run/netns")


def prefix(namespace: str) -> list[str]:
    """What goes before an argv so that it runs in `namespace` ("" is the machine's own)."""
    return ["ip", "netns", "exec", namespace] if namespace else []


def run(namespace: str, argv: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Run `argv` in `namespace` for at most `timeout` seconds. The exit code is the caller's."""
    return subprocess.run(
        [*prefix(namespace), *argv], capture_output=True, text=True, timeout=timeout, check=False
    )


def call(namespace: str, function: Callable[[], T]) -> T:
    """What `function` returns when it runs in `namespace`: sockets it opens belong there.

    It runs in a thread of its own that joins the namespace and ends afterwards; the rest of the
    process stays where it is (setns(2) moves one thread). os.setns exists from Python 3.12 on.
    """
    if not namespace:
        return function()
    result: list[T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            _join(namespace)
            result.append(function())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def _join(namespace: str) -> None:
    fd = os.open(_FOLDER / namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(fd, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), f"setns {namespace}")
    finally:
        os.close(fd)


def addresses(namespace: str) -> dict[str, list[IPv4Interface]]:
    """IPv4 addresses by interface; interfaces without one have an empty list; lo is left out.

    Raises HostError if the namespace does not exist.
    """
    where = ["-n", namespace] if namespace else []
    if namespace and not (_FOLDER / namespace).exists():
        raise HostError(
            f"the network namespace {namespace} does not exist", f"ip netns add {namespace}"
        )
    done = subprocess.run(
        ["ip", "-j", *where, "address"], capture_output=True, text=True, timeout=10, check=True
    )
    return {
        link["ifname"]: [
            IPv4Interface(f"{info['local']}/{info['prefixlen']}")
            for info in link["addr_info"]
            if info["family"] == "inet"
        ]
        for link in json.loads(done.stdout)
        if link.get("ifname") not in (None, "lo")
    }
