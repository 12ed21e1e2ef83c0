"""Fine-tune on one or many processes: `accelerate launch --config_file accelerate_config.yaml recipes/finetune.py …`."""

import sys

from bertkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
