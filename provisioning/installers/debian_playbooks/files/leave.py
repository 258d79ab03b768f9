"""Takes compute hosts out: service, placement, OVN. argv: JSON list of their names.

Each step is one that was done already when this runs again, and none asks the host itself.
"""

import json
import subprocess
import sys

import openstack


def leave(cloud: openstack.connection.Connection, host: str) -> list[str]:
    """What was done."""
    said: list[str] = []
    compute = cloud.compute
    services = [s for s in compute.services(binary="nova-compute") if s.host == host]
    for service in services:
        if service.status != "disabled":
            compute.disable_service(service, disabled_reason="it leaves the overcloud")
            said.append(f"{host}: disabled")
    there = [s.name for s in compute.servers(all_projects=True, host=host)]
    if there:
        raise SystemExit(
            f"{host} still has {len(there)} servers, migrate or delete them: "
            f"{', '.join(there[:10])}"
        )
    for service in services:
        # Its mapping, its aggregates and its providers go with it.
        compute.delete_service(service)
        said.append(f"{host}: compute service deleted")
    for provider in cloud.placement.resource_providers(name=host):
        cloud.placement.delete_resource_provider(provider)
        said.append(f"{host}: placement provider deleted")
    said += _chassis(host)
    for agent in [a for a in cloud.network.agents() if a.host == host]:
        cloud.network.delete_agent(agent, ignore_missing=True)
        said.append(f"{host}: {agent.agent_type} deleted")
    return said


def _chassis(host: str) -> list[str]:
    """A chassis is named as its host."""
    said = []
    for table in ("Chassis", "Chassis_Private"):
        found = _southbound("--bare", "--columns=_uuid", "find", table, f"name={host}").split()
        for uuid in found:
            _southbound("--if-exists", "destroy", table, uuid)
            said.append(f"{host}: {table} deleted")
    return said


def _southbound(*argv: str) -> str:
    command = ["ovn-sbctl", "--timeout=120", "--no-leader-only", *argv]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=180).stdout


def main() -> None:
    cloud = openstack.connect(api_timeout=300)
    for host in json.loads(sys.argv[1]):
        for line in leave(cloud, host):
            sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
