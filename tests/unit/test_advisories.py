"""What docs/advisories.md says stands before Ironic's weaknesses, stands."""

import configparser
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from api.claim_ask import ClaimAsk
from provisioning.models import Claim
from provisioning.targets import Seat
from provisioning.targets.plain import PLUGIN
from seed.host import ironic_conf
from tests.fakes.settings import some_settings

ROOT = Path(__file__).resolve().parents[2]
KEY = "ssh-ed25519 AAAA me"


@pytest.fixture
def conf(tmp_path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(ironic_conf.render(some_settings(tmp_path)))
    return parser


def test_user_data_is_bounded() -> None:
    """CVE-2026-115638: what a caller gives is small, and never a config drive."""
    most = "x" * 48 * 1024
    assert ClaimAsk(name="web", image="debian", ssh_keys=[KEY], user_data=most).user_data == most
    with pytest.raises(ValidationError, match="user_data"):
        ClaimAsk(name="web", image="debian", ssh_keys=[KEY], user_data=most + "x")
    with pytest.raises(ValidationError, match="config_drive"):
        ClaimAsk.model_validate({"name": "web", "image": "debian", "config_drive": "H4sI"})


def test_ironic_gets_a_config_drive_as_json() -> None:
    """CVE-2026-115638: Ironic inflates strings; a dict it builds itself."""
    seat = Seat("5f0c", "web", {"links": []}, "#!/bin/sh\n")
    drive = PLUGIN.config_drive(Claim(name="web", image="debian", ssh_keys=[KEY]), seat)
    assert isinstance(drive, dict)
    assert set(drive) == {"meta_data", "network_data", "user_data", "vendor_data"}


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        pytest.param("conductor", "file_url_allowed_paths", "", id="no file://"),
        pytest.param("agent", "allow_md5_checksum", "false", id="no MD5"),
        pytest.param("agent", "require_tls", "true", id="the agent by TLS only"),
        pytest.param("DEFAULT", "force_raw_images", "false", id="no conversion"),
        pytest.param("DEFAULT", "enabled_console_interfaces", "no-console", id="no console"),
        pytest.param("DEFAULT", "enabled_deploy_interfaces", "direct,ramdisk", id="no kickstart"),
        pytest.param("DEFAULT", "auth_strategy", "http_basic", id="passwords on loopback"),
        pytest.param("api", "host_ip", "127.0.0.1", id="loopback only"),
        pytest.param("deploy", "fast_track", "false", id="no agent outlives its order"),
        pytest.param("auto_discovery", "enabled", "false", id="no nodes by themselves"),
    ],
)
def test_ironic_is_told(
    conf: configparser.ConfigParser, section: str, name: str, value: str
) -> None:
    assert conf[section][name] == value


def test_the_agent_runs_no_boot_loader_of_an_image() -> None:
    """CVE-2026-43003: off by default in agent 13; nothing of ours switches it on."""
    code = [
        *(ROOT / "images").rglob("*.py"),
        *(ROOT / "ipxe").rglob("*"),
        *(ROOT / "seed").rglob("*"),
    ]
    said = [p for p in code if p.is_file() and b"enable_bios_bootloader_install" in p.read_bytes()]
    assert said == []


def test_every_row_names_its_test() -> None:
    text = (ROOT / "docs" / "advisories.md").read_text()
    rows = [line for line in text.splitlines() if re.match(r"\| (CVE|story)", line)]
    assert len(rows) > 10
    assert [row for row in rows if "`tests/" not in row and "| none yet |" not in row] == []
