"""Kill what a dead service left behind; started by supervisord as its event listener.

nginx's workers outlive a master that was killed and keep its ports, so the new master could not
start. systemd ends the whole control group in that case; this is the same for supervisor, which
starts each service in a process group of its own. Imports nothing of ours.
"""

import os
import signal
import sys

from supervisor import childutils  # type: ignore[import-untyped]


def reap(group: int) -> bool:
    """Kill the process group `group`. False if nobody is left in it."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def main() -> None:
    """Answer supervisord's events for ever (http://supervisord.org/events.html)."""
    while True:
        _headers, payload = childutils.listener.wait()
        event = childutils.get_headers(payload)
        if int(event["pid"]) > 1 and reap(int(event["pid"])):
            print(
                f"{event['processname']}: killed what was left of {event['pid']}", file=sys.stderr
            )
        childutils.listener.ok()


if __name__ == "__main__":
    main()
