"""TCP connections opened by the thousand, without a task or a waiting thread for each."""

import asyncio
import errno
import resource
import select
import socket
import time
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType

MOST = 16384  # connections at once; the kernel keeps some 4 kB for each
KEPT_FREE = 256  # descriptors for everything else of this process
SHORTEST = 0.2  # seconds that a connection is given at least
AT_ONCE = 512  # events taken at a time


def descriptors() -> int:
    """How many connections may be open at once; the process's own limit is raised for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST + KEPT_FREE if hard == resource.RLIM_INFINITY else min(hard, MOST + KEPT_FREE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(min(MOST, max(soft, wanted) - KEPT_FREE), 64)


class Dialling:
    """Opens TCP `port` of many addresses; `opened` gets each connection that opens, to keep.

    A connection under way is given up when its place is needed, the oldest first: until then a late
    answer counts, and the kernel repeats the SYN each second. An address that refused, or that
    opened once, is not dialled again.
    """

    def __init__(
        self, port: int, room: int, opened: Callable[[str, socket.socket], object]
    ) -> None:
        self._port = port
        self._room = room
        self._opened = opened
        self._settled: set[str] = set()
        self._waiting: OrderedDict[int, tuple[str, socket.socket, float]] = OrderedDict()
        self._epoll = select.epoll()

    def __enter__(self) -> "Dialling":
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._ready)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()
        while self._waiting:
            self._give_up_oldest()

    @property
    def full(self) -> bool:
        """Whether the next one would cost a connection that had too little time."""
        if len(self._waiting) < self._room:
            return False
        _, _, since = next(iter(self._waiting.values()))
        return time.monotonic() - since < SHORTEST

    def dial(self, address: str, family: socket.AddressFamily) -> None:
        """Begin. Nothing is said where it fails: not now, then perhaps in the next round."""
        if address in self._settled:
            return
        while len(self._waiting) >= self._room:
            self._give_up_oldest()
        try:
            line = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError:
            return
        failure = line.connect_ex((address, self._port))
        if failure == errno.EINPROGRESS:
            number = line.fileno()
            self._waiting[number] = (address, line, time.monotonic())
            self._epoll.register(number, select.EPOLLOUT | select.EPOLLERR | select.EPOLLHUP)
        else:
            self._ended(address, line, failure)

    def _give_up_oldest(self) -> None:
        _, (_, line, _) = self._waiting.popitem(last=False)
        line.close()  # the kernel takes it out of epoll, too

    def _ready(self) -> None:
        for number, _ in self._epoll.poll(0, AT_ONCE):
            address, line, _ = self._waiting.pop(number)
            self._epoll.unregister(number)
            self._ended(address, line, line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _ended(self, address: str, line: socket.socket, failure: int) -> None:
        known = address in self._settled
        if failure in (0, errno.ECONNREFUSED):
            self._settled.add(address)
        if failure or known:
            line.close()
        else:
            self._opened(address, line)
