"""Evaluate on one or many processes: `accelerate launch --config_file accelerate_config.yaml recipes/evaluate.py …`."""

import sys

from bertkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
