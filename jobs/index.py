"""Bring a store's vectors up to date: ``ray job submit --address ... -- python jobs/index.py STORE``."""

import sys

from artray.cli import app

if __name__ == "__main__":
    app(["index", *sys.argv[1:]])
