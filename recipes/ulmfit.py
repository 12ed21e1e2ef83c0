"""Walk ULMFiT on one or many processes: `accelerate launch --config_file accelerate_config.yaml recipes/ulmfit.py …`."""

import sys

from bertkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["ulmfit", *sys.argv[1:]]))
