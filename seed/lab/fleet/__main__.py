"""python -m seed.lab.fleet [CONTROL SOCKET] < SPEC.json"""

import sys
from pathlib import Path

from seed.lab.fleet.fleet import main

main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
