"""`python -m mull`."""

from mull.cli.main import main

main()
