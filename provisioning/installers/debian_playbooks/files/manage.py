"""Runs a project's management commands, each as its user in a child of one warm process.

argv: USER MODULE:FUNCTION PROGRAM. stdin: JSON list of groups; the commands of a group run at once,
the groups one after the other; a command is a list of arguments. What takes long under emulation is
the import, and it is paid once. Arguments are never those of a process: they may have secrets.
"""

import importlib
import json
import os
import pwd
import sys
import traceback
from collections.abc import Callable


def main() -> int:
    user, target, name = sys.argv[1:]
    groups = json.load(sys.stdin)
    become(user)
    module, _, function = target.partition(":")
    called = getattr(importlib.import_module(module), function)
    for group in groups:
        children = {start(called, [name, *argv]): argv for argv in group}
        failed = [argv for pid, argv in children.items() if os.waitpid(pid, 0)[1] != 0]
        if failed:
            # Not the arguments: only what they begin with is sure to have no secret.
            sys.stderr.write(f"{name} failed: {[' '.join(argv[:2]) for argv in failed]}\n")
            return 1
    return 0


def become(user: str) -> None:
    entry = pwd.getpwnam(user)
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.umask(0o027)
    os.environ.update(HOME=entry.pw_dir, USER=user, LOGNAME=user)
    os.chdir("/")


def start(called: Callable[[], int | None], argv: list[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        sys.argv = argv
        code = int(called() or 0)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
