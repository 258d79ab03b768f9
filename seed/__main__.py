"""python -m seed."""

from seed.cli import main

main()
