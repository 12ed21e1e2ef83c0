"""`python tokenizer/train_tokenizer.py --config FILE --data.train TEXT` trains a tokenizer, as `bertkit tokenizer` does."""

import sys

from bertkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["tokenizer", *sys.argv[1:]]))
