"""Plans as files: what is read, and what is refused as a whole with the place named."""

from io import BytesIO

import openpyxl
import pytest

from provisioning import rack_file, rack_plan
from provisioning.errors import SeedError
from provisioning.rack_plan import Place, Rack

CSV = """site,row,rack,unit,height,serial,bmc mac,class,technician,Feed,NIC1,NIC 2
ams,b,r3,17,2,SN17,52-54-00-12-34-56,compute,ann,A,leaf1:18,leaf2:18
ams,b,r3,U19,,SN19,,,,,,-
"""


def read(text: str, file_format: str = "table") -> list[Place]:
    planned = rack_file.read(text.encode(), file_format)
    rack_plan.check(planned)
    return [slot for _, slot in planned]


def refused(text: str, file_format: str = "table") -> str:
    with pytest.raises(SeedError) as raised:
        read(text, file_format)
    assert raised.value.remedy
    return str(raised.value)


def nics(slot: Place) -> dict[str, str]:
    return {nic: str(port) for nic, port in slot.ports.items()}


def test_a_sheet() -> None:
    first, second = read(CSV)
    assert (first.rack, first.unit, first.height) == (Rack("ams", "b", "r3"), 17, 2)
    assert (first.serial, first.bmc_mac) == ("SN17", "52:54:00:12:34:56")
    assert (first.resource_class, first.technician, first.feed) == ("compute", "ann", "A")
    assert second.feed == ""
    assert nics(first) == {"NIC1": "leaf1:18", "NIC2": "leaf2:18"}
    assert (second.unit, second.height, second.serial, second.ports) == (19, 1, "SN19", {})


@pytest.mark.parametrize("change", ["\ufeff{}", "{}\n,,,,,,,,,,\n", "\ufeff{}\r\n"])
def test_what_spreadsheets_add_does_no_harm(change: str) -> None:
    assert len(read(change.format(CSV))) == 2


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_spreadsheets_of_other_countries(delimiter: str) -> None:
    assert nics(read(CSV.replace(",", delimiter))[0]) == {"NIC1": "leaf1:18", "NIC2": "leaf2:18"}


def test_a_workbook() -> None:
    book = openpyxl.Workbook()
    for row in (["Rack", "U", "Serial", "NIC1"], ["r3", 17, 20301745, "leaf1:18"]):
        book.active.append(row)
    file = BytesIO()
    book.save(file)
    ((where, place),) = rack_file.read(file.getvalue(), "table")
    assert (where, place.unit, place.serial) == ("row 2", 17, "20301745")
    assert nics(place) == {"NIC1": "leaf1:18"}


def test_nics_by_name_and_mac_and_columns_that_do_not_count() -> None:
    text = (
        "rack,unit,serial,# remark,nic:eno1,nic:02:00:00:00:00:01,nic_2\n"
        'r3,1,SA,"=a, note",leaf1:1,leaf1:2,leaf1:3\n'
    )
    assert nics(read(text)[0]) == {
        "eno1": "leaf1:1", "02:00:00:00:00:01": "leaf1:2", "NIC2": "leaf1:3",
    }  # fmt: skip


YAML = """
- {rack: r3, unit: 17, serial: 0123, class: compute, nics: {NIC1: leaf1:18, eno2: 1:20}}
- rack: r4
  site: ams
  technician: ann
  feed: B-2
  slots:
    - {unit: 1, serial: SN1}
    - {unit: 2, bmc_mac: 525400123456, nics: {NIC1: {switch: leaf1, port: 7}}}
"""


@pytest.mark.parametrize(
    "text", [YAML, "racks:\n" + YAML, "slots:" + YAML.replace("\n", "\n  ")], ids=str.split
)
def test_yaml(text: str) -> None:
    first, second, third = read(text, "yaml")
    assert (first.serial, nics(first)) == ("0123", {"NIC1": "leaf1:18", "eno2": "1:20"})
    assert [(s.rack, s.technician) for s in (second, third)] == [(Rack("ams", "", "r4"), "ann")] * 2
    assert (first.feed, second.feed, third.feed) == ("", "B-2", "B-2")
    assert (third.bmc_mac, nics(third)) == ("52:54:00:12:34:56", {"NIC1": "leaf1:7"})


HEAD = "rack,unit,serial,NIC1,height\n"
BAD = {
    "two servers in one unit": (
        HEAD + "r3,17,SA,,\nr3,17,SB,,",
        "unit 17 of rack r3 holds two servers: r3u17 (row 2) and r3u17 (row 3)",
    ),
    "two servers in one unit by height": (
        HEAD + "r3,16,SA,,2\nR3,17,SB,,",
        "unit 17 of rack R3 holds two servers: r3u16 (row 2) and R3u17 (row 3)",
    ),
    "one serial in two units": (
        HEAD + "r3,1,SA,,\nr4,1,sa,,",
        "serial sa is planned twice: r3u1 (row 2) and r4u1 (row 3)",
    ),
    "one switch port twice": (
        HEAD + "r3,1,SA,leaf1:18,\nr3,2,SB,leaf1:18,",
        "switch port leaf1:18 is planned twice: NIC1 of r3u1 (row 2) and NIC1 of r3u2 (row 3)",
    ),
    "one switch port by two names": (
        HEAD + "r3,1,SA,leaf1:swp18,\nr3,2,SB,LEAF1.example.net:18,",
        "switch port LEAF1.example.net:18, which is leaf1:swp18, is planned twice: "
        "NIC1 of r3u1 (row 2) and NIC1 of r3u2 (row 3)",
    ),
    "a formula": (
        HEAD + 'r3,1,"=HYPERLINK(""http://x"")",,',
        "row 2: the cell under 'serial' is a formula",
    ),
    "a formula that begins with @": (
        HEAD + "r3,1,@SUM(A1),,",
        "row 2: the cell under 'serial' is a formula",
    ),
    "no unit": (
        HEAD + "r3,,SA,,",
        "row 2: unit '' is no number from 1 to 100; nothing was imported",
    ),
    "unit 0": (
        HEAD + "r3,0,SA,,",
        "row 2: unit '0' is no number from 1 to 100; nothing was imported",
    ),
    "a unit in another script": (
        HEAD + "r3,\u0661,SA,,",
        "row 2: unit '\u0661' is no number from 1 to 100; nothing was imported",
    ),
    "a height above the top": (
        HEAD + "r3,99,SA,,4",
        "row 2: it ends above unit 100; nothing was imported",
    ),
    "a port without a switch": (
        HEAD + "r3,1,SA,18,",
        "row 2: '18' is no switch port for NIC 1; nothing was imported",
    ),
    "no rack": (HEAD + ",1,SA,,", "row 2: it names no rack; nothing was imported"),
    "a rack's name with a slash": (
        HEAD + "a/b,1,SA,,",
        "row 2: rack 'a/b' is no name; nothing was imported",
    ),
    "nothing to know the server by": (
        HEAD + "r3,1,,,",
        "row 2: it says neither serial, nor BMC MAC, nor a switch port; nothing was imported",
    ),
    "a MAC of too few digits": (
        "rack,unit,bmc_mac\nr3,1,52:54:00",
        "row 2: '52:54:00' is not a MAC address; nothing was imported",
    ),
    "an unknown column": ("rack,unit,seriel\nr3,1,A", "there is no column 'seriel'"),
    "a column twice": ("rack,unit,serial,serial\n", "row 1: two columns are named 'serial'"),
    "one column by two names": ("rack,unit,u\n", "the column unit is there twice"),
    "no column unit": (
        "rack,serial\nr3,SA",
        "no row of the file has the headings that are needed",
    ),
    "more cells than columns": (
        HEAD + "r3,1,SA,,,x",
        "row 2 has more cells than there are headings",
    ),
    "an open quote": (
        HEAD + 'r3,1,"A',
        "row 2 is not CSV: its quotes do not match, or it is too long",
    ),
    "a cell of 200,000 characters": (
        HEAD + f"r3,1,{'A' * 200_000},,",
        "row 2 is not CSV: its quotes do not match, or it is too long",
    ),
    "a control character": (
        HEAD + "r3,1,SA\x07,,",
        "row 2: the cell 'SA\\x07' is too long or not text; nothing was imported",
    ),
    "a heading and nothing else": (HEAD, "the plan has no rows"),
    "an empty file": ("", "the file is empty"),
}


@pytest.mark.parametrize(("text", "sentence"), BAD.values(), ids=BAD)
def test_refused(text: str, sentence: str) -> None:
    assert refused(text) == sentence


BAD_YAML = {
    "no YAML": ("- {rack: r3", "the plan is not YAML at line 2"),
    "a scalar": ("r3", "the plan is no list of slots or racks"),
    "a list of words": (
        "- r3",
        "slot 1: it is not `name: value` lines; nothing was imported",
    ),
    "an unknown key": (
        "- {rack: r3, unit: 1, seriel: A}",
        "slot 1: 'seriel' is unknown or has no plain value; nothing was imported",
    ),
    "a list for a serial": (
        "- {rack: r3, unit: 1, serial: [A]}",
        "slot 1: 'serial' is unknown or has no plain value; nothing was imported",
    ),
    "an object of Python's": (
        "- !!python/object/apply:os.system [id]",
        "slot 1: it is not `name: value` lines; nothing was imported",
    ),
    "itself": ("- &a [*a]", "the plan is not YAML at line 1"),
    "a bad slot of a rack": (
        "- {rack: r3, slots: [{unit: 1, serial: SA}, {unit: x, serial: SB}]}",
        "slot 2 of rack r3: unit 'x' is no number from 1 to 100; nothing was imported",
    ),
    "slots that are no list": (
        "- {rack: r3, slots: 7}",
        "slot 1 of rack r3: it is not `name: value` lines; nothing was imported",
    ),
}


@pytest.mark.parametrize(("text", "sentence"), BAD_YAML.values(), ids=BAD_YAML)
def test_refused_yaml(text: str, sentence: str) -> None:
    assert refused(text, "yaml") == sentence


def test_a_hundred_thousand_rows_and_one_bad() -> None:
    rows = [f"r{n // 40},{n % 40 + 1},S{n},leaf{n // 40}:{n % 40 + 1}," for n in range(100_000)]
    rows[77_777] = rows[77_777].replace("S77777", "S3")
    assert refused(HEAD + "\n".join(rows)) == (
        "serial S3 is planned twice: r0u4 (row 5) and r1944u18 (row 77779)"
    )
