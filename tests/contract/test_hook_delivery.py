"""Deliveries of events to webhooks, posted to a real HTTPS receiver on loopback."""

import base64
import hashlib
import hmac
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address, IPv4Network, ip_address
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy.exc import IntegrityError
from sqlmodel import col, select, update

from provisioning import hook_delivery, hooks
from provisioning.discovery import Finder
from provisioning.errors import Conflict, Invalid
from provisioning.hook_delivery import Courier, signed, surroundings
from provisioning.hooks import Address, Delivery, DeliveryState, Webhook
from provisioning.leases import LeaseWatch
from provisioning.models import Event, now
from provisioning.reconcile import Reconciler
from provisioning.secrets import Sealer, Unsealer, make_keys
from provisioning.store import Store, record
from tests.contract.test_stopping import a_reconciler
from tests.fakes.appliance import until
from tests.fakes.receiver import NAME, Got, Receiver, receiving
from tests.fakes.store import new_store

SOURCE = "https://172.22.2.1:8443"
LOOPBACK = [ip_address("127.0.0.1")]
SECRET = hooks.new_secret()
Dead, Delivered, Pending = DeliveryState.DEAD, DeliveryState.DELIVERED, DeliveryState.PENDING


@pytest.fixture
def store(tmp_path: Path) -> Store:
    make_keys(tmp_path / "master.key", tmp_path / "master.pub")
    return new_store(tmp_path)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[Receiver]:
    with receiving(tmp_path) as found:
        yield found


def a_courier(
    store: Store, receiver: Receiver | None = None, addresses: Sequence[Address] = LOOPBACK,
    refuses: Callable[[Address], bool] = lambda address: False,
) -> Courier:  # fmt: skip
    folder = Path(str(store.engine.url.database)).parent
    return Courier(
        store=store,
        unseal=Unsealer(folder / "master.key").open,
        source=SOURCE,
        refuses=refuses,
        trust=receiver.trust if receiver else ssl.create_default_context,
        resolve=lambda host, port: addresses,
    )


@pytest.fixture
def courier(store: Store, receiver: Receiver) -> Courier:
    return a_courier(store, receiver)


def a_hook(store: Store, url: str, name: str = "ci", project: str = "", *kinds: str) -> Webhook:
    folder = Path(str(store.engine.url.database)).parent
    hook = Webhook(name=name, project=project, url=url, kinds=list(kinds), sealed=b"")
    hook.sealed = Sealer(folder / "master.pub").seal(SECRET, hooks.purpose(hook.id))
    with store.write() as session:
        hooks.add(session, hook)
    return hook


def happen(store: Store, *subjects: str, kind: str = "claim.active", project: str = "red") -> None:
    for subject in subjects:
        with store.write() as session:
            record(session, kind, subject, f"{subject} is up", project=project, who="ada", n=1)


def deliveries(store: Store) -> list[Delivery]:
    with store.read() as session:
        return list(session.exec(select(Delivery).order_by(col(Delivery.event_id))).all())


def events(store: Store, kind: str) -> list[Event]:
    with store.read() as session:
        return list(session.exec(select(Event).where(Event.kind == kind)).all())


def due_now(store: Store) -> None:
    with store.write() as session:
        session.execute(update(Delivery).values(next_at=now()))


def carry(courier: Courier) -> None:
    """What the reconciler does in some passes."""
    while courier.spread() == 0.0:
        pass
    for hook in courier.due():
        courier.turn(hook)


def subjects(receiver: Receiver) -> list[str]:
    return [json.loads(got.body)["subject"] for got in receiver.got]


# --- what is sent ---------------------------------------------------------------------------------


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example that the specification's libraries are tested with."""
    headers = signed(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
        b'{"test": 2432232314}',
    )  # fmt: skip
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_an_event_arrives_as_a_signed_cloud_event(
    store: Store, courier: Courier, receiver: Receiver
) -> None:
    happen(store, "before it was made")
    a_hook(store, receiver.url)
    happen(store, "web-1")
    carry(courier)
    (got,) = receiver.got
    (sent,) = deliveries(store)
    (event,) = [e for e in events(store, "claim.active") if e.subject == "web-1"]
    told = json.loads(got.body)
    assert told == {
        "specversion": "1.0", "id": str(event.id), "source": SOURCE, "type": "seed.claim.active",
        "subject": "web-1", "time": event.at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "datacontenttype": "application/json",
        "data": {
            "project": "red", "who": "ada", "why": "", "plan": "", "request_id": "",
            "message": "web-1 is up", "data": {"n": 1},
        },
    }  # fmt: skip
    assert got.path == "/seed?room=1"
    assert got.headers["content-type"] == "application/cloudevents+json"
    assert got.headers["host"] == f"{NAME}:{receiver.port}"
    assert got.headers["webhook-id"] == str(sent.id)
    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 60
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    text = f"{sent.id}.{got.headers['webhook-timestamp']}.".encode() + got.body
    right = base64.b64encode(hmac.new(key, text, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{right}"
    assert (sent.state, sent.status, sent.attempts, sent.error) == (Delivered, 204, 1, "")


def test_each_is_told_of_its_project_and_its_kinds(
    store: Store, courier: Courier, receiver: Receiver
) -> None:
    base = receiver.url.partition("?")[0]
    a_hook(store, f"{base}/all", "all")
    a_hook(store, f"{base}/red", "ci", "red")
    a_hook(store, f"{base}/blue", "ci", "blue", "claim.", "node.stuck")
    happen(store, "r")
    happen(store, "b", project="blue")
    happen(store, "s", kind="node.stuck", project="blue")
    happen(store, "m", kind="node.moved", project="blue")
    happen(store, "none", kind="bmc.found", project="")
    carry(courier)
    told: dict[str, list[str]] = {}
    for got in receiver.got:
        body = json.loads(got.body)
        if not body["type"].startswith("seed.webhook."):
            told.setdefault(got.path.rpartition("/")[2], []).append(body["subject"])
    assert told == {"all": ["r", "b", "s", "m", "none"], "red": ["r"], "blue": ["b", "s"]}


def test_a_second_pass_sends_nothing_twice(
    store: Store, courier: Courier, receiver: Receiver
) -> None:
    a_hook(store, receiver.url)
    happen(store, "a", "b")
    carry(courier)
    carry(courier)
    carry(a_courier(store, receiver))  # after a restart
    assert subjects(receiver) == ["a", "b"]


def test_rows_and_cursor_are_one_transaction(
    store: Store, courier: Courier, receiver: Receiver
) -> None:
    a_hook(store, receiver.url)
    happen(store, "a")
    with store.write() as session:
        session.connection().exec_driver_sql(
            "CREATE TRIGGER full BEFORE UPDATE ON webhook BEGIN SELECT RAISE(ABORT, 'full'); END"
        )
    with pytest.raises(IntegrityError, match="full"):
        courier.spread()
    assert deliveries(store) == []
    with store.write() as session:
        session.connection().exec_driver_sql("DROP TRIGGER full")
    carry(courier)
    assert subjects(receiver) == ["a"]


# --- what goes wrong ------------------------------------------------------------------------------


def until_dead(store: Store, courier: Courier) -> Delivery:
    for _ in range(len(hook_delivery.DELAYS) + 1):
        due_now(store)
        carry(courier)
    return deliveries(store)[0]


def test_what_fails_is_tried_for_about_a_day_then_given_up_with_the_reason(
    store: Store, courier: Courier, receiver: Receiver
) -> None:
    receiver.answer = lambda got, handler: 500
    hook = a_hook(store, receiver.url, "ci", "red")
    happen(store, "a")
    before = now()
    carry(courier)
    (row,) = deliveries(store)
    assert (row.state, row.status, row.error) == (Pending, 500, "it answered 500")
    assert 4.0 <= (row.next_at - before).total_seconds() <= 30.0
    carry(courier)
    assert len(receiver.got) == 1  # not before its time
    row = until_dead(store, courier)
    assert (row.state, row.attempts) == (Dead, 11)
    assert 20 * 3600 < sum(hook_delivery.DELAYS) < 28 * 3600
    (told,) = events(store, "webhook.dead")
    assert (told.subject, told.project, told.message) == (
        str(hook.id),
        "red",
        "ci: it answered 500",
    )
    for _ in range(3):  # it is not told of its own deliveries: that would never end
        due_now(store)
        carry(courier)
    assert len(deliveries(store)) == 1
    assert len(receiver.got) == 11
    assert len({got.headers["webhook-id"] for got in receiver.got}) == 1
    assert len({got.body for got in receiver.got}) == 1


def test_dead_ones_are_sent_once_more(store: Store, courier: Courier, receiver: Receiver) -> None:
    receiver.answer = lambda got, handler: 503
    hook = a_hook(store, receiver.url)
    happen(store, "a")
    until_dead(store, courier)
    receiver.answer = lambda got, handler: 200
    with store.write() as session:
        assert hooks.send_again(session, session.get_one(Webhook, hook.id), None) == 1
    carry(courier)
    (row,) = deliveries(store)
    assert (row.state, row.attempts, row.error) == (Delivered, 1, "")
    assert receiver.got[-1].headers["webhook-id"] == str(row.id)


def test_one_that_is_refused_does_not_keep_back_what_came_after(
    store: Store, courier: Courier, receiver: Receiver
) -> None:
    receiver.answer = lambda got, handler: 400 if b'"a"' in got.body else 204
    a_hook(store, receiver.url)
    happen(store, "a", "b", "c")
    carry(courier)
    carry(courier)
    assert [d.state for d in deliveries(store)] == [Pending, Delivered, Delivered]


def test_gone_ends_it(store: Store, courier: Courier, receiver: Receiver) -> None:
    receiver.answer = lambda got, handler: 410
    a_hook(store, receiver.url)
    happen(store, "a", "b")
    carry(courier)
    assert [d.state for d in deliveries(store)] == [Dead, Pending]
    assert courier.due() == []
    (told,) = events(store, "webhook.disabled")
    assert told.who == "seed"


def test_a_redirect_is_not_followed(store: Store, courier: Courier, receiver: Receiver) -> None:
    receiver.answer = lambda got, handler: 307
    a_hook(store, receiver.url)
    happen(store, "a")
    carry(courier)
    assert deliveries(store)[0].error == "it answered 307: webhooks are not redirected"
    assert [got.path for got in receiver.got] == ["/seed?room=1"]


def test_a_certificate_that_is_not_trusted_or_not_its_own(
    store: Store, tmp_path: Path, receiver: Receiver
) -> None:
    a_hook(store, receiver.url, "not-trusted")
    with receiving(tmp_path, "other.example.org") as other:
        a_hook(store, other.url, "not-its-own")
        happen(store, "a")
        for courier in (a_courier(store), a_courier(store, other)):
            due_now(store)
            carry(courier)
        errors = {d.error for d in deliveries(store) if d.error}
        assert errors == {
            "its certificate is not trusted: unable to get local issuer certificate",
            "its certificate is not trusted: Hostname mismatch, certificate is not valid for "
            f"'{NAME}'.",
        }
        assert other.got == receiver.got == []  # nothing was said to a stranger


def drip(got: Got, handler: BaseHTTPRequestHandler) -> int:
    """An answer that never ends, and never falls silent."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    try:
        while True:
            handler.wfile.write(b"X-More: x\r\n")
            handler.wfile.flush()
            time.sleep(0.05)
    except OSError:
        return 0


def flood(got: Got, handler: BaseHTTPRequestHandler) -> int:
    """An answer without end, as fast as it goes."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    try:
        while True:
            handler.wfile.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
    except OSError:
        return 0


def nonsense(got: Got, handler: BaseHTTPRequestHandler) -> int:
    handler.wfile.write(b"\x00\xff not HTTP\r\n\r\n")
    handler.close_connection = True
    return 0


def hang_up(got: Got, handler: BaseHTTPRequestHandler) -> int:
    handler.connection.shutdown(socket.SHUT_RDWR)
    handler.close_connection = True
    return 0


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(drip, "it did not answer within 1 s", id="drips"),
        pytest.param(flood, "", id="floods"),
        pytest.param(nonsense, "the connection broke: RemoteProtocolError", id="nonsense"),
        pytest.param(hang_up, "the connection broke: RemoteProtocolError", id="hangs up"),
    ],
)
def test_a_hostile_receiver_costs_no_more_than_its_time(
    store: Store, courier: Courier, receiver: Receiver, monkeypatch: pytest.MonkeyPatch,
    answer: Any, error: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(hook_delivery, "TOTAL_SECONDS", 1.0)
    receiver.answer = answer
    a_hook(store, receiver.url)
    happen(store, "a")
    carry(courier)
    assert deliveries(store)[0].error == error


def test_nobody_listens(store: Store, receiver: Receiver) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        a_hook(store, f"https://{NAME}:{free.getsockname()[1]}/")
        happen(store, "a")
        carry(a_courier(store, receiver))
    assert deliveries(store)[0].error == "it refused the connection"


def test_a_name_that_nobody_knows(store: Store) -> None:
    courier = a_courier(store)
    courier.resolve = hook_delivery.resolve
    a_hook(store, "https://no-such-host.invalid/")
    happen(store, "a")
    carry(courier)
    assert deliveries(store)[0].error == "no-such-host.invalid is not known to the name server"


# --- where nothing is sent ------------------------------------------------------------------------

OOB = IPv4Network("172.22.1.0/24")
FORBIDDEN = [
    "127.0.0.1", "127.8.8.8", "0.0.0.0", "169.254.169.254", "224.0.0.1",  # noqa: S104
    "255.255.255.255",
    "240.0.0.1", "172.22.1.5", "::1", "::", "fe80::1", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:172.22.1.5", "::127.0.0.1", "64:ff9b::172.22.1.5", "2002:7f00:1::", "2002:ac16:105::",
]  # fmt: skip


@pytest.mark.parametrize("text", FORBIDDEN)
def test_addresses_that_nothing_is_sent_to(text: str) -> None:
    assert surroundings(OOB)(ip_address(text))


@pytest.mark.parametrize("text", ["192.0.2.1", "10.1.2.3", "172.22.2.77", "2001:db8::1", "fd00::1"])
def test_addresses_that_may_be_a_receivers(text: str) -> None:
    assert not surroundings(OOB)(ip_address(text))


def test_an_address_of_this_machine_is_refused() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # nothing is sent: it only tells our own address
        own = probe.getsockname()[0]
    assert surroundings()(ip_address(own))


def test_the_address_that_was_judged_is_the_one_that_is_connected_to(
    store: Store, courier: Courier, receiver: Receiver
) -> None:
    """A name server that answers otherwise the second time is not asked a second time."""
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[Address]:
        asked.append(host)
        return LOOPBACK if len(asked) == 1 else [ip_address("127.0.0.66")]

    courier.resolve = rebinding
    a_hook(store, receiver.url)
    happen(store, "a")
    carry(courier)
    assert asked == [NAME]
    assert subjects(receiver) == ["a"]


@pytest.mark.parametrize("first", [True, False])
def test_one_forbidden_address_of_several_is_enough(
    store: Store, receiver: Receiver, first: bool
) -> None:
    bad = IPv4Address("172.22.1.5")
    addresses = [bad, *LOOPBACK] if first else [*LOOPBACK, bad]
    courier = a_courier(store, receiver, addresses, lambda address: address == bad)
    a_hook(store, receiver.url)
    happen(store, "a")
    carry(courier)
    assert deliveries(store)[0].error == f"{NAME} is at an address that webhooks are not sent to"
    assert receiver.got == []


@pytest.mark.parametrize("url", [
    "http://hooks.example.org/", "ftp://hooks.example.org/", "HTTPS://hooks.example.org/",
    "https://user:password@hooks.example.org/", "https://user@hooks.example.org/", "https://",
    "https:///seed", "//hooks.example.org/", "https://hooks.example.org/\r\nX-Evil: 1",
    "https://hooks.example.org/\n", "https://hooks.example.org/a b", "https://hooks.example.org:0/",
    "https://hooks.example.org:65536/", "https://hooks.example.org:x/", "https://a\\@b/",
    "https://hooks.example.org/#part", "https://hooks.example.org\\@evil.org/", "https://ho%6Fk/",
    "https://hooks.example.org/ü", "https://\u2025/", "https://[::1/", "https://[::1]/",
    "https://[1:2]/", "https://127.0.0.1/", "https://169.254.169.254/latest", "https://0/",
    "https://2130706433/", "https://" + "0x7f.1/", "https://127.1/", "https://0177.0.0.1/",
    "https://[::ffff:127.0.0.1]/", "https://a/" + "x" * 2048, "", " https://a/", "https://-a/",
])  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(Invalid):
        hooks.check_url(url)


@pytest.mark.parametrize(("url", "parts"), [
    ("https://hooks.example.org", ("hooks.example.org", 443, "/")),
    ("https://hooks.example.org:8443/a/b?c=%20&d=@", ("hooks.example.org", 8443, "/a/b?c=%20&d=@")),
    ("https://hooks?x", ("hooks", 443, "/?x")),
    ("https://192.0.2.1/", ("192.0.2.1", 443, "/")),
    ("https://[2001:db8::1]:444/", ("2001:db8::1", 444, "/")),
])  # fmt: skip
def test_urls_that_are_taken(url: str, parts: tuple[str, int, str]) -> None:
    hooks.check_url(url)
    assert hooks.split(url) == parts


# --- life of a webhook ----------------------------------------------------------------------------


def test_a_disabled_one_is_sent_nothing_and_then_what_happens_from_then_on(
    store: Store, courier: Courier, receiver: Receiver
) -> None:
    hook = a_hook(store, receiver.url)
    happen(store, "a")
    courier.spread()
    with store.write() as session:
        hooks.switch(session, session.get_one(Webhook, hook.id), False, "ada")
    happen(store, "b")
    carry(courier)
    assert receiver.got == []
    with store.write() as session:
        hooks.switch(session, session.get_one(Webhook, hook.id), True, "ada")
    happen(store, "c")
    carry(courier)
    assert subjects(receiver) == ["a", "c"]  # what waited, and what is new


def test_a_test_is_sent_whatever_kinds_are_wanted_and_once(
    store: Store, courier: Courier, receiver: Receiver
) -> None:
    hook = a_hook(store, receiver.url, "ci", "red", "claim.")
    with store.write() as session:
        hooks.send_test(session, session.get_one(Webhook, hook.id), "ada")
    carry(courier)
    carry(courier)
    assert [json.loads(got.body)["type"] for got in receiver.got] == ["seed.webhook.test"]
    with store.write() as session:
        row = session.get_one(Webhook, hook.id)
        hooks.switch(session, row, False, "ada")
        with pytest.raises(Conflict):
            hooks.send_test(session, row, "ada")


def test_one_deleted_while_it_is_posted_to(
    store: Store, courier: Courier, receiver: Receiver
) -> None:
    hook = a_hook(store, receiver.url)

    def delete(got: Got, handler: BaseHTTPRequestHandler) -> int:
        with store.write() as session:
            hooks.remove(session, session.get_one(Webhook, hook.id), "ada")
        return 204

    receiver.answer = delete
    happen(store, "a", "b")
    carry(courier)
    assert (len(receiver.got), deliveries(store)) == (1, [])


def test_what_was_delivered_is_kept_for_a_week(
    store: Store, courier: Courier, receiver: Receiver
) -> None:
    receiver.answer = lambda got, handler: 400 if b'"c"' in got.body else 204
    a_hook(store, receiver.url)
    happen(store, "a", "b", "c")
    carry(courier)
    with store.write() as session:
        for row in session.exec(select(Delivery)):
            age = {1: 8, 2: 6}.get(row.event_id - 1, 30)
            row.next_at = now() - timedelta(days=age)
            row.delivered_at = row.delivered_at and now() - timedelta(days=age)
    a_courier(store, receiver).spread()
    assert [d.state for d in deliveries(store)] == [Delivered, Pending]


CHILD = """
import sys
from pathlib import Path
from provisioning.store import Store
from tests.fakes.receiver import Receiver
from tests.contract.test_hook_delivery import a_courier, carry
folder = Path(sys.argv[1])
carry(a_courier(Store(f"sqlite:///{folder / 'seed.db'}"), Receiver(ca=Path(sys.argv[2]))))
"""


def test_killed_between_post_and_record_it_is_sent_again_under_the_same_id(
    store: Store, tmp_path: Path, receiver: Receiver
) -> None:
    a_hook(store, receiver.url)
    happen(store, "a")
    argv = [sys.executable, "-c", CHILD, str(tmp_path), str(receiver.ca)]
    child = subprocess.Popen(argv, cwd=Path.cwd())

    def kill(got: Got, handler: BaseHTTPRequestHandler) -> int:
        os.kill(child.pid, signal.SIGKILL)
        child.wait(20)
        return 204

    receiver.answer = kill
    assert child.wait(60) == -signal.SIGKILL
    (row,) = deliveries(store)
    assert (row.state, row.attempts) == (Pending, 0)
    receiver.answer = lambda got, handler: 204
    carry(a_courier(store, receiver))
    first, second = receiver.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == str(row.id)
    assert first.body == second.body
    assert deliveries(store)[0].state is Delivered


class Looks:
    """Counts the reconciler's other work."""

    count = 0

    def look(self) -> None:
        self.count += 1


def test_slow_receivers_delay_no_step_and_not_each_other_for_ever(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of them than there are threads, each holding its post for as long as it may."""
    monkeypatch.setattr(hook_delivery, "TOTAL_SECONDS", 2.0)
    make_keys(tmp_path / "master.key", tmp_path / "master.pub")
    some = a_reconciler(tmp_path)
    store, looks, stop = some.parts.store, Looks(), threading.Event()
    base = receiver.url.partition("?")[0]
    for number in range(hook_delivery.THREADS + 2):
        a_hook(store, f"{base}/slow", f"slow-{number}")
    a_hook(store, f"{base}/quick", "quick")

    def answer(got: Got, handler: BaseHTTPRequestHandler) -> int:
        if got.path.endswith("/slow"):
            stop.wait(30)
        return 204

    receiver.answer = answer
    happen(store, "a")
    reconciler = Reconciler(
        some.parts, cast(Finder, some.finder), cast(LeaseWatch, looks), a_courier(store, receiver)
    )
    thread = threading.Thread(target=reconciler.run, args=(stop,))
    thread.start()
    try:
        slow = [f"{base.partition(str(receiver.port))[2]}/slow"] * hook_delivery.THREADS
        until(lambda: len(receiver.got) >= len(slow), 30, "all threads taken")
        before = looks.count
        until(lambda: looks.count >= before + 2, 30, "the other work goes on")
        until(lambda: any(g.path.endswith("/quick") for g in receiver.got), 30, "the quick one")
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    assert UUID(receiver.got[0].headers["webhook-id"])
