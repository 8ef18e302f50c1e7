"""Add an embedding method: ``ray job submit --address ... -- python jobs/embed.py ARCHIVE STORE --method NAME``."""

import sys

from artray.cli import app

if __name__ == "__main__":
    app(["embed", *sys.argv[1:]])
