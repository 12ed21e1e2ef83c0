"""Pretrain, on one or many processes: `accelerate launch --config_file accelerate_config.yaml recipes/pretrain.py …`."""

import sys

from bertkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["pretrain", *sys.argv[1:]]))
