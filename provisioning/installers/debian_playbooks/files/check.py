"""Looks whether the cloud works, and prints one line of JSON: {item: [state, sentence]}.

States: ok, failed, none (not looked at). Everything it makes is named oc-check and gone at the end;
what an earlier run left, because it was killed, goes first. The guest is made on the spot of this
machine's own kernel and busybox, so nothing is downloaded.

argv: the compute driver, the seconds a server may take to be ACTIVE, Horizon's URL or nothing.
OS_CLOUD: which cloud.
"""

import json
import lzma
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openstack.compute.v2.server import Server
    from openstack.connection import Connection
    from openstack.network.v2.network import Network
    from openstack.network.v2.subnet import Subnet

NAME = "oc-check"
CIDR = "10.77.0.0/24"
GUEST_SECONDS = 900.0
"""From ACTIVE to an address: a guest that is emulated in an emulated server boots for minutes."""
REACH_SECONDS = 180.0
"""From its address to the gateway of the external network."""
GONE_SECONDS = 300.0
MODULES = ("virtio_pci", "virtio_net", "af_packet")
SAID = re.compile(r"OC-CHECK address (\d+\.\d+\.\d+\.\d+)")
COMMAND_LINE = "console=ttyS0 quiet nokaslr random.trust_cpu=on oc_outside={outside}"
"""A word that is none of the kernel's is a variable of INIT."""

INIT = """\
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
exec >/dev/ttyS0 2>&1
echo OC-CHECK booted
for module in /modules/*; do $b insmod $module; done
$b ip link set lo up
$b ip link set eth0 up
until $b udhcpc -i eth0 -q -n -t 20 -T 3 -s /dhcp; do $b sleep 1; done
until [ -z "$oc_outside" ] || $b ping -c 1 -W 3 $oc_outside >/dev/null; do $b sleep 1; done
[ -z "$oc_outside" ] || echo OC-CHECK reached $oc_outside
while :; do echo OC-CHECK alive; $b sleep 20; done
"""
DHCP = """\
#!/bin/busybox sh
[ "$1" = bound ] || exit 0
/bin/busybox ip address add $ip/$mask dev eth0
[ -z "$router" ] || /bin/busybox ip route add default via ${router%% *}
echo OC-CHECK address $ip
"""

Verdict = tuple[str, str]
Files = Mapping[str, tuple[int, bytes]]


class Trouble(Exception):
    """What it says is for the operator."""


# --- the guest ------------------------------------------------------------------------------------


def cpio(files: Files) -> bytes:
    """An initramfs (cpio, newc): path -> (mode with its type, content)."""
    made = bytearray()
    entries = [*files.items(), ("TRAILER!!!", (0, b""))]
    for number, (path, (mode, content)) in enumerate(entries, 1):
        name = path.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        head = (number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(name), 0)
        made += b"070701" + b"".join(b"%08X" % value for value in head) + name
        made += b"\0" * (-len(made) % 4)
        made += content
        made += b"\0" * (-len(made) % 4)
    return bytes(made)


def in_order(wanted: tuple[str, ...], dependencies: str) -> list[str]:
    """Files of these modules and of all they need, needed ones first. dependencies: the text of
    modules.dep. One that has no file is in the kernel."""
    needs = dict(line.split(":", 1) for line in dependencies.splitlines() if ":" in line)
    file_of = {Path(file).name.partition(".")[0].replace("-", "_"): file for file in needs}
    found: dict[str, None] = {}
    for name in wanted:
        file = file_of.get(name)
        # depmod lists what is needed first last.
        for one in [*reversed(needs[file].split()), file] if file else []:
            found[one] = None
    return list(found)


def guest(modules: Path) -> bytes:
    """Its initramfs. modules: /lib/modules/<version>."""
    files: dict[str, tuple[int, bytes]] = {
        folder: (stat.S_IFDIR | 0o755, b"") for folder in ("bin", "dev", "proc", "sys", "modules")
    }
    program = stat.S_IFREG | 0o755
    files["bin/busybox"] = (program, Path("/bin/busybox").read_bytes())
    files["init"], files["dhcp"] = (program, INIT.encode()), (program, DHCP.encode())
    for number, file in enumerate(in_order(MODULES, (modules / "modules.dep").read_text())):
        content = (modules / file).read_bytes()
        content = lzma.decompress(content) if file.endswith(".xz") else content
        files[f"modules/{number:02}.ko"] = (stat.S_IFREG | 0o644, content)
    return cpio(files)


def address_in(console: str) -> str:
    """What the guest said it took; empty: nothing yet."""
    found = SAID.findall(console)
    return str(found[-1]) if found else ""


# --- looking --------------------------------------------------------------------------------------


def of_services(services: list[Any]) -> Verdict:
    """Nova's services."""
    names = sorted(f"{s.binary} on {s.host}" for s in services if s.state != "up")
    off = sorted(s.host for s in services if s.status == "disabled")
    if not any(s.binary == "nova-compute" for s in services):
        return "failed", "no compute service is known"
    if names:
        return "failed", f"down: {', '.join(names)}"
    more = f"; disabled: {', '.join(off)}" if off else ""
    return "ok", f"{len(services)} services are up{more}"


def of_agents(agents: list[Any]) -> Verdict:
    """Neutron's agents."""
    if not agents:
        return "failed", "no network agent is known"
    dead = sorted(f"{a.agent_type} on {a.host}" for a in agents if not a.is_alive)
    if dead:
        return "failed", f"dead: {', '.join(dead)}"
    return "ok", f"{len(agents)} agents are alive"


def of_endpoints(answers: Mapping[str, str]) -> Verdict:
    """answers: service -> what was wrong, empty for nothing."""
    if bad := sorted(f"{name}: {said}" for name, said in answers.items() if said):
        return "failed", "; ".join(bad)
    return "ok", f"{', '.join(sorted(answers))} answer"


class Check:
    def __init__(
        self, cloud: "Connection", driver: str, seconds: float, dashboard: str = ""
    ) -> None:
        self.cloud, self.driver, self.seconds = cloud, driver, seconds
        self.url = dashboard
        self.told: dict[str, Verdict] = {}
        self.outside: Network | None = None
        self.gateway = ""

    def run(self) -> dict[str, Verdict]:
        for item, look in (
            ("endpoints", self.endpoints), ("compute", self.compute), ("network", self.network),
        ):  # fmt: skip
            self.told[item] = self._guarded(look)
        if self.url:
            self.told["dashboard"] = self._guarded(self.dashboard)
        self.told["router"] = ("none", "no server to reach")
        self.told["server"] = self._guarded(self.server)
        return self.told

    def _guarded(self, look: Callable[[], Verdict]) -> Verdict:
        try:
            return look()
        except Exception as error:
            return "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"

    def endpoints(self) -> Verdict:
        answers = {}
        for entry in self.cloud.service_catalog:
            urls = [e["url"] for e in entry["endpoints"] if e["interface"] == "public"]
            answers[entry["type"]] = self._answer(urls[0]) if urls else "no public endpoint"
        return of_endpoints(answers)

    def _answer(self, url: str) -> str:
        try:
            got = self.cloud.session.get(url, raise_exc=False, timeout=120)
        except Exception as error:
            return f"{url} does not answer ({type(error).__name__})"
        return "" if got.status_code < 500 else f"{url} answers {got.status_code}"

    def compute(self) -> Verdict:
        return of_services(list(self.cloud.compute.services()))

    def network(self) -> Verdict:
        return of_agents(list(self.cloud.network.agents()))

    def dashboard(self) -> Verdict:
        """Whether Horizon lets its administrator in: a page alone would not need Keystone."""
        import requests

        told, auth = self.cloud.config, self.cloud.config.config["auth"]
        page = f"{self.url}/auth/login/"
        with requests.Session() as web:
            web.verify = told.get_requests_verify_args()[0]
            web.get(page, timeout=300).raise_for_status()
            form = {
                "csrfmiddlewaretoken": web.cookies.get("csrftoken", ""), "region": "default",
                "username": auth["username"], "password": auth["password"],
            }  # fmt: skip
            answer = web.post(
                page, data=form, headers={"Referer": page}, allow_redirects=False, timeout=300
            )
        if answer.status_code != 302:
            return "failed", f"{page} answers {answer.status_code} to the administrator"
        return "ok", f"{self.url} lets the administrator in"

    # --- a server -----------------------------------------------------------------------------

    def server(self) -> Verdict:
        self.sweep()
        try:
            return self._boot()
        finally:
            self.sweep()

    def _boot(self) -> Verdict:
        network = self.cloud.network.create_network(name=NAME)
        subnet = self.cloud.network.create_subnet(
            name=NAME, network_id=network.id, ip_version=4, cidr=CIDR
        )
        self.told["router"] = self._guarded(self._outside)
        flavor = self.cloud.compute.create_flavor(name=NAME, ram=192, vcpus=1, disk=1)
        began = time.monotonic()
        made = self.cloud.compute.create_server(
            name=NAME, flavor_id=flavor.id, image_id=self._image(self.gateway),
            networks=[{"uuid": network.id}],
        )  # fmt: skip
        server = self._active(made.id)
        took = f"ACTIVE in {time.monotonic() - began:.0f} s"
        if self.told["router"][0] != "failed":
            self.told["router"] = self._guarded(lambda: self._router(server, subnet))
        if self.driver == "fake":
            return "ok", f"{took}; the fake driver runs no guest, so none is proven"
        began = time.monotonic()
        console = ""
        for _ in self._looks(server.id, GUEST_SECONDS):
            console = self._console(server.id)
            if address := address_in(console):
                said = f"its guest took {address} by DHCP {time.monotonic() - began:.0f} s later"
                self.told["router"] = self._guarded(lambda: self._reaches(server))
                return "ok", f"{took} on {server.compute_host}, {said}"
        last = " ".join(console.split())[-120:]
        raise Trouble(f"{took}, but its guest took no address; its console ends: {last!r}")

    def _active(self, ident: str) -> "Server":
        status = "unknown"
        for server in self._looks(ident, self.seconds):
            status = server.status
            if status == "ACTIVE":
                return server
            if status == "ERROR":
                raise Trouble((server.fault or {}).get("message", "the server is in ERROR"))
        raise Trouble(f"the server is {status} after {self.seconds:.0f} s")

    def _looks(self, ident: str, seconds: float) -> Iterator["Server"]:
        end = time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            yield self.cloud.compute.get_server(ident)
            # Half of the time at most: a look is work of three services.
            time.sleep(max(3.0, time.monotonic() - began))

    def _console(self, ident: str) -> str:
        output = self.cloud.compute.get_server_console_output(ident)
        return str((output or {}).get("output", ""))

    def _image(self, outside: str) -> str:
        """Of the disk, which is empty: the guest is kernel and ramdisk. outside: an address that
        it shall reach; empty: none."""
        properties = {}
        if self.driver != "fake":
            version = os.uname().release
            properties = {
                "kernel_id": self._upload("kernel", Path(f"/boot/vmlinuz-{version}").read_bytes()),
                "ramdisk_id": self._upload("ramdisk", guest(Path(f"/lib/modules/{version}"))),
                "os_command_line": COMMAND_LINE.format(outside=outside),
            }
        return self._upload("disk", bytes(1 << 20), **properties)

    def _upload(self, what: str, data: bytes, **properties: str) -> str:
        form = "raw" if what == "disk" else "ari" if what == "ramdisk" else "aki"
        image = self.cloud.image.create_image(
            f"{NAME}-{what}", data=data, disk_format=form,
            container_format="bare" if what == "disk" else form, validate_checksum=False,
            use_import=False, visibility="private", min_ram=0, **properties,
        )  # fmt: skip
        return str(image.id)

    def _outside(self) -> Verdict:
        """Keeps an external network, if there is one, and the address of its gateway."""
        network = self.cloud.network
        self.outside = next(iter(network.networks(is_router_external=True)), None)
        if self.outside is None:
            return "none", "there is no external network"
        subnets = network.subnets(network_id=self.outside.id, ip_version=4)
        self.gateway = next((str(s.gateway_ip) for s in subnets if s.gateway_ip), "")
        return "none", "no server to reach"

    def _router(self, server: "Server", subnet: "Subnet") -> Verdict:
        """A floating address of the server's, where there is a network to take one from."""
        network, outside = self.cloud.network, self.outside
        if outside is None:
            return self.told["router"]
        router = network.create_router(name=NAME, external_gateway_info={"network_id": outside.id})
        network.add_interface_to_router(router, subnet_id=subnet.id)
        port = next(iter(network.ports(device_id=server.id)))
        floating = network.create_ip(
            floating_network_id=outside.id, port_id=port.id, description=NAME
        )
        end = time.monotonic() + 120
        while floating.status != "ACTIVE" and time.monotonic() < end:
            time.sleep(3)
            floating = network.get_ip(floating.id)
        if floating.status != "ACTIVE":
            return "failed", f"floating address {floating.floating_ip_address}: {floating.status}"
        return "ok", f"a router of {outside.name}, floating address {floating.floating_ip_address}"

    def _reaches(self, server: "Server") -> Verdict:
        """Whether the guest has a way out by its router: it asks the gateway for an echo."""
        (state, said), gateway = self.told["router"], self.gateway
        if state != "ok" or not gateway:
            return state, said
        for _ in self._looks(server.id, REACH_SECONDS):
            if f"OC-CHECK reached {gateway}" in self._console(server.id):
                return "ok", f"{said}; by it its guest reaches {gateway}"
        why = f"in {REACH_SECONDS:.0f} s the gateway {gateway} gave its guest no echo"
        return "failed", f"{said}, but {why}"

    # --- away with it -------------------------------------------------------------------------

    def sweep(self) -> None:
        """All of ours, of this run or of one that was killed."""
        compute, network, image = self.cloud.compute, self.cloud.network, self.cloud.image
        servers = [s for s in compute.servers(details=False) if s.name == NAME]
        for server in servers:
            compute.delete_server(server, ignore_missing=True)
        for floating in [f for f in network.ips() if f.description == NAME]:
            network.delete_ip(floating)
        self._gone(servers)
        self._sweep_networks()
        for flavor in [f for f in compute.flavors(is_public=None) if f.name == NAME]:
            compute.delete_flavor(flavor)
        for one in [i for i in image.images() if (i.name or "").startswith(f"{NAME}-")]:
            image.delete_image(one)

    def _sweep_networks(self) -> None:
        network = self.cloud.network
        for router in list(network.routers(name=NAME)):
            for port in list(network.ports(device_id=router.id)):
                with suppress(Exception):  # the gateway's goes with its router
                    network.remove_interface_from_router(router, port_id=port.id)
            network.delete_router(router)
        for net in list(network.networks(name=NAME)):
            for port in list(network.ports(network_id=net.id)):
                with suppress(Exception):  # one that Neutron made itself goes with its network
                    network.delete_port(port)
            network.delete_network(net)

    def _gone(self, servers: list[Any]) -> None:
        end = time.monotonic() + GONE_SECONDS
        for server in servers:
            while self.cloud.compute.find_server(server.id, ignore_missing=True):
                if time.monotonic() > end:
                    raise Trouble(f"server {server.id} was not deleted in {GONE_SECONDS:.0f} s")
                time.sleep(2)


def main() -> None:
    driver, seconds, dashboard = sys.argv[1], float(sys.argv[2]), sys.argv[3]
    try:
        import openstack

        cloud = openstack.connect(api_timeout=300)
        told = Check(cloud, driver, seconds, dashboard).run()
    except Exception as error:
        told = {"endpoints": ("failed", f"{type(error).__name__}: {str(error)[:300]}")}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
