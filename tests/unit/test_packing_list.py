"""Packing lists: any order of columns, every bad row named, all or nothing, no password seen."""

import io
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlmodel import select

from provisioning import lists, packing_list, tables
from provisioning.errors import Invalid
from provisioning.intake import Listed
from provisioning.models import Bmc, Credential, Event
from provisioning.room import Observation
from provisioning.secrets import Sealer, Unsealer, make_keys
from tests.fakes.store import new_store

MAC = "52:54:00:00:00:0a"
SECRET = "Fac70ry-pa55"
PLAIN = f"serial,BMC MAC,user,factory password\nS1,{MAC},root,{SECRET}\n"


def servers(text: str | bytes, username: str = "") -> list[Listed]:
    body = text.encode() if isinstance(text, str) else text
    return packing_list.read(body, username).servers


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(PLAIN.encode(), id="plain"),
        pytest.param(b"\xef\xbb\xbf" + PLAIN.encode(), id="byte order mark"),
        pytest.param(PLAIN.encode("utf-16"), id="as Excel's Unicode text"),
        pytest.param(PLAIN.replace(",", ";").replace("\n", "\r\n").encode(), id="semicolons"),
        pytest.param(PLAIN.replace(",", "\t").encode(), id="tabs"),
        pytest.param(b"Order 4711;;\n;;\n" + PLAIN.replace(",", ";").encode(), id="title above"),
        pytest.param(
            f'"Default Password",USERNAME,"iDRAC MAC Address",Service_Tag\n'
            f'"{SECRET}",root,52-54-00-00-00-0A," S1 "\n\n,,,\n'.encode(),
            id="another order, other names",
        ),
    ],
)
def test_one_list_in_many_hands(body: bytes) -> None:
    (server,) = servers(body)
    assert (server.serial, server.bmc_mac, server.username) == ("S1", MAC, "root")
    assert server.password is not None
    assert server.password.get_secret_value() == SECRET
    assert SECRET not in repr(server)


def test_columns_that_nobody_knows_are_kept_but_secrets_are_not() -> None:
    read = packing_list.read(
        b"SN,Purchase Order,Model,BIOS Password,NIC1 MAC,nic2mac,Asset Tag\n"
        b"S1,PO-7,R750,hush,52:54:00:00:00:01,52:54:00:00:00:02,A1\n"
    )
    (server,) = read.servers
    assert server.facts == {"Purchase Order": "PO-7", "model": "R750", "asset_tag": "A1"}
    assert server.macs == ("52:54:00:00:00:01", "52:54:00:00:00:02")
    assert read.ignored == ["BIOS Password"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "the file is empty"),
        ("a,b\n1,2\n", "no row of the file has the headings"),
        ("serial\n", "no row below the headings"),
        ("serial,bmc mac\nS1,52:54:zz\n", "row 2: '52:54:zz' is not a MAC address"),
        ("serial,bmc mac\nS1,01:00:5e:00:00:01\n", "row 2: .* group or zero"),
        ("serial,model\nS1,a\n\n,b\n", "row 4 has neither a serial number nor a BMC MAC"),
        ("serial,model\nNone,a\n", "row 2 has neither"),
        ("serial\nS1\nS2\ns1\n", "row 4: the serial s1 is that of row 2, too"),
        (f"bmc mac\n{MAC}\n{MAC}\n", f"row 3: the BMC MAC {MAC} is that of row 2"),
        ("serial,model\nS1,a,b\n", "row 2 has more cells than there are headings"),
        ("serial,model\nS1,=1+1\n", "row 2: the cell under 'model' is a formula"),
        ("serial,model\nS1,@SUM(A1)\n", "row 2: the cell under 'model' is a formula"),
        ('serial,model\nS1,"+cmd|x"\n', "row 2: the cell under 'model' is a formula"),
        ("serial,model\n-2+3+cmd,a\n", "row 2: the cell under 'serial' is a formula"),
        ("serial,sn\nS1,S2\n", "'serial' and 'sn' both mean the serial"),
        ("serial,model,model\nS1,a,b\n", "two columns are named 'model'"),
        ("serial,password\nS1,x\n", "row 2: it has a password but no user name"),
        ("serial,user,password\nS1,a b,x\n", "row 2: it has a password but no user name"),
        ('serial,model\nS1,"a\nS2,b\n', "is not CSV"),
        ("serial,class\nS1,a b\n", "row 2: 'a b' is no resource class"),
        ("serial,model\nS1," + "x" * 2000 + "\n", "row 2: the cell under 'model' is longer"),
        ("serial," + ",".join(f"c{n}" for n in range(200)) + "\nS1\n", "more than 128 columns"),
        ("serial\0\nS1\n", "neither CSV nor XLSX"),
        (b"serial\n\xff\xfe\xfd\n", "is not UTF"),
        (b"PK\x03\x04 but no more", "the XLSX file is damaged"),
    ],
)
def test_a_bad_row_is_named(text: str | bytes, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence) as caught:
        servers(text)
    assert caught.value.remedy


def test_a_bad_password_is_not_told() -> None:
    with pytest.raises(Invalid) as caught:
        servers(f"serial,user,password\nS1,root,{'x' * 300}\n")
    assert "row 2" in str(caught.value)
    assert "xxx" not in str(caught.value)


def test_passwords_may_begin_with_any_sign() -> None:
    (server,) = servers("serial,user,password\nS1,root,=a+b\n")
    assert server.password is not None
    assert server.password.get_secret_value() == "=a+b"


@settings(deadline=None)  # a busy machine is no failure
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda t: t.encode("utf-8", "replace")))
def test_whatever_the_file_is_it_is_a_list_or_a_sentence(body: bytes) -> None:
    for text in (body, b"serial,bmc mac,password\n" + body):
        with suppress(Invalid):
            assert all(s.serial or s.bmc_mac for s in servers(text, "root"))


# --- workbooks ------------------------------------------------------------------------------------


def workbook(*rows: list[object]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    file = io.BytesIO()
    book.save(file)
    return file.getvalue()


def test_a_workbook() -> None:
    above = [["Delivery note 7"], [], ["Serial No.", "BMC MAC", "User", "Password", "Weight"]]
    read = servers(workbook(*above, [4711001, MAC, "root", SECRET, 21.5], [4711002.0]))
    assert [s.serial for s in read] == ["4711001", "4711002"]
    assert (read[0].where, read[0].bmc_mac, read[0].facts) == ("row 4", MAC, {"Weight": "21.5"})


def test_a_formula_in_a_workbook_is_refused_under_every_heading() -> None:
    for cells in (["S1", "=A1"], ["=1+1", "x"]):
        with pytest.raises(Invalid, match=r"row 2: the cell under .* is a formula"):
            servers(workbook(["serial", "password"], cells), "root")


def test_an_error_for_a_value_is_refused() -> None:
    with pytest.raises(Invalid, match="row 2 has an error for a value: #REF!"):
        servers(workbook(["serial", "model"], ["S1", "#REF!"]))


def repacked(body: bytes, name: str, text: bytes) -> bytes:
    file = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(body)) as old,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
    ):
        for member in old.namelist():
            new.writestr(member, text if member == name else old.read(member))
    return file.getvalue()


def test_bombs_in_workbooks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    book = workbook(["serial"], ["S1"])
    laughs = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><x>&b;</x>'
    with pytest.raises(Invalid, match="declares XML entities"):
        servers(repacked(book, "xl/worksheets/sheet1.xml", laughs))
    with pytest.raises(Invalid, match="unpacks to more than 256 MiB"):
        servers(repacked(book, "xl/styles.xml", b" " * (tables.MAX_UNPACKED + 1)))
    for at in (60, len(book) // 2, len(book) - 30):
        with pytest.raises(Invalid):
            servers(book[:at] + b"\xff\xff\xff\xff" + book[at + 4 :])


def test_without_the_library_a_sentence_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    with pytest.raises(Invalid, match="openpyxl is not there") as caught:
        servers(workbook_made_before)
    assert "pip install openpyxl" in caught.value.remedy


workbook_made_before = workbook(["serial"], ["S1"])


# --- kept -----------------------------------------------------------------------------------------


@pytest.fixture
def keeper(tmp_path: Path) -> lists.Keeper:
    make_keys(tmp_path / "key", tmp_path / "pub")
    store = new_store(tmp_path)
    return lists.Keeper(store, Sealer(tmp_path / "pub"), "me")


def rows(keeper: lists.Keeper) -> list[Observation]:
    with keeper.store.read() as session:
        return list(session.exec(select(Observation).order_by(Observation.key)))


def many(count: int, bad: int | None = None) -> bytes:
    lines = ["serial;bmc mac;user;password;model"]
    for n in range(count):
        mac = "nonsense" if n == bad else f"52:54:01:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}"
        lines.append(f"S{n:06};{mac};root;{SECRET}-{n};R750")
    return "\n".join(lines).encode()


def test_a_hundred_thousand_rows_and_one_bad(keeper: lists.Keeper) -> None:
    begin = time.process_time()
    with pytest.raises(Invalid, match="row 99999: 'nonsense' is not a MAC address"):
        keeper.packing_list("big.csv", many(100_000, bad=99_997), "", False)
    assert time.process_time() - begin < 30, "some 2 s here"
    assert rows(keeper) == []


def test_each_password_is_a_sealed_credential_of_its_own(keeper: lists.Keeper) -> None:
    done = keeper.packing_list("pallet 7.csv", many(3), "", False)
    assert (done.servers, done.new, done.gone, done.logins) == (3, 3, 0, 3)
    unsealer = Unsealer(keeper.sealer.public.with_name("key"))
    with keeper.store.read() as session:
        found = session.exec(select(Credential).order_by(Credential.name)).all()
        assert [c.name for c in found] == [f"pallet-7.csv.s00000{n}" for n in range(3)]
        assert unsealer.open(found[1].sealed, f"credential:{found[1].id}") == f"{SECRET}-1"
        told = [*session.exec(select(Event)), *session.exec(select(Observation))]
        assert SECRET not in str([row.model_dump() for row in told])


def test_a_list_is_replaced_by_its_next_import(keeper: lists.Keeper) -> None:
    keeper.packing_list("p.csv", many(3), "", False)
    before = {r.key: (r.id, r.found_at) for r in rows(keeper)}
    with keeper.store.write() as session:  # a BMC logs in with the second one's
        second = session.exec(select(Observation).where(Observation.key == "s000001")).one()
        used = second.credential_id
        session.add(Bmc(address="10.0.0.5", protocol="redfish", credential_id=used))
    done = keeper.packing_list("p.csv", many(2), "", True)
    assert (done.servers, done.new, done.gone) == (2, 0, 1)
    after = rows(keeper)
    assert {r.key: (r.id, r.found_at) for r in after} == {
        k: v for k, v in before.items() if k != "s000002"
    }
    assert all(r.accept_by == "me" for r in after)
    with keeper.store.read() as session:
        names = {c.name for c in session.exec(select(Credential))}
        kept = session.get_one(Credential, used)
    assert names == {"p.csv.s000000", "p.csv.s000001", "p.csv.s000001-2"}
    assert kept.name == "p.csv.s000001", "the login of a BMC is not changed by a list"


def test_a_bad_list_leaves_the_old_one(keeper: lists.Keeper) -> None:
    keeper.packing_list("p.csv", many(3), "", False)
    with pytest.raises(Invalid):
        keeper.packing_list("p.csv", many(3, bad=2), "", False)
    assert len(rows(keeper)) == 3


def test_arrived_missing_extra(keeper: lists.Keeper) -> None:
    keeper.packing_list("p.csv", many(2), "", False)
    keeper.packing_list("q.csv", b"serial\nQ1\n", "", False)
    with keeper.store.write() as session:
        session.add(Bmc(address="10.0.0.5", protocol="redfish", serial="S000001"))
        session.add(Bmc(address="10.0.0.6", protocol="redfish", serial="UNKNOWN-9"))

    def told(name: str | None) -> list[tuple[str, str]]:
        with keeper.store.read() as session:
            found = lists.difference(session, name)
            return [(line.status, line.box.first("serial")) for line in found]

    assert told("p.csv") == [
        ("arrived", "S000001"), ("extra", "UNKNOWN-9"), ("missing", "S000000")
    ]  # fmt: skip
    assert ("missing", "Q1") in told(None)
    with keeper.store.read() as session, pytest.raises(Invalid, match="no packing list is named"):
        lists.difference(session, "r.csv")
