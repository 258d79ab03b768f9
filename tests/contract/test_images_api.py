"""Images by HTTP and by their verbs: who sees which version, uploads, logins of registries."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi.testclient import TestClient
from sqlmodel import select
from typer.testing import CliRunner

from api.app import create_app
from api.parts import Door, Parts
from api.roles import Role
from api.routes import image_intakes
from images import catalog
from images.intakes import Intakes
from images.web import Web
from provisioning.errors import Conflict
from provisioning.models import Event
from provisioning.secrets import Unsealer
from provisioning.shelf import Intake, RegistryLogin, purpose
from provisioning.states import IntakeState
from seed.cli import app
from seed.commands import coming
from tests.contract.test_image_intakes import a_small_disk
from tests.fakes.api import a_token, bearer, some_parts
from tests.fakes.disks import a_raw_disk, sha256
from tests.fakes.serving import api_on_a_port
from tests.fakes.two_projects import IMAGE

DISK = a_raw_disk()
GOOD = sha256(DISK)


@dataclass
class Site:
    parts: Parts
    web: TestClient
    operator: dict[str, str]
    claimer: dict[str, str]

    def post(self, path: str, body: Any, status: int) -> Any:
        answer = self.web.post(f"/v1{path}", json=body, headers=self.operator)
        assert answer.status_code == status, answer.text
        return answer.json()

    def get(self, path: str, status: int = 200, claimer: bool = False) -> Any:
        headers = self.claimer if claimer else self.operator
        answer = self.web.get(f"/v1{path}", headers=headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    def put(self, intake: str, content: Any, told: str = "") -> httpx.Response:
        headers = self.operator | ({"content-range": told} if told else {})
        path = f"/v1/image-intakes/{intake}/content"
        return self.web.put(path, content=content, headers=headers)

    def service(self) -> Intakes:
        nowhere = Web((), lambda _: True)
        shelf = self.parts.shelf
        return Intakes(
            self.parts.store, self.parts.image_dir, shelf.incoming, nowhere, lambda _: None,
            shelf.most,
        )  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    parts = some_parts(tmp_path)
    tokens = [bearer(a_token(parts, role, role)) for role in (Role.OPERATOR, Role.CLAIMER)]
    with TestClient(create_app(parts, Door.WEB)) as client:
        yield Site(parts, client, *tokens)


def put(parts: Parts, *versions: str) -> None:
    for version in versions:
        folder = parts.image_dir / "debian" / version
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(json.dumps(IMAGE | {"version": version}))
        catalog.switch(folder)


def test_a_version_that_goes_while_images_are_listed_fails_nobody(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(site.parts, "1")
    folder, read = site.parts.image_dir / "debian" / "1", Path.read_bytes

    def last_look(path: Path) -> bytes:
        content = read(path)
        if path == folder / "manifest.json":
            shutil.rmtree(folder)
        return content

    monkeypatch.setattr(Path, "read_bytes", last_look)
    assert [image["version"] for image in site.get("/images")] == ["1"], "it was there then"
    assert site.get("/images") == []
    for path in ("/images/debian", "/images/debian/versions", "/images/debian/versions/1"):
        assert site.get(path, 404)["remedy"]


# --- versions -------------------------------------------------------------------------------------


def test_a_version_is_deprecated_withdrawn_and_published_again(site: Site) -> None:
    put(site.parts, "1", "2")
    why = {"why": "its kernel has a hole"}
    assert site.get("/images/debian")["version"] == "2"

    told = site.post("/images/debian/versions/2:deprecate", why, 200)
    assert (told["state"], told["why"]) == ("deprecated", "its kernel has a hole")
    assert site.get("/images/debian")["version"] == "1", "new claims get the one before"
    assert site.get("/images/debian/versions/2")["state"] == "deprecated"
    site.get("/images/debian/versions/2", 404, claimer=True)

    site.post("/images/debian/versions/2:publish", {"why": "mended"}, 200)
    site.post("/images/debian/versions/2:publish", {"why": "again"}, 200)
    assert site.get("/images/debian")["version"] == "2"

    site.post("/images/debian/versions/2:withdraw", why, 200)
    refused = site.post("/images/debian/versions/2:deprecate", why, 409)
    assert "is withdrawn: only a published one is deprecated" in refused["detail"]
    refused = site.post("/images/debian/versions/2:publish", {"why": "mended"}, 409)
    assert "withdrawn, which is for good" in refused["detail"]
    assert refused["remedy"]
    assert site.get("/images/debian")["version"] == "1"

    with site.parts.store.read() as session:
        events = session.exec(select(Event).where(Event.subject == "debian:2")).all()
    assert [(e.kind, e.why) for e in events] == [
        ("image.deprecated", "its kernel has a hole"),
        ("image.published", "mended"),
        ("image.withdrawn", "its kernel has a hole"),
    ]
    site.post("/images/debian/versions/9:publish", why, 404)
    site.post("/images/debian/versions/1:publish", {"why": " "}, 422)


def test_the_last_version_of_a_ramdisk_is_not_withdrawn(site: Site) -> None:
    def put_ramdisk(version: str) -> None:
        folder = site.parts.image_dir / "ramdisk" / version
        folder.mkdir(parents=True)
        told = IMAGE | {"name": "ramdisk", "version": version, "format": "ramdisk"}
        (folder / "manifest.json").write_text(json.dumps(told))
        catalog.switch(folder)

    put_ramdisk("1")
    refused = site.post("/images/ramdisk/versions/1:withdraw", {"why": "x"}, 409)
    assert refused["remedy"] == "seed image build ramdisk --fresh"
    put_ramdisk("2")
    site.post("/images/ramdisk/versions/1:withdraw", {"why": "x"}, 200)
    site.post("/images/ramdisk/versions/1:withdraw", {"why": "x"}, 200)
    site.post("/images/ramdisk/versions/2:withdraw", {"why": "x"}, 409)


def test_who_claims_sees_published_versions_only(site: Site) -> None:
    put(site.parts, "1", "2", "3")
    for version, verb in (("3", "withdraw"), ("2", "deprecate")):
        site.post(f"/images/debian/versions/{version}:{verb}", {"why": "x"}, 200)

    def seen(path: str, claimer: bool) -> list[str]:
        return [image["version"] for image in site.get(path, claimer=claimer)]

    assert seen("/images", True) == seen("/images", False) == ["1"]
    assert seen("/images?versions=true", True) == ["1"]
    assert sorted(seen("/images?versions=true", False)) == ["1", "2", "3"]
    assert seen("/images/debian/versions", True) == ["1"]
    assert seen("/images/debian/versions", False)[0] == "1", "what the name means comes first"


# --- asking for one -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "status", "why"),
    [
        ({"source": "file:///etc/shadow", "sha256": GOOD}, 422, "not taken from a file:// URL"),
        ({"source": "https://images.example.org/x", "sha256": "a" * 32}, 422, "this is an MD5"),
        ({"source": "https://images.example.org/x", "sha256": "https://x/SUMS"}, 422,
         "a digest is given as itself, not as a URL"),
        ({"source": "https://images.example.org/x"}, 422, "'' is no SHA-256"),
        ({"source": "https://evil.example.org/x", "sha256": GOOD}, 403,
         "images are fetched from only images.example.org, and this one is at evil.example.org"),
        ({"source": "oci://evil.example.org/x", "sha256": GOOD}, 403, "evil.example.org"),
        ({"sha256": GOOD, "ssh_user": "a b"}, 422, "ssh_user"),
        ({"sha256": GOOD, "architecture": "m68k"}, 422, "architecture"),
        ({"sha256": GOOD, "path": "/etc/shadow"}, 422, "path"),
    ],
    ids=["file", "md5", "digest URL", "no digest", "host", "registry", "user", "cpu", "unknown"],
)  # fmt: skip
def test_what_cannot_come_in_is_refused_at_once(
    site: Site, ask: dict[str, str], status: int, why: str
) -> None:
    assert why in site.post("/images/fedora/versions", ask, status)["detail"]
    with site.parts.store.read() as session:
        assert session.exec(select(Intake)).all() == []
        assert session.exec(select(Event)).all() == []


def test_no_disk_comes_in_under_the_name_of_a_ramdisk(site: Site) -> None:
    for name in ("ramdisk", "rescue"):
        refused = site.post(f"/images/{name}/versions", {"sha256": GOOD}, 422)
        assert "boot from memory" in refused["detail"]
    assert site.get("/image-intakes") == []


def test_the_same_image_comes_in_once(site: Site) -> None:
    ask = {"source": "https://images.example.org/x", "sha256": GOOD}
    made = site.post("/images/fedora/versions", ask, 202)
    assert (made["state"], made["kind"], made["asked_by"]) == ("waiting", "url", "operator")
    assert "comes in already" in site.post("/images/fedora/versions", ask, 409)["detail"]
    gone = site.post(f"/image-intakes/{made['id']}:cancel", None, 200)
    assert (gone["state"], gone["problem"]) == ("refused", "cancelled by operator")
    assert site.post(f"/image-intakes/{made['id']}:cancel", None, 200) == gone
    site.post("/images/fedora/versions", ask, 202)
    assert len(site.get("/image-intakes")) == 1
    assert len(site.get("/image-intakes?ended=true")) == 2


def test_what_is_being_published_is_not_cancelled(site: Site) -> None:
    ask = {"source": "https://images.example.org/x", "sha256": GOOD}
    made = site.post("/images/fedora/versions", ask, 202)
    with site.parts.store.write() as session:
        row = session.get_one(Intake, UUID(made["id"]))
        row.state, row.version = IntakeState.CHECKING, "1"
        session.add(row)
    told = site.post(f"/image-intakes/{made['id']}:cancel", None, 409)
    assert told["detail"] == "it is being published right now, as fedora:1"
    assert site.get(f"/image-intakes/{made['id']}")["state"] == "checking"


# --- uploads --------------------------------------------------------------------------------------


def test_an_upload_in_one_piece_is_published(site: Site) -> None:
    made = site.post("/images/fedora/versions", {"sha256": GOOD}, 202)
    assert made["state"] == "uploading"
    sent = site.put(made["id"], DISK)
    assert (sent.status_code, sent.json()["state"]) == (200, "waiting")

    site.service().once()

    told = site.get(f"/image-intakes/{made['id']}")
    assert (told["state"], told["problem"]) == ("done", "")
    assert site.get("/images/fedora", claimer=True)["version"] == told["version"]
    again = site.post("/images/fedora/versions", {"sha256": GOOD}, 409)
    assert f"is here as fedora:{told['version']}, published" in again["detail"]
    assert "waits for no upload" in site.put(made["id"], DISK).json()["detail"]
    refused = site.post(f"/image-intakes/{made['id']}:cancel", None, 409)
    assert refused["remedy"].startswith("seed image withdraw fedora:")


def test_an_upload_in_pieces_goes_on_where_it_was_cut(site: Site) -> None:
    made = site.post("/images/fedora/versions", {"sha256": GOOD}, 202)
    half, total = len(DISK) // 2, len(DISK)
    first = site.put(made["id"], DISK[:half], f"bytes 0-{half - 1}/{total}").json()
    assert (first["state"], first["bytes_done"], first["bytes_total"]) == ("uploading", half, total)
    assert site.get(f"/image-intakes/{made['id']}")["bytes_done"] == half

    gap = site.put(made["id"], DISK[half + 1 :], f"bytes {half + 1}-{total - 1}/{total}")
    assert gap.status_code == 409
    assert gap.json()["detail"] == f"there are {half} bytes of it, and these begin at {half + 1}"

    last = site.put(made["id"], DISK[half:], f"bytes {half}-{total - 1}/{total}").json()
    assert last["state"] == "waiting"
    site.service().once()
    assert site.get(f"/image-intakes/{made['id']}")["state"] == "done"


@pytest.mark.parametrize(
    ("content", "told", "status"),
    [
        (b"x" * 10, "bytes 0-8/10", 422),
        (b"x" * 10, "bytes 5-4/10", 422),
        (b"x" * 10, "bytes 0-9/5", 422),
        (b"x" * 10, "bytes */10", 422),
        (b"x" * 10, "bytes 0-9/999999999999999", 413),
    ],
)
def test_a_piece_that_says_nonsense_is_refused(
    site: Site, content: bytes, told: str, status: int
) -> None:
    made = site.post("/images/fedora/versions", {"sha256": GOOD}, 202)
    answer = site.put(made["id"], content, told)
    assert answer.status_code == status
    assert answer.json()["remedy"]
    assert list(site.parts.shelf.incoming.iterdir()) == []


def test_a_body_larger_than_it_says_is_cut_off(site: Site) -> None:
    """Without a Content-Length only counting helps."""
    made = site.post("/images/fedora/versions", {"sha256": GOOD}, 202)
    answer = site.put(made["id"], iter([b"x" * 100] * 100), "bytes 0-99/200")
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")


def test_two_do_not_send_one_image_at_once(site: Site) -> None:
    made = site.post("/images/fedora/versions", {"sha256": GOOD}, 202)
    file = image_intakes._opened(site.parts.shelf.incoming / made["id"], 0, 10)
    assert "somebody else is sending it" in site.put(made["id"], DISK).json()["detail"]
    file.close()
    assert site.put(made["id"], DISK).status_code == 200


def test_a_packed_upload_is_refused(site: Site) -> None:
    made = site.post("/images/fedora/versions", {"sha256": GOOD}, 202)
    headers = site.operator | {"content-encoding": "gzip"}
    path = f"/v1/image-intakes/{made['id']}/content"
    assert site.web.put(path, content=DISK, headers=headers).status_code == 415


def test_a_full_disk_is_said_before_anything_is_sent(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_intakes, "SPARE", 1 << 60)
    made = site.post("/images/fedora/versions", {"sha256": GOOD}, 202)
    answer = site.put(made["id"], DISK)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert answer.json()["detail"].startswith("the image needs 0.0 GiB free in ")


@pytest.mark.parametrize("content", [b"", iter([b"x" * 10])], ids=["empty", "no length"])
def test_an_upload_without_a_length_is_refused(site: Site, content: Any) -> None:
    made = site.post("/images/fedora/versions", {"sha256": GOOD}, 202)
    answer = site.put(made["id"], content)
    assert answer.status_code == 422
    assert answer.json()["detail"] == "the upload does not say how many bytes it has, or has none"
    assert list(site.parts.shelf.incoming.iterdir()) == []


def test_a_disk_that_becomes_full_is_said(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_intakes, "SPARE", -(1 << 30))  # somebody else filled it meanwhile
    made = site.post("/images/fedora/versions", {"sha256": GOOD}, 202)
    with a_small_disk(site.parts.shelf.incoming, "600k"):
        answer = site.put(made["id"], DISK)
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert answer.json()["detail"] == "the image cannot be kept: No space left on device"


def test_room_is_looked_for_while_an_upload_comes(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = site.parts.shelf.incoming / "x"
    file = image_intakes._opened(path, 0, 10)
    image_intakes._write(file, b"x" * 5)
    monkeypatch.setattr(image_intakes, "SPARE", 1 << 60)  # others came in meanwhile
    with pytest.raises(Conflict, match="No space left"):
        image_intakes._write(file, b"x" * 5)
    file.close()
    assert path.read_bytes() == b"x" * 5


def test_a_content_needs_no_idempotency_key_and_bears_one(site: Site) -> None:
    made = site.post("/images/fedora/versions", {"sha256": GOOD}, 202)
    told = f"bytes 0-{len(DISK) - 1}/{len(DISK)}"
    headers = site.operator | {"idempotency-key": "k", "content-range": told}
    path = f"/v1/image-intakes/{made['id']}/content"
    answer = site.web.put(path, content=iter([DISK[:9], DISK[9:]]), headers=headers)
    assert answer.json()["bytes_done"] == len(DISK)


# --- logins of registries -------------------------------------------------------------------------


def test_a_registrys_password_is_read_by_seed_images_alone(site: Site, tmp_path: Path) -> None:
    body = {"username": "seed", "password": "correct horse"}
    answer = site.web.put("/v1/registry-logins/R.Test:5000", json=body, headers=site.operator)
    assert answer.json()["host"] == "r.test:5000"
    assert "horse" not in answer.text + json.dumps(site.get("/registry-logins"))
    with site.parts.store.read() as session:
        row = session.get_one(RegistryLogin, "r.test:5000")
    key = Unsealer(tmp_path / "images.key")
    assert key.open(row.sealed, purpose("r.test:5000")) == "correct horse"
    for path, purposed in (("master.key", "r.test:5000"), ("images.key", "other.test")):
        with pytest.raises(Exception, match="does not open"):
            Unsealer(tmp_path / path).open(row.sealed, purpose(purposed))
    for host in ("r.test/x", "u@r.test", "r.test:0", "127.1"):
        bad = site.web.put(f"/v1/registry-logins/{host}", json=body, headers=site.operator)
        assert bad.status_code in (404, 422), host
    gone = site.web.delete("/v1/registry-logins/r.test:5000", headers=site.operator)
    assert gone.status_code == 204
    assert site.get("/registry-logins") == []


# --- the verbs ------------------------------------------------------------------------------------


@dataclass
class Typed:
    parts: Parts
    env: dict[str, str]
    service: Intakes

    def seed(self, *words: str, stdin: str = "") -> tuple[int, str]:
        done = CliRunner().invoke(app, words, env=self.env, input=stdin)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert max(map(len, done.stdout.splitlines()), default=0) <= 80 or "-o" in words
        return done.exit_code, done.output


@pytest.fixture
def typed(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Typed]:
    monkeypatch.setattr(coming, "LOOK_SECONDS", 0.05)
    (tmp_path / "token").write_text(site.operator["Authorization"].removeprefix("Bearer "))
    with api_on_a_port(create_app(site.parts, Door.WEB)) as url:
        env = {
            "SEED_CONFIG": "/nowhere", "SEED_SERVER": url, "NO_COLOR": "1", "COLUMNS": "80",
            "SEED_TOKEN_FILE": str(tmp_path / "token"),
        }  # fmt: skip
        yield Typed(site.parts, env, site.service())


def test_a_file_is_added_in_pieces_and_its_version_goes(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coming, "PIECE", 300_000)
    file = tmp_path / "fedora.img"
    file.write_bytes(DISK)
    words = ("image", "add", "fedora", str(file), "--sha256", GOOD, "--no-wait", "-o", "json")
    code, text = typed.seed(*words)
    made = json.loads(text[text.index("{") :])
    assert (code, made["state"], made["bytes_done"]) == (0, "waiting", len(DISK))
    assert "1 of 1 MB (100 %)" in typed.seed("image", "intakes")[1]
    typed.service.once()

    ref = f"fedora:{typed.parts.image_dir.joinpath('fedora', 'current').readlink()}"
    assert "published" in typed.seed("image", "versions", "fedora")[1]
    assert typed.seed("image", "deprecate", ref, "--why", "old")[0] == 0
    assert typed.seed("image", "publish", ref)[0] == 0
    assert typed.seed("image", "withdraw", ref, "--why", "a hole")[0] == 0
    code, text = typed.seed("image", "versions", "fedora")
    assert "withdrawn" in text
    assert "a hole" in text
    code, text = typed.seed("image", "withdraw", "fedora", "--why", "x")
    assert (code, "fedora names no version" in text) == (2, True)


def test_an_upload_that_was_cut_off_goes_on(typed: Typed, site: Site, tmp_path: Path) -> None:
    made = site.post("/images/fedora/versions", {"sha256": GOOD}, 202)
    site.put(made["id"], DISK[:1000], f"bytes 0-999/{len(DISK)}")
    (tmp_path / "f").write_bytes(DISK)
    args = ("--sha256", GOOD.upper(), "--no-wait", "-o", "json")
    code, text = typed.seed("image", "add", "fedora", str(tmp_path / "f"), *args)
    assert (code, json.loads(text[text.index("{") :])["id"]) == (0, made["id"])
    with site.parts.store.read() as session:
        assert session.get_one(Intake, UUID(made["id"])).state is IntakeState.WAITING


def test_a_refused_image_ends_the_verb(typed: Typed) -> None:
    """Its service refuses: nothing may be fetched from there."""
    code, text = typed.seed("image", "add", "f", "https://evil.test/x", "--sha256", GOOD)
    assert code == 1
    assert "images are fetched from only images.example.org" in text
    code, text = typed.seed("image", "add", "f", "file:///etc/shadow", "--sha256", GOOD)
    assert (code, "file:// URL" in text) == (1, True)


def test_a_registrys_login_is_typed(typed: Typed) -> None:
    words = ("registry", "login", "r.test:5000", "--username", "seed", "--password-stdin")
    code, text = typed.seed(*words, stdin="correct horse\n")
    assert (code, "horse" in text) == (0, False)
    assert "r.test:5000" in typed.seed("registry", "list")[1]
    assert typed.seed("registry", "logout", "r.test:5000")[0] == 0
    assert typed.seed("registry", "logout", "r.test:5000")[0] == 1
