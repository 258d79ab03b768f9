"""diskimage-builder is asked for the right thing, and what it lacks is said before it starts.

A small program stands in for it: it refuses what the real one would, and leaves what it leaves.
"""

import dataclasses
from pathlib import Path

import pytest

from images import build as builder
from images.dib import Dib
from images.recipes import rocky, ubuntu
from provisioning.errors import HostError, Invalid

PROGRAM = """\
#!/bin/sh
set -eu
test "$DIB_RELEASE" = noble
test "$DIB_CLOUD_IMAGES" = http://mirror.site/noble
test "$1 $2 $3 $4 $5" = "-a amd64 -t qcow2 -o"
test "$7 $8" = "-p linux-image-generic,mdadm"
case " $* " in *" ubuntu vm block-device-efi "*) ;; *) exit 2;; esac
echo "what it says"
qemu-img create -q -f qcow2 "$6.qcow2" 8M
mkdir -p "$6.d/dib-manifests"
printf 'bash\\t5.2-1\\nmdadm\\t4.3-1\\n' > "$6.d/dib-manifests/dib-manifest-dpkg-disk"
"""


def recipe(folder: Path, text: str = PROGRAM) -> Dib:
    programs = folder / "bin"
    programs.mkdir(exist_ok=True)
    (programs / "disk-image-create").write_text(text)
    (programs / "disk-image-create").chmod(0o755)
    return dataclasses.replace(ubuntu.PLUGIN, programs=programs, needs={}, scratch_gib=0)


def run(made: Dib, folder: Path, mirror: str = "http://mirror.site/noble") -> builder.Build:
    wanted = builder.Wanted(mirror=mirror)
    return builder.build_recipe(made, folder / "cache", (), print, folder / "logs", wanted)


def test_the_disk_and_its_packages_are_taken(tmp_path: Path) -> None:
    made = run(recipe(tmp_path), tmp_path)
    assert made.virtual_size == 8 << 20
    assert made.packages == {"bash": "5.2-1", "mdadm": "4.3-1"}
    assert made.files == {"disk": "disk.qcow2"}
    assert "what it says" in Path(made.log).read_text()


def test_what_it_refuses_ends_the_build_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="disk-image-create failed with exit code 7") as caught:
        run(recipe(tmp_path, "#!/bin/sh\necho no network\nexit 7\n"), tmp_path)
    assert "no network" in Path(caught.value.remedy.split()[-1]).read_text()


def test_a_mirror_is_an_address(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="no address"):
        run(recipe(tmp_path), tmp_path, "/srv/mirror")


def test_without_its_environment_the_remedy_makes_it(tmp_path: Path) -> None:
    made = dataclasses.replace(rocky.PLUGIN, programs=tmp_path, scratch_gib=0)
    with pytest.raises(HostError) as caught:
        run(made, tmp_path)
    assert caught.value.remedy == "make env-dib"


def test_a_program_it_lacks_is_named_with_its_package(tmp_path: Path) -> None:
    made = dataclasses.replace(recipe(tmp_path), needs={"no-such-program": "its-package"})
    with pytest.raises(HostError, match="no-such-program") as caught:
        run(made, tmp_path)
    assert "its-package" in caught.value.remedy
