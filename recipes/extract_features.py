"""Extract features on one or many processes: `accelerate launch recipes/extract_features.py CHECKPOINT INPUT --output …`."""

import sys

from bertkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["features", *sys.argv[1:]]))
