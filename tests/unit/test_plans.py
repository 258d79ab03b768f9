"""What a plan says would be erased."""

from provisioning.plans import disks_of


def test_an_array_that_does_not_run_is_no_disk_to_erase() -> None:
    told = [
        {"name": "/dev/sda", "serial": "S1", "size": 12_000_000_000},
        {"name": "/dev/md127", "serial": None, "size": 0},
        {"name": "/dev/sdb", "serial": "S2", "size": None},
    ]
    found = disks_of({"inventory": {"disks": told}})
    assert [(disk.name, disk.size_bytes) for disk in found] == [
        ("/dev/sda", 12_000_000_000),
        ("/dev/sdb", 0),
    ]


def test_nobody_told_of_its_disks() -> None:
    assert disks_of(None) == []
    assert disks_of({"inventory": {}}) == []
