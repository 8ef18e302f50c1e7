"""A training: ``ray job submit --address ... -- python jobs/train.py PROFILE --out FOLDER [options]``."""

import sys

from artray.cli import app

if __name__ == "__main__":
    app(["train", *sys.argv[1:]])
