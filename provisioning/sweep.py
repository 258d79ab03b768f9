"""The sweep: every address is asked by every protocol at once, in rounds, at a rate.

One UDP socket asks all of them, and TCP connections are opened by the thousand; only where one of
these knocks is answered, a task of its own probes. Whatever is answered is no error of the sweep.

How many rounds. Each answer that came only in round r shows r - 1 lost questions or answers, so the
share q of what is lost in a round is seen; until enough was seen it is taken as that of a network
that loses 5 % each way, 1 - 0.95 * 0.95. After k rounds (answers + 1) * q^k are expected to be
missed, "+ 1" because somebody may be there where nobody answered yet. The sweep ends below 0.01,
but never before the second round: a single bad cable among good ones is missed once in a hundred
times.
"""

import asyncio
import contextlib
import math
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from provisioning import neighbours
from provisioning.bmc import BmcProtocol, Contact, Knock
from provisioning.dialling import Dialling, descriptors
from provisioning.errors import Invalid

ASSUMED_LOSS = 1 - 0.95**2
EXPECTED_MISSES = 0.01
LEAST_ROUNDS, MOST_ROUNDS = 2, 9
WINDOW = 0.1  # seconds without an answer end a round
LONGEST_WINDOW = 1.0
LAST_WINDOW = 1.2  # seconds after the last round: the kernel repeats a lost SYN after 1 s
PROBE_TIMEOUT = 8.0  # seconds; real BMCs take up to 3 for TLS and the service root
PROBES = 2  # where TCP opened and its time ran out: it may have been busy, or this machine was
PROBES_AT_ONCE = 512
BATCH = 64  # addresses asked between two looks at what was answered, at most
TICK = 0.02  # seconds
TELL_SECONDS = 1.0  # between two words of progress
BUFFER = 16 * 2**20  # bytes of answers that may wait
DEFAULT_RATE = 1000.0  # addresses a second
FASTEST = 1_000_000.0

NEAR_ROUNDS = 2  # for neighbours that ARP does not find: the kernel asks three times in each
MULTICAST_TTL = 2

Said = Callable[[str], None]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pace:
    """rate: addresses a second, 0: no limit. neighbours: how many are looked for at once."""

    rate: float = DEFAULT_RATE
    neighbours: int = field(default_factory=neighbours.limit)

    def __post_init__(self) -> None:
        if not (self.rate == 0 or 0.1 <= self.rate <= FASTEST):
            raise Invalid(
                f"{self.rate:g} addresses a second is no rate",
                "Give 0.1 to 1000000, or 0 for no limit: `seed discover RANGE --rate 200`.",
            )


def rounds(answers: int, lost: int) -> int:
    """How many it takes where `answers` came, after `lost` tries in all that were not answered."""
    tries = max(answers + lost, 1)
    # At most 3 more than were seen (19 times in 20), and never less than what was seen.
    loss = max(lost / tries, min(ASSUMED_LOSS, (lost + 3) / tries))
    needed = math.log(EXPECTED_MISSES / (answers + 1)) / math.log(min(loss, 0.5))
    return min(MOST_ROUNDS, max(LEAST_ROUNDS, math.floor(needed) + 1))


def expected_seconds(addresses: Sequence[str], pace: Pace) -> float:
    """How long it takes where nothing is lost, and one in twenty answers both protocols."""
    near = len(neighbours.on_link(addresses))
    one = len(addresses) / pace.rate if pace.rate else 0.0
    silent = NEAR_ROUNDS * 0.95 * near / pace.neighbours * neighbours.LOOKS_FOR
    return max(rounds(len(addresses) // 10, 0) * (one + WINDOW), silent) + LAST_WINDOW


def sweep(
    protocols: Iterable[BmcProtocol], addresses: Sequence[str], pace: Pace, said: Said
) -> list[Contact]:
    """Who answered, one contact for each protocol and address. `said` hears how far it is."""
    return asyncio.run(Sweep(tuple(protocols), addresses, pace, said).run())


class Sweep:
    """One sweep while it runs."""

    def __init__(
        self, protocols: tuple[BmcProtocol, ...], addresses: Sequence[str], pace: Pace, said: Said
    ) -> None:
        self.addresses = addresses
        self.pace = pace
        self.said = said
        self.found: dict[tuple[str, str], Contact] = {}  # by address and protocol
        self._asked = frozenset(addresses)
        self._round = 1
        self._answered: dict[tuple[str, str], int] = {}  # by address and protocol: in which round
        self._near: set[str] = set()  # targets that the kernel finds by ARP
        self._known: set[str] = set()  # those it found
        self._room = 0  # neighbours that may be looked for now
        self._plain = [p for p in protocols if p.knock is None]
        self._by_udp = [(p, p.knock) for p in protocols if p.knock and p.knock.question]
        self._by_tcp = [(p, p.knock) for p in protocols if p.knock and not p.knock.question]
        self._shouting = [(p, p.shout) for p in protocols if p.shout]
        self._gate = asyncio.Semaphore(PROBES_AT_ONCE)
        self._probing: set[tuple[str, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ports: list[tuple[BmcProtocol, Knock, socket.AddressFamily, socket.socket]] = []
        self._lines: list[Dialling] = []

    async def run(self) -> list[Contact]:
        with contextlib.ExitStack() as stack:
            self._open(stack)
            self._shout(stack)
            for protocol in self._plain:
                for address in self.addresses:
                    self._probe(protocol, address)
            if self._by_udp or self._by_tcp:
                await self._ask_all()
            while self._tasks:
                self.said(f"asking {len(self._tasks):,} more who they are, {self._so_far()}")
                await asyncio.wait(self._tasks, timeout=TELL_SECONDS)
        return list(self.found.values())

    # --- sockets ----------------------------------------------------------------------------------

    def _open(self, stack: contextlib.ExitStack) -> None:
        families = {_family(address) for address in self.addresses}
        for protocol, knock in self._by_udp:
            for family in families:
                port = self._listen(stack, family, protocol, knock.understood)
                self._ports.append((protocol, knock, family, port))
        room = descriptors() // max(len(self._by_tcp), 1)
        for protocol, knock in self._by_tcp:
            take = partial(self._probe, protocol)
            self._lines.append(stack.enter_context(Dialling(knock.port, room, take)))

    def _listen(
        self,
        stack: contextlib.ExitStack,
        family: socket.AddressFamily,
        protocol: BmcProtocol,
        understood: Callable[[bytes], bool],
    ) -> socket.socket:
        """A UDP socket; what comes to it is looked at by `_answers`."""
        port = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))
        port.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        loop = asyncio.get_running_loop()
        loop.add_reader(port, self._answers, port, protocol, understood)
        stack.callback(loop.remove_reader, port)
        return port

    def _answers(
        self, port: socket.socket, protocol: BmcProtocol, understood: Callable[[bytes], bool]
    ) -> None:
        """Take what has come. Liars, and addresses that were not asked, are passed over."""
        for _ in range(BATCH):  # and then somebody else's turn
            try:
                data, source = port.recvfrom(2048)
            except BlockingIOError:
                return
            except OSError:  # an ICMP error of some packet sent before
                continue
            address = source[0].partition("%")[0]
            if address in self._asked and understood(data):
                self._answered.setdefault((address, protocol.name), self._round)
                contact = protocol.heard(address)
                if contact is None:
                    self._probe(protocol, address)
                else:
                    self.found[address, protocol.name] = contact

    def _shout(self, stack: contextlib.ExitStack) -> None:
        """Ask on every wire by multicast, too; who answers, and is in the sweep, is probed."""
        for protocol, shout in self._shouting:
            for own in neighbours.own_addresses():
                # No route for multicast there: the sweep asks every address anyway.
                with contextlib.suppress(OSError):
                    port = self._listen(stack, socket.AF_INET, protocol, shout.understood)
                    interface = socket.inet_aton(own)
                    port.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
                    port.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, MULTICAST_TTL)
                    port.sendto(shout.question, (shout.group, shout.port))

    # --- rounds -----------------------------------------------------------------------------------

    async def _ask_all(self) -> None:
        self._near = neighbours.on_link(self.addresses)
        addresses, enough = self.addresses, LEAST_ROUNDS
        while self._round <= enough:
            await self._one_round(addresses)
            await self._until_quiet()
            lost = sum(self._answered.values()) - len(self._answered)
            enough = rounds(len(self._answered), lost)
            if self._round == NEAR_ROUNDS and self._near:
                self._look_at_neighbours()
                addresses = [a for a in addresses if a not in self._near or a in self._known]
            self._round += 1
        self.said(f"waiting for late answers, {self._so_far()}")
        await asyncio.sleep(LAST_WINDOW)

    async def _until_quiet(self) -> None:
        end = time.monotonic() + LONGEST_WINDOW
        while time.monotonic() < end:
            before = len(self._answered)
            await asyncio.sleep(WINDOW)
            if len(self._answered) == before:
                return

    async def _one_round(self, addresses: Sequence[str]) -> None:
        begin, told = time.monotonic(), 0.0
        again = f" (round {self._round})" if self._round > 1 else ""
        batch = min(BATCH, int(self.pace.rate * TICK) + 1) if self.pace.rate else BATCH
        for sent in range(0, len(addresses), batch):
            for address in addresses[sent : sent + batch]:
                if address in self._near:
                    await self._wait_for_neighbours()
                self._send(address)
            due = min(sent + batch, len(addresses))
            await self._keep_pace(begin, due)
            if time.monotonic() - told > TELL_SECONDS:
                told = time.monotonic()
                self.said(f"probed {due:,} of {len(addresses):,}{again}, {self._so_far()}")

    def _send(self, address: str) -> None:
        family = _family(address)
        for protocol, knock, kind, port in self._ports:
            if kind == family and (address, protocol.name) not in self._answered:
                try:
                    port.sendto(knock.question, (address, knock.port))
                except OSError:  # a full buffer, or no route just now: the next round asks again
                    continue
        for line in self._lines:
            line.dial(address, family)

    async def _keep_pace(self, begin: float, sent: int) -> None:
        """Wait until `sent` addresses are due; let others have a turn in any case."""
        due = begin + sent / self.pace.rate if self.pace.rate else 0.0
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        while any(line.full for line in self._lines):
            await asyncio.sleep(TICK)

    async def _wait_for_neighbours(self) -> None:
        while self._room <= 0:
            self._look_at_neighbours()
            if self._room <= 0:
                await asyncio.sleep(10 * TICK)
        self._room -= 1

    def _look_at_neighbours(self) -> None:
        looked_for, known = neighbours.table()
        self._room = self.pace.neighbours - looked_for
        self._known |= known

    def _so_far(self) -> str:
        return f"{len({address for address, _ in self.found}):,} found"

    # --- probes -----------------------------------------------------------------------------------

    def _probe(
        self, protocol: BmcProtocol, address: str, line: socket.socket | None = None
    ) -> None:
        """Begin to ask one address who it is, unless that is being asked."""
        key = (address, protocol.name)
        if line is not None:
            self._answered.setdefault(key, self._round)
        if key in self._probing or key in self.found:
            if line is not None:
                line.close()
            return
        self._probing.add(key)
        task = asyncio.get_running_loop().create_task(self._probed(protocol, address, line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _probed(
        self, protocol: BmcProtocol, address: str, line: socket.socket | None
    ) -> None:
        contact = None
        async with self._gate:
            for _ in range(PROBES):
                begin = time.monotonic()
                try:
                    contact = await protocol.probe(address, PROBE_TIMEOUT, line)
                except Exception:  # one liar must not end the sweep of all others
                    log.exception("probe.failed", address=address, protocol=protocol.name)
                if contact or line is None or time.monotonic() - begin < PROBE_TIMEOUT:
                    break
                line = None  # it opens a connection of its own
        self._probing.discard((address, protocol.name))
        if contact is not None:
            self.found[address, protocol.name] = contact


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
