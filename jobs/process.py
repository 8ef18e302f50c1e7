"""The main job: ``ray job submit --address ... -- python jobs/process.py ARCHIVE STORE [options]``."""

import sys

from artray.cli import app

if __name__ == "__main__":
    app(["process", *sys.argv[1:]])
