"""Kernel arguments for SR-IOV, DPDK and huge pages, and what nova-compute is told to match.

Arguments: Linux Documentation/admin-guide/kernel-parameters.txt. Intel's IOMMU is off until it is
asked for, AMD's and Arm's are on: there only its passthrough is asked for. They are what
provisioning/kernel_args.py takes for a claim. Nova's options: nova 34.0.0 nova/conf/compute.py,
nova/conf/pci.py; doc/source/admin/{cpu-topologies,huge-pages,pci-passthrough}.rst.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, model_validator

from provisioning import gives, kernel_args
from provisioning.gives import Give, Wish
from provisioning.installers import NodeFacts, OvercloudFacts
from provisioning.targets import PartSpec

CPUS: Final = r"^([0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*)?$"
LEFT_MIB: Final = 4096
"""What a host keeps for itself beside huge pages, at least."""
MIB: Final = {"2M": 2, "1G": 1024}
NOVA_SIZE: Final = {"2M": "2MB", "1G": "1GB"}
Vendor = Literal["", "intel", "amd", "arm"]
CpuList = Annotated[str, StringConstraints(pattern=CPUS, max_length=200)]
Hex = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{4}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]


class Pages(Wish):
    """count: of the whole host. reserved: NUMA cell -> those that Nova leaves to OVS with DPDK."""

    size: Literal["2M", "1G"] = "1G"
    count: Annotated[int, Field(ge=1, le=10**6)]
    reserved: dict[Annotated[int, Field(ge=0, le=63)], Annotated[int, Field(ge=1)]] = Field(
        default={}
    )


class Device(Wish):
    """What guests may get: by the name of a NIC, its PCI address, or maker and product."""

    devname: Name | None = None
    address: Name | None = None
    vendor_id: Hex | None = None
    product_id: Hex | None = None
    physical_network: Name | None = None
    trusted: bool | None = None

    @model_validator(mode="after")
    def _one(self) -> "Device":
        if self.devname and self.address:
            raise ValueError("a device has a devname or an address, not both")
        if not (self.devname or self.address or self.vendor_id):
            raise ValueError("name a device: devname, address or vendor_id")
        return self


class RoleWish(Wish):
    """For all nodes of a role. dedicated, shared: CPUs of guests that are pinned, and of others;
    dpdk: of OVS' poll mode drivers. As the kernel counts threads: "2-17,34-49". What is in none is
    the host's. vendor: of its CPUs, where no trait of its class tells it.
    """

    vendor: Vendor = ""
    dedicated: CpuList = ""
    shared: CpuList = ""
    dpdk: CpuList = ""
    hugepages: Pages | None = None
    devices: tuple[Device, ...] = ()


class Kernel(Wish):
    """By role; a node of both is told the first one's alone."""

    compute: RoleWish | None = None
    network: RoleWish | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """threads: of all sockets; 0: nobody told. memory: MiB; 0 too."""

    vendor: Vendor
    threads: int = 0
    memory_mib: int = 0


# --- pure -----------------------------------------------------------------------------------------


def hardware(node: NodeFacts, wish: RoleWish) -> Hardware:
    """vendor: of Arm by its architecture, of others by the traits of its class, else as wished."""
    traits = " ".join(node.traits)
    vendor: Vendor = wish.vendor
    if node.cpu_arch in ("aarch64", "arm64"):
        vendor = "arm"
    elif "HW_CPU_X86_INTEL_" in traits or "HW_CPU_X86_VMX" in traits:
        vendor = "intel"
    elif "HW_CPU_X86_AMD_" in traits or "HW_CPU_X86_SVM" in traits:
        vendor = "amd"
    return Hardware(vendor, node.cpus, node.memory_mib)


def arguments(of: Hardware, wish: RoleWish) -> list[str]:
    """Each one alone, in the order of the kernel's own text."""
    return [*_iommu(of, wish), *_pages(wish), *_isolated(wish)]


def _iommu(of: Hardware, wish: RoleWish) -> list[str]:
    if not (wish.devices or wish.dpdk):
        return []
    if of.vendor == "arm":
        return ["iommu.passthrough=1"]
    return ["intel_iommu=on", "iommu=pt"] if of.vendor == "intel" else ["iommu=pt"]


def _pages(wish: RoleWish) -> list[str]:
    """The default size, too: who maps huge pages without saying which gets these."""
    if wish.hugepages is None:
        return []
    size, count = wish.hugepages.size, wish.hugepages.count
    return [f"default_hugepagesz={size}", f"hugepagesz={size}", f"hugepages={count}"]


def _isolated(wish: RoleWish) -> list[str]:
    """Never the shared ones: guests there would all stay on the CPU where they began."""
    if not (cpus := cpus_of(wish.dedicated) | cpus_of(wish.dpdk)):
        return []
    told = in_words(cpus)
    return [f"isolcpus=managed_irq,domain,{told}", f"nohz_full={told}"]


def fault(of: Hardware, wish: RoleWish) -> str:
    """Why this hardware cannot have it; empty: it can."""
    return next(_faults(of, wish), "")


def _faults(of: Hardware, wish: RoleWish) -> Iterator[str]:
    if (wish.devices or wish.dpdk) and not of.vendor:
        yield "who made its CPUs is not known: say vendor, or give its class a trait"
    sets = {name: cpus_of(getattr(wish, name)) for name in ("dedicated", "shared", "dpdk")}
    for one, other in (("dedicated", "shared"), ("dedicated", "dpdk"), ("shared", "dpdk")):
        if both := sets[one] & sets[other]:
            yield f"CPU {min(both)} is {one} and {other}"
    every = frozenset().union(*sets.values())
    if 0 in sets["dedicated"] | sets["dpdk"]:
        yield "CPU 0 is the host's: some interrupts cannot leave it"
    if every and of.threads and max(every) >= of.threads:
        yield f"there is no CPU {max(every)}: it has {of.threads} threads"
    if wish.hugepages:
        yield from _page_faults(of, wish.hugepages)


def _page_faults(of: Hardware, pages: Pages) -> Iterator[str]:
    wanted = pages.count * MIB[pages.size]
    if of.memory_mib and wanted > of.memory_mib - LEFT_MIB:
        yield f"huge pages take {wanted} MiB of {of.memory_mib}, so less than {LEFT_MIB} are left"
    if sum(pages.reserved.values()) > pages.count:
        yield f"more huge pages are reserved than the {pages.count} that there are"


def nova(wish: RoleWish) -> dict[str, list[tuple[str, str]]]:
    """Sections of nova-compute's nova.conf."""
    pages = wish.hugepages
    size = NOVA_SIZE[pages.size] if pages else ""
    reserved = [
        ("reserved_huge_pages", f"node:{cell},size:{size},count:{count}")
        for cell, count in (sorted(pages.reserved.items()) if pages else ())
    ]
    sets = [("cpu_dedicated_set", wish.dedicated), ("cpu_shared_set", wish.shared)]
    told = [device.model_dump(exclude_none=True) for device in wish.devices]
    return {
        "DEFAULT": reserved,
        "compute": [(key, in_words(cpus_of(cpus))) for key, cpus in sets if cpus],
        "pci": [("device_spec", _spec(device)) for device in told],
    }


def _spec(device: dict[str, Any]) -> str:
    """Nova reads tags as text (nova 34.0.0 nova/pci/devspec.py)."""
    return json.dumps({k: str(v).lower() if k == "trusted" else v for k, v in device.items()})


def cpus_of(text: str) -> frozenset[int]:
    """Of "2-5,8" the numbers."""
    found: set[int] = set()
    for one in filter(None, text.split(",")):
        first, _, last = one.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)


def in_words(cpus: frozenset[int]) -> str:
    """The shortest list, as kernel and Nova both read it."""
    runs: list[list[int]] = []
    for cpu in sorted(cpus):
        if runs and runs[-1][-1] == cpu - 1:
            runs[-1][-1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


# --- the row --------------------------------------------------------------------------------------


def _told(facts: OvercloudFacts) -> list[tuple[NodeFacts, RoleWish]]:
    wish = gives.wish(facts, "kernel", Kernel)
    wishes = {"compute": wish.compute, "network": wish.network}
    found = []
    for node in facts.nodes:
        told = next((one for role, one in wishes.items() if one and role in node.roles), None)
        found += [(node, told)] if told else []
    return found


def lacks(facts: OvercloudFacts) -> str:
    if not (told := _told(facts)):
        return "nobody said what its compute or network nodes shall do: kernel.compute"
    for node, wish in told:
        if says := fault(hardware(node, wish), wish):
            return f"{node.name}: {says}"
        kernel_args.check(arguments(hardware(node, wish), wish))
    return ""


def files(facts: OvercloudFacts) -> list[PartSpec]:
    return [part for node, wish in _told(facts) for part in _of_node(facts, node, wish)]


def _of_node(facts: OvercloudFacts, node: NodeFacts, wish: RoleWish) -> Sequence[PartSpec]:
    lines = "".join(f"{one}\n" for one in arguments(hardware(node, wish), wish))
    found = [gives.part(f"kernel-args/{node.name}", lines)]
    sections = nova(wish) if "compute" in node.roles else {}
    if any(sections.values()):
        text = gives.as_ini(facts, sections, hint="Of nova-compute; Kolla: config/nova/ as here.")
        found.append(gives.part(f"nova/{node.name}/nova.conf", text))
    return found


PLUGIN = Give("kernel", "kernel arguments and nova.conf for SR-IOV, DPDK, huge pages", files, lacks)
