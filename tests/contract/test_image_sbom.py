"""`seed image sbom`: the packages of what is published, and a sentence where nobody listed them."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from images import sbom
from images.build import SBOM, Build
from images.catalog import publish
from images.sbom import Part
from seed.cli import app
from seed.config import settings

PARTS = [Part("bash", "5.2", "amd64", "bash", "5.2", "Debian <a@b>")]


CONF = """\
state_dir = "{state}"
[management]
interface = "mgmt0"
address = "172.22.2.1/24"
[provisioning]
interface = "prov0"
address = "172.22.0.1/24"
pool_start = "172.22.0.10"
pool_end = "172.22.0.205"
unknown_start = "172.22.0.206"
unknown_end = "172.22.0.254"
[out_of_band]
interface = "oob0"
address = "172.22.1.1/24"
"""


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    settings.cache_clear()


def build(folder: Path, *, listed: bool) -> Build:
    folder.mkdir()
    (folder / "disk.qcow2").write_bytes(b"disk")
    if listed:
        (folder / SBOM).write_text(json.dumps(sbom.document("small", "trixie", "abc", PARTS)))
    return Build(
        recipe="small",
        digest="0123456789ab",
        directory=folder,
        architecture="amd64",
        firmware=("bios",),
        format="qcow2",
        files={"disk": "disk.qcow2"},
        virtual_size=4,
        min_disk_gib=1,
        built_at=datetime.now(UTC).replace(microsecond=0),
        build_seconds=1,
        weights={},
        packages={"bash": "5.2"},
        kernel="6.12.1-amd64",
        services=("ssh.service",),
        root_raid=True,
    )


@pytest.mark.parametrize("listed", [True, False])
def test_the_bill_of_a_published_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, listed: bool
) -> None:
    conf = tmp_path / "seed.toml"
    conf.write_text(CONF.format(state=tmp_path / "state"))
    monkeypatch.setenv("SEED_CONFIG", str(conf))
    settings.cache_clear()
    publish(build(tmp_path / "build", listed=listed), settings().image_dir, {})
    done = CliRunner().invoke(app, ["image", "sbom", "small"])
    if listed:
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["packages"][1]["name"] == "bash"
    else:
        assert done.exit_code == 1
        assert "nobody listed its packages" in str(done.exception or done.output)
