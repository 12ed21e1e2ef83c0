"""Evaluate on one or many processes: `accelerate launch --config_file accelerate_config.yaml recipes/evaluate_checkpoint.py`.

Not named evaluate.py: it would stand in front of the library `evaluate` for every script of this folder.
"""

import sys

from bertkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
