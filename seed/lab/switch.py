"""The lab's switches: `python switch.py FRAMES.json`, in its namespace. Standard library only.

Sends each interface its LLDP frame, again and again; which belongs to which is read anew each
time. An interface that is not there is a server that is off.
"""

import json
import socket
import sys
import time
from pathlib import Path

INTERVAL = 2.0  # seconds; real switches take 30, which only makes a lab slow


def frames(path: Path) -> dict[str, bytes]:
    return {name: bytes.fromhex(text) for name, text in json.loads(path.read_text()).items()}


def send(wire: socket.socket, interface: str, frame: bytes) -> bool:
    """Whether it was sent; not if the interface is missing or down."""
    try:
        wire.sendto(frame, (interface, 0))
    except OSError:
        return False
    return True


def main(path: Path) -> None:
    """Send until killed."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        while True:
            for interface, frame in frames(path).items():
                send(wire, interface, frame)
            time.sleep(INTERVAL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
