"""User-data is what it says, or is refused with the reason; nothing of it can hang us."""

import base64
import gzip
import time
from collections.abc import Iterator
from email.mime.multipart import MIMEMultipart
from email.mime.text import MIMEText

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioning import user_data
from provisioning.errors import Invalid

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----"
BILLION = "#cloud-config\na: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(12)
)


def mime(*parts: tuple[str, str]) -> str:
    message = MIMEMultipart()
    for text, kind in parts:
        message.attach(MIMEText(text, kind))
    return message.as_string()


def packed(raw: bytes) -> str:
    """A MIME part of gzip, as `cloud-init devel make-mime` and others make them."""
    body = base64.encodebytes(gzip.compress(raw)).decode()
    return (
        'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="B"\n\n--B\n'
        "Content-Type: application/gzip\nContent-Transfer-Encoding: base64\n\n" + body + "\n--B--\n"
    )


FINE = {
    "nothing": "",
    "empty config": "#cloud-config\n{}\n",
    "no document": "#cloud-config\n# later\n",
    "config": "#cloud-config\npackages: [jq]\nruncmd:\n- [ls, -l]\n- echo\n",
    "leading blanks": "\n  #cloud-config\npackages: [jq]\n",
    "windows": "#cloud-config\r\npackages: [jq]\r\n",
    "anchors": "#cloud-config\nwrite_files:\n- &f {path: /a, content: x}\n- {<<: *f, path: /b}\n",
    "vendor data with a prefix": "#cloud-config\nvendor_data: {enabled: true, prefix: nice}\n",
    "its own modules": "#cloud-config\ncloud_final_modules: [scripts_vendor, [scripts_user]]\n",
    "script": "#!/bin/sh\necho\n",
    "boothook": "#cloud-boothook\n#!/bin/sh\n",
    "include": "#include\nhttps://example.org/x\n",
    "include once": "#include-once\n# why\nhttps://example.org/x\n",
    "template": "## template: jinja\n#cloud-config\nruncmd: [echo {{ ds.meta_data.name }}]\n",
    "archive": "#cloud-config-archive\n- '#cloud-config\n\n  packages: [jq]\n\n  '\n"
               "- {type: text/x-shellscript, content: echo}\n",
    "mime": mime(("#cloud-config\n{}\n", "cloud-config"), ("#!/bin/sh\n", "x-shellscript")),
    "mime of plain text": mime(("#!/bin/sh\n", "plain")),
    "packed part": packed(b"#cloud-config\npackages: [jq]\n"),
}  # fmt: skip


@pytest.mark.parametrize("text", FINE.values(), ids=FINE.keys())
def test_what_cloud_init_would_do_is_fine(text: str) -> None:
    assert user_data.faults(text) == []
    user_data.check(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hello", "it starts with 'hello', which cloud-init would ignore"),
        ("packages: [jq]\n", "the first line must be #cloud-config"),
        ("# cloud-config\npackages: [jq]\n", "which cloud-init would ignore"),
        ("#cloud-configs\n{}", "it starts with '#cloud-configs'"),
        (base64.b64encode(b"#cloud-config\n" * 9).decode(), "it looks like base64"),
        (base64.b64encode(gzip.compress(bytes(9000), mtime=0)).decode(), "like base64"),
        ("   \n", "it is empty"),
        ("#cloud-config\npackages: 5\n", 'packages: it is not of type "array"'),
        ("#cloud-config\nrun_cmd: [ls]\n", "'run_cmd' was unexpected"),
        ("#cloud-config\nusers:\n- {name: a, passwrd: b}\n", "users.0: Additional properties"),
        ("#cloud-config\nwrite_files: [{content: x}]\n", '"path" is a required property'),
        ("#cloud-config\nruncmd: [a]\nruncmd: [b]\n", "'runcmd' twice below line 2"),
        ("#cloud-config\n- a\n", "its YAML is no mapping"),
        ("#cloud-config\na: [\n", "its YAML is broken in line"),
        ("#cloud-config\na: !!python/object/apply:os.system [ls]\n", "its YAML is broken"),
        ("#cloud-config\n" + "[" * 5000, "its YAML nests deeper"),
        ("#cloud-config\n" + "{a: " * 5000, "its YAML nests deeper"),
        (BILLION, "its YAML's aliases make it too large"),
        ("#cloud-config\na: &a [*a]\n", "an alias to what it is in"),
        ("#cloud-config\nvendor_data: {enabled: false}\n", "switches vendor data off"),
        ("#cloud-config\nvendor_data: {enabled: no}\n", "switches vendor data off"),
        ("#cloud-config\nvendor_data2: {enabled: false}\n", "vendor_data2: it switches"),
        ("#cloud-config\nvendor_data2: {disabled_handlers: ['text/x-shellscript']}\n",
         "vendor_data2: it switches"),
        ("#cloud-config\ncloud_final_modules: [scripts-user]\n", "without scripts_vendor"),
        ("#!/bin/sh\n\0", "there is a NUL byte in it"),
        ("#include\n", "it includes nothing"),
        ("#include\ngopher://x/y\n", "is no URL to include"),
        ("## template: jinja\nhello\n", "it starts with 'hello'"),
        ("## template: jinja\n## template: jinja\n", "a jinja template of a jinja template"),
        ("## template: jinja\n#cloud-config\n{{ x\n", "its jinja template is broken in line"),
        ("## template: jinja\n#cloud-config\n" + "{{" + "(" * 9000, "its jinja template"),
        (mime(("echo", "x-perl")), "a part of type 'text/x-perl'"),
        (mime(("hello", "plain")), "it starts with 'hello'"),
        (mime(("packages: 5", "cloud-config")), "packages: it is not"),
        (mime(*[("#!/bin/sh\n", "plain")] * 101), "more than 100 parts"),
        (packed(b"\0" * (65 * 2**20)), "it unpacks to more than 16 MiB"),
        (packed(b"hello"), "it starts with 'hello'"),
        ("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n\nhello",
         "its MIME parts cannot be found"),
        ("#cloud-config-archive\na: b\n", "it is not a list of parts"),
        ("#cloud-config-archive\n- 5\n", "part 0 of the archive has no content"),
        ("#cloud-config-archive\n- {type: text/nonsense, content: x}\n", "text/nonsense"),
        (f"#cloud-config\nwrite_files:\n- path: /k\n  content: '{KEY}'\n", "a private key is"),
        (f"#!/bin/sh\ncat >k <<E\n{KEY}\nE\n", "a private key is in it"),
        (packed(f"#!/bin/sh\n# {KEY}\n".encode()), "a private key is in it"),
        ("#!/bin/sh\nkubeadm join --token abcdef.0123456789abcdef\n", "Kubernetes bootstrap token"),
        ("#!/bin/sh\nx=-----BEGIN EC PRIVATE KEY-----\n", "a private key is in it"),
    ],
    ids=lambda value: value[:24],
)  # fmt: skip
def test_what_it_would_not_do_is_refused_with_the_reason(text: str, reason: str) -> None:
    begin = time.monotonic()
    found = user_data.faults(text)
    assert time.monotonic() - begin < 5
    assert any(reason in fault for fault in found), found
    with pytest.raises(Invalid, match="user_data: "):
        user_data.check(text)


@pytest.mark.parametrize(
    "raw",
    [
        gzip.compress(bytes(65 << 20), mtime=0),
        b"\x1f\x8bnonsense",
        gzip.compress(b"x", mtime=0)[:-4],
    ],
)
def test_gzip_is_inflated_under_a_cap(raw: bytes) -> None:
    assert user_data.faults(raw)


NODES, READ = user_data.NODES, user_data.READ
TO_READ = {  # as much of each as is read at all
    "many keys": "#cloud-config\n" + "".join(f"k{n}: 1\n" for n in range(NODES // 2 - 9)),
    "many items": "#cloud-config\nruncmd: [" + "1.5," * (NODES - 19) + "]\n",
    "many lines": "#cloud-config\na: " + "x\n " * (READ // 3 - 19),
    "many words": "#cloud-config\na: " + "x " * (READ // 2 - 19),
    "a template": "## template: jinja\n#cloud-config\n{{[" + "1," * (READ // 8 - 39) + "]}}",
    "a script": "#!" + "token " * (user_data.LARGEST // 6 - 9),
}
TOO_MUCH = "more than 1 MiB of it would have to be read"


@pytest.mark.parametrize("text", TO_READ.values(), ids=TO_READ.keys())
def test_what_is_read_at_all_is_read_soon(text: str) -> None:
    """Of the process's own time: it answers nobody meanwhile."""
    begin = time.process_time()
    found = user_data.faults(gzip.compress(text.encode()))
    assert time.process_time() - begin < 10, "about 2 s on a slow core"
    assert not any("more than" in fault for fault in found)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#cloud-config\na: " + "x " * (READ // 2), TOO_MUCH),
        ("## template: jinja\n#cloud-config\n" + "{{a}}" * (READ // 16), TOO_MUCH),
        ("#include\n" + "https://a/b\n" * (READ // 9), TOO_MUCH),
        (mime(*[("#cloud-config\n# " + "x" * (READ // 8), "cloud-config")] * 9), TOO_MUCH),
        ("#cloud-config\nruncmd: [" + "a," * NODES + "]", "its YAML has more than 20000 nodes"),
        ("#cloud-config\na: " + "x " * (user_data.LARGEST // 2), "more than 16 MiB"),
    ],
    ids=lambda value: value[:24],
)  # fmt: skip
def test_what_would_take_long_is_refused_before_it_is_read(
    text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, real = [0], user_data.yaml.parse

    def counted(*args: object) -> Iterator[object]:
        for event in real(*args):
            begun[0] += 1
            yield event

    monkeypatch.setattr(user_data.yaml, "parse", counted)
    found = user_data.faults(packed(text.encode()))
    assert any(reason in fault for fault in found), found
    assert begun[0] <= NODES + 1
    assert user_data.faults(packed(b"#!/bin/sh\n" + b"# long\n" * (READ // 4))) == []


def test_a_gzip_of_the_right_thing_is_fine() -> None:
    assert user_data.faults(gzip.compress(b"#cloud-config\npackages: [jq]\n")) == []


def test_what_is_wrong_is_told_without_the_value() -> None:
    """It may be a password, at a place where none belongs."""
    text = (
        "#cloud-config\nusers:\n- {name: [s3cr3t-value], passwrd: s3cr3t-value}\n"
        "chpasswd: s3cr3t-value\n"
    )
    found = user_data.faults(text)
    assert found
    assert "s3cr3t-value" not in str(found)
    for broken in ("#cloud-config\na: 's3cr3t-value\n", "#cloud-config\na: *s3cr3t-value\n"):
        assert "s3cr3t-value" not in str(user_data.faults(broken))


def test_password_hashes_are_warned_of_and_not_refused() -> None:
    text = "#cloud-config\nusers:\n- name: a\n  hashed_passwd: $6$x$y\nchpasswd:\n  expire: false\n"
    assert user_data.faults(text) == []
    (warning,) = user_data.warnings(text)
    assert "chpasswd, hashed_passwd" in warning
    assert user_data.warnings("#cloud-config\npackages: [jq]\n") == []


HEADS = st.sampled_from([*user_data._KINDS, "MIME-Version: 1.0\n", "", "#", "\x1f\x8b"])


@settings(max_examples=500, deadline=None, derandomize=True)
@given(head=HEADS, body=st.text(max_size=200))
def test_no_text_breaks_it(head: str, body: str) -> None:
    for text in (head + body, f"{head}\n{body}"):
        for fault in user_data.faults(text):
            assert fault.isprintable(), fault


@settings(max_examples=300, deadline=None, derandomize=True)
@given(raw=st.binary(max_size=300))
def test_no_bytes_break_it(raw: bytes) -> None:
    user_data.faults(raw)
    user_data.faults(b"\x1f\x8b" + raw)
