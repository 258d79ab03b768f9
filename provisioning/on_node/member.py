"""Make this server a member of its cluster: do the steps in order, and tell the seed how far it is.

    member.py                         the steps, then the check for ever; as its unit starts it
    member.py put NAME FILE [KEY]     give the cluster's other members a value
    member.py get NAME FILE [KEY]     wait for a value, and write it to FILE
    member.py find NAME FILE [KEY]    the same, but where there is none yet: no FILE, and no error

Reads member.json beside it. gateway: https://HOST[:PORT]; ca: PEM; token; cluster, member: names;
steps: as provisioning.kinds.Step; and where wanted: state: a folder; key: the cluster's key file,
which the seed never reads here; secrets: files whose content no report may tell; check: an argv,
run every check_seconds once all steps are over; drain, leave, forget: steps, the first and the last
with "{name}" in the place of another member's name; fresh: path -> unit; try: an argv that gets a
number, prints what it finds out about the whole cluster, and nothing where another does it.
Standard library only.

Reports are of one step each. "waiting": between two tries, with what the last one said; "failed":
patience is over, and it is tried once a minute still, because somebody may mend it; step "": all
steps, step "check": the check. A step that was over stays so, whatever becomes of its `done`.

All the time it asks the seed for its orders: {"goal": "joined" or "leaving", "drain": [NAME],
"forget": [NAME], "files": {PATH: CONTENT}}, and "check": NUMBER once a person wants to know whether
the cluster works. No order has anything to run in it. Step "left": this server is no member any
more; "try NUMBER": what `try` printed.
"""

import fcntl
import hashlib
import hmac
import http.client
import json
import os
import random
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

CALL_TIMEOUT, OPENSSL_TIMEOUT, CHECK_TIMEOUT, GRACE = 10, 30, 60, 5  # seconds
BETWEEN_REPORTS, LONGEST_PAUSE, LATER, CHECK_EVERY = 1, 10, 60, 30  # seconds
ORDERS_EVERY, RELOAD_TIMEOUT = 12, 60  # seconds; with its jitter at most 15
TRY_TIMEOUT = 480  # seconds
LARGEST = 64 * 1024  # bytes of a value, as it travels
KEPT, TOLD = 16 * 1024, 2 * 1024  # bytes of a try's output
WORD, LINE = 16, 8  # characters; what is shorter in a secret file is no secret alone
MARK = b"seed-value-1\n"
A_NAME, NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"), "{name}"
DRAIN_OR_FORGET, LEAVING = ("drain", "forget"), "leaving"
STATE, KEY = "/var/lib/seed-member", "/etc/seed-member/key"


def log(sentence: str) -> None:
    print(sentence, file=sys.stderr, flush=True)


def jitter(seconds: float) -> float:
    """So that a rack which was switched on at once does not ask at once."""
    return seconds * random.uniform(0.75, 1.25)  # noqa: S311


def write(path: Path, content: bytes, mode: int = 0o600) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.seed")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        os.fchmod(handle, mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)


# --- the seed -----------------------------------------------------------------------------------


class Gateway:
    """Follows no redirect and asks no proxy: the token is for this one host."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.host = urlsplit(config["gateway"]).netloc
        self.ca, self.token = config["ca"], config["token"]

    def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes, str]:
        """Its status (0: none), content, and the trouble in words, empty where there is none."""
        kind = "application/octet-stream" if method == "PUT" else "application/json"
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        link = None
        try:
            trust = ssl.create_default_context(cadata=self.ca)
            link = http.client.HTTPSConnection(self.host, timeout=CALL_TIMEOUT, context=trust)
            link.request(method, path, body, headers)
            answer = link.getresponse()
            content = answer.read(LARGEST + 1) if method == "GET" else b""
        except (OSError, ValueError, http.client.HTTPException) as problem:
            return 0, b"", f"the seed could not be reached: {type(problem).__name__}"
        finally:
            if link:
                link.close()
        return answer.status, content, trouble_of(answer.status)


def trouble_of(status: int) -> str:
    if status in (401, 403):
        return f"the seed refuses this member's token ({status})"
    return f"the seed answered {status}" if status >= 300 else ""


class Reports(threading.Thread):
    """The newest word on each step, one a second, until it is taken; the steps do not wait."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.gateway, self.pause, self.trouble = Gateway(config), 0.0, ""
        self.who = {"cluster": config["cluster"], "member": config["member"]}
        self.changed = threading.Condition()
        self.pending: dict[str, dict[str, Any]] = {}
        self.newest: dict[str, tuple[str, ...]] = {}

    def say(
        self, step: str, state: str, seconds: float, detail: str = "", missing: str = ""
    ) -> None:
        news = (state, detail, missing)
        with self.changed:
            if self.newest.get(step) == news:
                return
            self.newest[step] = news
            log(" ".join(word for word in (step or "all steps", state, detail) if word))
            self.pending.pop(step, None)
            self.pending[step] = {
                **self.who, "step": step, "state": state, "detail": detail, "missing": missing,
                "seconds": round(seconds, 1),
            }  # fmt: skip
            self.changed.notify()

    def run(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.pending)
                step, report = next(iter(self.pending.items()))
            self.pause = self.send(report)
            with self.changed:
                if not self.pause and self.pending.get(step) is report:
                    del self.pending[step]
            time.sleep(max(BETWEEN_REPORTS, jitter(self.pause)))

    def send(self, report: dict[str, Any]) -> float:
        """Seconds until it is to be sent again; 0: there is nothing more to do for it."""
        body = json.dumps(report).encode()
        status, _, trouble = self.gateway.ask("POST", "/v1/members", body)
        if trouble != self.trouble:
            log(trouble or "the seed takes reports again")
        self.trouble = trouble
        if status in (401, 403, 404):  # may become good: a seed that was restored
            return LATER
        refused = 400 <= status < 500 and status not in (408, 429)  # this one report stays wrong
        return 0 if refused or not trouble else min(LONGEST_PAUSE, max(1, 2 * self.pause))


# --- one try ------------------------------------------------------------------------------------


def secret_texts(config: dict[str, Any]) -> set[str]:
    """What no report may have: the token, and lines and long words of the secret files."""
    texts = {config["token"]}
    for path in [*config.get("secrets", []), config.get("key", KEY)]:
        try:
            content = Path(path).read_text(errors="replace")
        except OSError:
            continue
        texts |= {line.strip() for line in content.splitlines() if len(line.strip()) >= LINE}
        words = re.findall(rf"[A-Za-z0-9+/=_.~-]{{{WORD},}}", content)
        texts |= {word for word in words if not word.startswith("/")}  # paths tell what to mend
    return texts


def fit_to_tell(said: bytes, secrets: set[str]) -> str:
    """The end of it, with no secret and no half of one."""
    if len(said) >= KEPT:
        said = said.partition(b"\n")[2]
    text = said.decode(errors="replace")
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "[secret]")
    text = "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text).strip()
    return text.encode()[-TOLD:].decode(errors="ignore")


def drain(pipe: IO[bytes], said: bytearray) -> None:
    with pipe:
        while chunk := os.read(pipe.fileno(), KEPT):
            said += chunk
            del said[:-KEPT]


def end(process: subprocess.Popen[bytes]) -> None:
    """Everything that the try began and that is still there."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        until, now = time.monotonic() + GRACE, int(sign)
        while time.monotonic() < until:
            process.poll()  # a child that nobody looked at keeps its group
            try:
                os.killpg(process.pid, now)
            except ProcessLookupError:
                return
            now = 0  # asks only whether anybody is left
            time.sleep(0.05)


def tried(argv: list[str], seconds: float, said: bytearray) -> str:
    """Empty: it ended well; else why not. said: gets the end of what it printed."""
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        start_new_session=True, cwd="/",
    )  # fmt: skip
    # A daemon that a step leaves behind holds the pipe: nobody waits for its end.
    reader = threading.Thread(target=drain, args=(process.stdout, said), daemon=True)
    reader.start()
    try:
        code = process.wait(seconds)
        problem = f"it ended with {code}" if code else ""
    except subprocess.TimeoutExpired:
        problem = f"it did not end within {seconds:g} s"
    if problem:
        end(process)
    reader.join(1)
    return problem


def attempt(config: dict[str, Any], argv: list[str], seconds: float) -> tuple[str, str]:
    """Why it did not end well, and the missing file, if it is that. Both empty: it did."""
    secrets, said = secret_texts(config), bytearray()
    try:
        problem = tried(argv, seconds, said)
    except FileNotFoundError:
        return f"{argv[0]} is not there", argv[0]
    except OSError as trouble:
        return f"{argv[0]} cannot be started: {trouble.strerror}", ""
    tail = fit_to_tell(bytes(said), secrets | secret_texts(config)) if problem else ""
    return (f"{problem}: {tail}" if tail else problem), ""


# --- the steps ----------------------------------------------------------------------------------


def once(config: dict[str, Any], step: dict[str, Any]) -> tuple[str, str]:
    done = Path(step["done"]) if step["done"] else None
    if done and done.exists():
        return "", ""
    missing = next((path for path in step["wants"] if not Path(path).exists()), "")
    if missing:
        return f"{missing} is not there", missing
    detail, missing = attempt(config, step["argv"], step["try_seconds"])
    if not detail and done and not done.exists():
        return f"it ended well, but {done} is not there", ""
    return detail, missing


class Steps:
    """steps.json in the state folder: a step's digest -> over, seconds. A changed step is new."""

    def __init__(self, config: dict[str, Any], reports: Reports) -> None:
        self.config, self.reports = config, reports
        self.path = Path(config.get("state", STATE)) / "steps.json"
        try:
            self.known = dict(json.loads(self.path.read_text()))
        except (OSError, ValueError):
            self.known = {}

    def keep(self, digest: str, over: bool, seconds: float) -> None:
        self.known[digest] = {"over": over, "seconds": round(seconds, 1)}
        write(self.path, json.dumps(self.known).encode())

    def through(self, step: dict[str, Any]) -> float:
        """Until it is over: how many seconds. Its patience goes on where a restart left it."""
        digest = hashlib.sha256(json.dumps(step, sort_keys=True).encode()).hexdigest()
        before = self.known.get(digest, {"over": False, "seconds": 0})
        began = time.monotonic() - before["seconds"]
        over, late, detail = before["over"], before["seconds"] >= step["patience_seconds"], ""
        while not over:
            if not late:
                self.reports.say(step["name"], "running", time.monotonic() - began, detail)
            detail, missing = once(self.config, step)
            seconds = time.monotonic() - began
            over, late = not detail, seconds >= step["patience_seconds"]
            self.keep(digest, over, seconds)
            if not over:
                state = "failed" if late else "waiting"
                self.reports.say(step["name"], state, seconds, detail, missing)
                time.sleep(jitter(LATER if late and not missing else step["pause_seconds"]))
        took = float(self.known[digest]["seconds"])
        self.reports.say(step["name"], "done", took)
        return took


# --- orders -------------------------------------------------------------------------------------


def is_name(word: Any) -> bool:  # noqa: ANN401
    return isinstance(word, str) and bool(A_NAME.fullmatch(word))


class Orders(threading.Thread):
    """What the seed wants of this member, asked for all the time."""

    def __init__(self, config: dict[str, Any], reports: Reports) -> None:
        super().__init__(daemon=True)
        self.config, self.reports = config, reports
        self.gateway, self.trouble = Gateway(config), ""
        self.folder = Path(config.get("state", STATE))
        self.since: dict[str, float] = {}
        self.trying: int | None = None
        self.tryer: threading.Thread | None = None

    def run(self) -> None:
        while True:
            status, body, trouble = self.gateway.ask("GET", "/v1/members/orders")
            if trouble != self.trouble:
                log(f"orders: {trouble or 'they come again'}")
            self.trouble = trouble
            try:
                if not trouble:
                    self.follow(body)
            except OSError as problem:  # a disk that is full may be so no more
                log(f"orders: {problem.strerror}")
            pause = LATER if status in (401, 403, 404) else ORDERS_EVERY
            time.sleep(jitter(self.config.get("orders_seconds", pause)))

    def follow(self, body: bytes) -> None:
        try:
            told = json.loads(body)
            files = {str(path): str(text) for path, text in told.get("files", {}).items()}
            names = {verb: [*filter(is_name, told.get(verb, []))] for verb in DRAIN_OR_FORGET}
            leaving, number = told.get("goal") == "leaving", told.get("check")
        except (ValueError, AttributeError, TypeError):
            log("orders: this is none")
            return
        busy = self.tryer is not None and self.tryer.is_alive()  # two would be in each other's way
        if type(number) is int and number != self.trying and self.config.get("try") and not busy:
            self.trying = number
            self.tryer = threading.Thread(target=self.try_out, args=(number,), daemon=True)
            self.tryer.start()
        self.refresh(files)
        for verb in DRAIN_OR_FORGET:
            for name in names[verb]:
                self.do(verb, name)
        if leaving:
            self.leave()

    def try_out(self, number: int) -> None:
        """Orders go on meanwhile: it takes minutes. Who printed nothing looks again with the next
        order: another may lead by then."""
        began, said = time.monotonic(), bytearray()
        try:
            problem = tried([*self.config["try"], str(number)], TRY_TIMEOUT, said)
        except OSError as trouble:
            problem = f"it cannot be started: {trouble.strerror}"
        told = fit_to_tell(bytes(said), secret_texts(self.config))
        if told or problem:
            state = "failed" if problem else "done"
            detail = f"{problem}: {told}" if problem else told
            self.reports.say(f"try {number}", state, time.monotonic() - began, detail)
        else:
            self.trying = None

    def do(self, verb: str, name: str) -> None:
        """One try of each step; who is not through is tried again with the next order."""
        task = f"{verb} {name}"
        seconds = time.monotonic() - self.since.setdefault(task, time.monotonic())
        for step in self.config.get(verb, []):
            argv = [name if word == NAME else word for word in step["argv"]]
            detail, missing = once(self.config, {**step, "argv": argv})
            if detail:
                state = "failed" if seconds >= step["patience_seconds"] else "waiting"
                self.reports.say(task, state, seconds, detail, missing)
                return
        self.reports.say(task, "done", seconds)

    def refresh(self, files: dict[str, str]) -> None:
        """Only files that were named when this member was made. A mark stays until the unit was
        told: a death in between makes nobody believe that it was."""
        for path, unit in self.config.get("fresh", {}).items():
            mark = self.folder / f"reload-{unit}"
            content = files.get(path, "").encode()
            if content and (not Path(path).exists() or Path(path).read_bytes() != content):
                write(mark, b"")
                write(Path(path), content, 0o644)
            if not mark.exists():
                continue
            argv = ["systemctl", "try-reload-or-restart", unit]
            detail, _ = attempt(self.config, argv, RELOAD_TIMEOUT)
            if not detail:
                mark.unlink()
            self.reports.say(f"reload {unit}", "failed" if detail else "done", 0, detail)

    def leave(self) -> None:
        """Whatever step runs now ends with this process; its next life leaves."""
        mark = self.folder / LEAVING
        if not mark.exists():
            write(mark, b"")
            log("the seed wants this member to leave")
            os._exit(0)


# ------------------------------------------------------------------------------------------------


def watch(config: dict[str, Any], reports: Reports) -> None:
    while config.get("check"):
        began = time.monotonic()
        detail, missing = attempt(config, config["check"], CHECK_TIMEOUT)
        state = "failed" if detail else "done"
        reports.say("check", state, time.monotonic() - began, detail, missing)
        time.sleep(jitter(config.get("check_seconds", CHECK_EVERY)))
    threading.Event().wait()  # reports may be pending


def run(config: dict[str, Any]) -> None:
    folder = Path(config.get("state", STATE))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            sys.exit(f"another member.py runs with {folder}")
        reports = Reports(config)
        reports.start()
        Orders(config, reports).start()
        steps = Steps(config, reports)
        if (folder / LEAVING).exists():
            took = sum(steps.through(step) for step in config.get("leave", []))
            reports.say("left", "done", took)
            threading.Event().wait()  # until it is switched off
        reports.say("", "done", sum(steps.through(step) for step in config["steps"]))
        watch(config, reports)


# --- values -------------------------------------------------------------------------------------
#
# Encrypt-then-MAC: AES-256-CBC by Debian's `openssl enc`, which has no authenticated cipher and is
# the only cipher a server has without a package of ours; over it HMAC-SHA-256 of the standard
# library, with the cluster's and the value's name, so that the seed, which keeps the value, can
# neither read it nor give another in its place. (It can give an older one of the same name.) Two
# keys are made of the cluster's one. The password goes by a pipe: an argv is there for all to read.


def made_of(key: bytes, purpose: bytes) -> bytes:
    return hmac.new(key, purpose, hashlib.sha256).hexdigest().encode()


def mac(key: bytes, about: str, locked: bytes) -> bytes:
    own = made_of(key, b"seed-value authenticate")
    return hmac.new(own, about.encode() + b"\0" + locked, hashlib.sha256).digest()


def openssl(way: str, key: bytes, content: bytes) -> bytes:
    read, push = os.pipe()
    os.write(push, made_of(key, b"seed-value encrypt") + b"\n")
    os.close(push)
    argv = ["openssl", "enc", way, "-aes-256-cbc", "-pbkdf2", "-iter", "10000", "-md", "sha256"]
    try:
        done = subprocess.run(
            [*argv, "-pass", f"fd:{read}"], input=content, capture_output=True, pass_fds=[read],
            timeout=OPENSSL_TIMEOUT, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        sys.exit("openssl is not there: install the package openssl")
    finally:
        os.close(read)
    if done.returncode:
        sys.exit("openssl could not do its work: try `openssl enc -ciphers`")
    return done.stdout


def sealed(content: bytes, key: bytes, about: str) -> bytes:
    locked = openssl("-e", key, content)
    return MARK + mac(key, about, locked) + locked


def opened(body: bytes, key: bytes, about: str) -> bytes:
    start, locked = body[: len(MARK) + 32], body[len(MARK) + 32 :]
    if not hmac.compare_digest(start, MARK + mac(key, about, locked)):
        sys.exit(f"the value {about} is not of this cluster's key: was it altered on its way?")
    return openssl("-d", key, locked)


def read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as problem:
        sys.exit(f"{path} cannot be read: {problem.strerror}")


def read_key(path: str) -> bytes:
    key = read(path).strip()
    if len(key) < 32:
        sys.exit(f"{path} is too short for a key: 32 bytes at least")
    return key


def fetch(gateway: Gateway, path: str, wait: bool) -> bytes | None:
    """None: there is none, and nobody waits. Who waits is ended by the step's timeout."""
    pause = 0.5
    while True:
        status, body, trouble = gateway.ask("GET", path)
        if not trouble:
            return body
        if status == 404 and not wait:
            return None
        if status in (401, 403) or not wait:
            sys.exit(trouble)
        if status != 404:
            log(trouble)
        time.sleep(jitter(pause))
        pause = min(4, 1.5 * pause)


def put(gateway: Gateway, path: str, body: bytes) -> None:
    if len(body) > LARGEST:
        sys.exit(f"it is {len(body)} bytes when it travels: at most {LARGEST}")
    _, _, trouble = gateway.ask("PUT", path, body)
    if trouble:
        sys.exit(trouble)


def value(config: dict[str, Any], verb: str, name: str, file: str, key_file: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,62}", name):
        sys.exit(f"{name!r} is no name of a value: small letters, digits, '-' and '.'")
    key, about = read_key(key_file), f"{config['cluster']}/{name}"
    gateway, path = Gateway(config), f"/v1/members/values/{name}"
    if verb == "put":
        put(gateway, path, sealed(read(file), key, about))
        return
    body = fetch(gateway, path, wait=verb == "get")
    if body is not None:
        write(Path(file), opened(body, key, about))


def main(argv: list[str]) -> None:
    try:
        config = json.loads(Path(__file__).with_name("member.json").read_text())
    except (OSError, ValueError) as problem:
        sys.exit(f"member.json is not there, or not whole: {type(problem).__name__}")
    match argv:
        case []:
            run(config)
        case [("put" | "get" | "find") as verb, name, file]:
            value(config, verb, name, file, config.get("key", KEY))
        case [("put" | "get" | "find") as verb, name, file, key_file]:
            value(config, verb, name, file, key_file)
        case _:
            sys.exit("member.py [put|get|find NAME FILE [KEY]]")


if __name__ == "__main__":
    main(sys.argv[1:])
