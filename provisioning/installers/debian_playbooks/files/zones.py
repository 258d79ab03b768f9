"""Availability zones as told on stdin, JSON {zone: [hosts]}: each is a host aggregate of its name.

Aggregates of others are left alone: ours have the metadata `overcloud`.
"""

import json
import sys
from typing import Any

import openstack

OURS = {"overcloud": "zone"}


def changes(wanted: dict[str, list[str]], there: dict[str, set[str]]) -> list[tuple[str, str, str]]:
    """(verb, zone, host): a host leaves one zone before it enters another; Nova refuses both."""
    made = [("make", zone, "") for zone in wanted if zone not in there]
    gone = [
        ("remove", zone, host)
        for zone, hosts in there.items()
        for host in sorted(hosts - set(wanted.get(zone, [])))
    ]
    empty = [("delete", zone, "") for zone in there if zone not in wanted]
    came = [
        ("add", zone, host)
        for zone, hosts in wanted.items()
        for host in hosts
        if host not in there.get(zone, set())
    ]
    return [*gone, *empty, *made, *came]


def main() -> None:
    wanted: dict[str, list[str]] = json.load(sys.stdin)
    compute = openstack.connect(cloud="overcloud", api_timeout=300).compute
    found: dict[str, Any] = {
        a.name: a for a in compute.aggregates() if (a.metadata or {}).get("overcloud") == "zone"
    }
    there = {name: set(a.hosts or []) for name, a in found.items()}
    for verb, zone, host in changes(wanted, there):
        if verb == "make":
            found[zone] = compute.create_aggregate(name=zone, availability_zone=zone)
            compute.set_aggregate_metadata(found[zone].id, OURS)
        elif verb == "delete":
            compute.delete_aggregate(found[zone].id)
        elif verb == "add":
            compute.add_host_to_aggregate(found[zone].id, host)
        else:
            compute.remove_host_from_aggregate(found[zone].id, host)
        sys.stdout.write(f"{verb} {zone} {host}\n")


if __name__ == "__main__":
    main()
