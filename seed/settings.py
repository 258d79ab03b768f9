"""All settings, frozen; the only reader of the environment and of seed.toml."""

import os
import sys
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from api.grants import KeystoneSettings, OidcSettings
from ipxe.bootspec import checked_interface, checked_path, console_arguments
from provisioning.errors import Invalid
from provisioning.names import Name

Url = Annotated[str, Field(pattern=r"^https?://[!-~]+$", max_length=1024)]
Maker = Annotated[str, Field(pattern=r"^(kubernetes|cri-tools|cni-plugins|k3s)$")]
"""Of programs: one of images.needs.MAKERS, which no setting needs to load."""


def config_file() -> Path:
    """The settings file: $SEED_CONFIG, or /etc/seed/seed.toml."""
    return Path(os.environ.get("SEED_CONFIG", "/etc/seed/seed.toml"))


class Wire(BaseModel):
    """One of the three networks, as this machine sees it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    interface: str
    """Name of the interface. No default: guessing wrong would start a DHCP server on that wire."""
    address: IPv4Interface
    """Our address and prefix there, as found by `seed init`, e.g. 172.22.0.1/24."""


class ProvisioningWire(Wire):
    """The wire that servers boot from."""

    pool_start: IPv4Address
    pool_end: IPv4Address
    """Addresses given to known nodes, one reservation each."""
    unknown_start: IPv4Address
    unknown_end: IPv4Address
    """A small pool for MACs nobody knows yet; outside the pool above."""


class VaultSettings(BaseModel):
    """A HashiCorp Vault or OpenBao that BMC logins are read from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(default="", pattern=r"^(https://\S+)?$")
    """https://vault.example.org:8200; empty: there is none. Never http: the token goes there."""
    token_file: Path = Path("/etc/seed/vault.token")
    """A file with a token that may read them; readable by seed-reconciler."""
    ca_file: str = ""
    """Its CA, where the system does not know it."""


class AnsibleSettings(BaseModel):
    """Kubespray, and an environment of its own that runs it. Empty: there is none."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runner: str = Field(default="", pattern=r"^(/[A-Za-z0-9._-]+)*$")
    """The program ansible-runner, e.g. /opt/kubespray/venv/bin/ansible-runner; beside it is
    ansible-playbook of the ansible-core that Kubespray wants."""
    kubespray: str = Field(default="", pattern=r"^(/[A-Za-z0-9._-]+)*$")
    """The folder that has Kubespray's cluster.yml; readable by seed-reconciler."""


class InstallerSettings(BaseModel):
    """An installer of overclouds: an environment of its own that has ansible-runner."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runner: str = Field(pattern=r"^(/[A-Za-z0-9._-]+)+$")
    """Its program, e.g. /opt/kolla/bin/ansible-runner; readable by seed-reconciler."""


class ImageSettings(BaseModel):
    """Disk images that people bring."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allowed_hosts: tuple[str, ...] = ()
    """HOST or HOST:PORT that images are fetched from; empty: nothing is fetched. An address of
    this machine, or a loopback or link-local one, must stand here as itself."""
    downloads: dict[Maker, Url] = {}
    """Maker -> URL that `seed bundle make` fetches its programs below; else none is fetched."""
    ca_file: str = ""
    """CAs that these hosts may have, beside those the system knows; PEM, readable by
    seed-images."""
    most_gib: int = Field(default=64, ge=1)
    """Largest file that is taken, GiB."""
    most_disk_gib: int = Field(default=2048, ge=1)
    """Largest disk that an image may stand for, GiB."""
    kept_versions: int = Field(default=3, ge=1)
    """So many published versions of each image stay, beside those that claims have."""


class RateSettings(BaseModel):
    """How often the API lets one caller ask, per second for ever and at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reads: int = Field(default=1000, ge=1)
    reads_burst: int = Field(default=2000, ge=1)
    writes: int = Field(default=100, ge=1)
    writes_burst: int = Field(default=1500, ge=1)
    failures: int = Field(default=10, ge=1)
    """Requests of one address that do not say who they are, with a wrong token or password."""
    failures_burst: int = Field(default=30, ge=1)


class AutoscalerSettings(BaseModel):
    """Cluster Autoscalers of clusters, which ask for nodes by gRPC."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wire: Literal["", "management", "provisioning"] = ""
    """The network on which they are answered, and which clusters' nodes must reach; empty: none
    is answered."""
    port: int = Field(default=8444, ge=1, le=65535)


class OutOfBandWire(Wire):
    """The wire that BMCs are on."""

    pool_start: IPv4Address = IPv4Address(0)
    pool_end: IPv4Address = IPv4Address(0)
    """Addresses that BMCs may lease from Seed; while both are 0.0.0.0 it answers no DHCP there."""

    @property
    def leases(self) -> bool:
        return bool(int(self.pool_start))

    @model_validator(mode="after")
    def _pool_is_on_this_wire(self) -> Self:
        start, end = self.pool_start, self.pool_end
        if start.is_unspecified != end.is_unspecified:
            raise ValueError("pool_start and pool_end go together")
        if not self.leases:
            return self
        network = self.address.network
        if start > end or not {start, end} <= set(network.hosts()):
            raise ValueError(f"the pool {start} to {end} is not within {network}")
        if start <= self.address.ip <= end:
            raise ValueError(f"the pool {start} to {end} holds our own address")
        return self


class Settings(BaseSettings):
    """Everything `seed init` writes. Unknown keys are refused: a typo must not be silent."""

    model_config = SettingsConfigDict(env_prefix="SEED_", extra="forbid", frozen=True)

    management: Wire
    provisioning: ProvisioningWire
    out_of_band: OutOfBandWire
    namespace: str = Field(default="", pattern=r"^[0-9A-Za-z._-]{0,64}$")
    """Named network namespace all services run in; empty: the machine's own."""
    state_dir: Path = Path("/var/lib/seed")
    run_dir: Path = Path("/run/seed")
    log_dir: Path = Path("/var/log/seed")
    env_dir: Path = Path(sys.prefix).parent
    """Holds the environments seed, ironic, lab and tools."""
    api_port: int = 8443
    """TLS port of API and web page on the management address."""
    ironic_port: int = 6385
    """Ironic's port on loopback."""
    discovery_ramdisk: bool = False
    """Unknown servers that boot from the network boot the ramdisk and say what they are. They are
    then seen, not enrolled; they stay on until somebody switches them off."""
    console_args: str = "console=tty0 console=ttyS0,115200n8"
    """Kernel arguments that make a booting server's output visible on its serial console."""
    undo_seconds: int = 600
    """How long a released claim can be taken back before its disks are cleaned."""
    grace_seconds: int = Field(default=3600, ge=0)
    """Between the end of a claim's lease and its release by itself."""
    turnaround_seconds: int = Field(default=3600, ge=60)
    """Undo window and cleaning: how long after a claim its nodes count as free for the next one
    that is reserved."""
    rates: RateSettings = RateSettings()
    vault: VaultSettings = VaultSettings()
    """Where `--credential vault:MOUNT/PATH` looks."""
    webhook_ca_file: str = ""
    """CAs that webhooks' receivers may have, beside those the system knows; PEM, readable by
    seed-reconciler."""
    oidc: OidcSettings = OidcSettings()
    """Single sign-on: whose tokens, beside Seed's own, open the API."""
    keystone: KeystoneSettings = KeystoneSettings()
    """Single sign-on with OpenStack's own tokens."""
    images: ImageSettings = ImageSettings()
    installers: dict[Name, InstallerSettings] = {}
    """What overclouds are installed by; `debian` needs none."""
    ansible: AnsibleSettings = AnsibleSettings()
    """What clusters of the kind kubespray are installed by."""
    autoscaler: AutoscalerSettings = AutoscalerSettings()
    debian_mirror: str = ""
    """Mirror that images are built from; empty: the first one in this machine's apt sources."""

    @model_validator(mode="after")
    def _one_dhcp_pool_per_wire(self) -> Self:
        shared = self.out_of_band.interface == self.provisioning.interface
        if shared and self.out_of_band.leases:
            raise ValueError(
                "out_of_band.pool_start: BMCs get leases only on a wire of their own, "
                f"not on {self.provisioning.interface}, which servers boot from"
            )
        return self

    @model_validator(mode="after")
    def _a_port_of_its_own(self) -> Self:
        taken = {80, 443, self.api_port, self.ironic_port}
        if self.autoscaler.wire and self.autoscaler.port in taken:
            raise ValueError(f"autoscaler.port: {self.autoscaler.port} is another service's")
        return self

    @model_validator(mode="after")
    def _plain_in_every_file(self) -> Self:
        """These end in files that nginx, dnsmasq, Ironic, supervisord, systemd and iPXE read."""
        try:
            for path in (self.state_dir, self.run_dir, self.log_dir, self.env_dir):
                checked_path(path)
            for wire in (self.management, self.provisioning, self.out_of_band):
                checked_interface(wire.interface)
            console_arguments(self.console_args)
        except Invalid as err:
            raise ValueError(f"{err}: {err.remedy}") from err
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, TomlConfigSettingsSource(settings_cls, config_file())

    @cached_property
    def http_dir(self) -> Path:
        """What nginx serves on the provisioning wire."""
        return self.state_dir / "http"

    @cached_property
    def image_dir(self) -> Path:
        """Published images: <name>/<version>/<file>."""
        return self.http_dir / "images"

    @cached_property
    def boot_url(self) -> str:
        """Plain HTTP on the provisioning wire: boot files and images."""
        return f"http://{self.provisioning.address.ip}"

    @cached_property
    def gateway_url(self) -> str:
        """HTTPS on the provisioning wire: the node gateway."""
        return f"https://{self.provisioning.address.ip}"

    @cached_property
    def autoscaler_address(self) -> str:
        """HOST:PORT where autoscalers are answered; empty: nowhere."""
        if not self.autoscaler.wire:
            return ""
        on = self.management if self.autoscaler.wire == "management" else self.provisioning
        return f"{on.address.ip}:{self.autoscaler.port}"

    @cached_property
    def ironic_url(self) -> str:
        return f"http://127.0.0.1:{self.ironic_port}"

    @cached_property
    def api_socket(self) -> Path:
        """For people on this machine: the peer's uid decides."""
        return self.run_dir / "api.sock"

    @cached_property
    def web_socket(self) -> Path:
        """Behind nginx's TLS on the management wire: a token decides."""
        return self.run_dir / "web.sock"

    @cached_property
    def gateway_socket(self) -> Path:
        """Behind nginx on the provisioning wire."""
        return self.run_dir / "gateway.sock"

    @cached_property
    def database_url(self) -> str:
        return f"sqlite:///{self.state_dir / 'db' / 'seed.db'}"
