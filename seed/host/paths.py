"""Where everything lies below state_dir, run_dir and log_dir."""

from dataclasses import dataclass
from pathlib import Path

from seed.settings import Settings


@dataclass(frozen=True, slots=True)
class Paths:
    """All files and folders that more than one module of this package names."""

    settings: Settings

    @property
    def state(self) -> Path:
        return self.settings.state_dir

    @property
    def config(self) -> Path:
        """Generated configuration files; no secret in clear is among them."""
        return self.state / "config"

    @property
    def ironic_conf(self) -> Path:
        return self.config / "ironic.conf"

    @property
    def ironic_start(self) -> Path:
        """What Ironic is started by (seed/host/ironic_start.py)."""
        return self.config / "ironic_start.py"

    @property
    def htpasswd(self) -> Path:
        return self.config / "ironic.htpasswd"

    @property
    def dnsmasq_conf(self) -> Path:
        return self.config / "dnsmasq.conf"

    @property
    def nginx_conf(self) -> Path:
        return self.config / "nginx.conf"

    @property
    def supervisord_conf(self) -> Path:
        return self.config / "supervisord.conf"

    @property
    def supervisor_socket(self) -> Path:
        return self.settings.run_dir / "supervisor.sock"

    @property
    def supervisor_pid(self) -> Path:
        return self.settings.run_dir / "supervisord.pid"

    @property
    def ironic(self) -> Path:
        """Ironic's own: database, caches, certificates of agents."""
        return self.state / "ironic"

    @property
    def ironic_db(self) -> Path:
        return self.ironic / "ironic.db"

    @property
    def ironic_schema(self) -> Path:
        """Holds the version of Ironic that the database was last made or upgraded for."""
        return self.config / "ironic-schema"

    @property
    def ironic_http(self) -> Path:
        """Ironic's http_root."""
        return self.settings.http_dir / "ironic"

    @property
    def boot(self) -> Path:
        """One iPXE script per MAC."""
        return self.settings.http_dir / "boot"

    @property
    def bundles(self) -> Path:
        """<name>/<version>/ of what installers need, root's (images/bundle.py)."""
        return self.settings.http_dir / "bundles"

    @property
    def registry(self) -> Path:
        """current/ is what nginx serves of bundles' images, root's (images/served.py)."""
        return self.settings.http_dir / "registry"

    @property
    def hosts(self) -> Path:
        """One DHCP reservation per file."""
        return self.state / "dnsmasq" / "hosts.d"

    @property
    def leases(self) -> Path:
        return self.state / "dnsmasq" / "leases"

    @property
    def tftp(self) -> Path:
        return self.state / "tftp"

    @property
    def tls(self) -> Path:
        return self.state / "tls"

    @property
    def nginx(self) -> Path:
        """nginx's pid file and temporary files."""
        return self.state / "nginx"

    @property
    def secrets(self) -> Path:
        return self.state / "secrets"

    @property
    def keys(self) -> Path:
        return self.state / "keys"

    @property
    def master_key(self) -> Path:
        return self.keys / "master.key"

    @property
    def master_pub(self) -> Path:
        return self.keys / "master.pub"

    @property
    def images_key(self) -> Path:
        """seed-images' own: what it opens are logins of registries."""
        return self.keys / "images.key"

    @property
    def images_pub(self) -> Path:
        return self.keys / "images.pub"

    @property
    def incoming(self) -> Path:
        """Uploads as they come: the API writes them, seed-images takes copies of them."""
        return self.state / "incoming"

    @property
    def bmc_ca_key(self) -> Path:
        return self.keys / "bmc-ca.key"

    @property
    def bmc_ca_pem(self) -> Path:
        return self.keys / "bmc-ca.pem"

    @property
    def autoscaler_key(self) -> Path:
        """Signs client certificates of clusters' autoscalers."""
        return self.keys / "autoscaler-ca.key"

    @property
    def autoscaler_pem(self) -> Path:
        return self.keys / "autoscaler-ca.pem"

    @property
    def db(self) -> Path:
        return self.state / "db"

    @property
    def bmc_ca(self) -> Path:
        return self.state / "bmc-ca"

    @property
    def ansible(self) -> Path:
        """Runs of Ansible, with their SSH keys."""
        return self.state / "ansible"

    def ironic_password(self, account: str) -> Path:
        """Password of `account` (seed-api or seed-reconciler) at Ironic."""
        return self.secrets / f"{account.replace('seed-', 'ironic-')}.password"
