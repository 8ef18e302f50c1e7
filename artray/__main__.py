"""``python -m artray``: the command line."""

from artray.cli import main

main()
