"""The command line: `bertkit <verb>`.

Nothing heavy is imported here: the list of verbs answers at once, and a verb's help without torch.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from types import TracebackType

VERBS = {
    "quickstart": "the whole road in minutes, on Wikipedia pages that ship with gensim",
    "tokenizer": "train a WordPiece tokenizer on a corpus",
    "doctor": "examine a recipe and its data before a step is taken",
    "pretrain": "pretrain a model on a corpus",
    "finetune": "fine-tune a checkpoint on labelled text",
    "ulmfit": "train a general language model, a target language model and a classifier, one from the other",
    "average": "average the weights of a run's last checkpoints into a new one",
    "evaluate": "evaluate a checkpoint on text, labelled text, minimal pairs, translations or words",
    "compare": "compare two fine-tuned models on the same examples",
    "predict": "label, tag, answer, fill, translate or continue new text",
    "features": "turn text into vectors with a frozen checkpoint",
    "probe": "do a task with the frozen vectors of each layer of a checkpoint",
    "embed": "train a vector a word by word2vec or GloVe, whatever its context",
    "export": "write a checkpoint as another program reads it (transformers' own classes, ONNX, sentence-transformers)",
    "push": "upload a checkpoint to the Hub",
    "import": "make a checkpoint of weights that another program wrote (transformers, AllenAI's ELMo, word2vec, GloVe)",
}
"""Verb -> what it does; `bertkit/stages/<verb>.py` has a function `main` that takes the verb's arguments."""
_FILES = {"import": "import_checkpoint"}  # a module named `import` could not be imported


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb.

    Args:
        arguments: the command line without the program's name; default: this process's.

    Returns:
        The exit code: 0, 2 after an error in what was asked for, which is said in one line, or 130 if interrupted.
    """
    verb, *rest = [*(sys.argv[1:] if arguments is None else arguments), ""]
    if verb in ("", "-h", "--help"):
        print("usage: bertkit <verb> [options]; `bertkit <verb> --help` lists the verb's\n")
        print("\n".join(f"  {name:<11} {does}" for name, does in VERBS.items()))
        return 0
    if verb == "--version":
        from importlib.metadata import version

        print(f"bertkit {version('bertkit')}")
        return 0
    if not sys.stderr.isatty():  # in a log each refresh of a progress bar is a line of its own
        os.environ.setdefault("TQDM_MININTERVAL", "10")
    try:
        if verb not in VERBS:
            from bertkit.config import ConfigError, nearest

            raise ConfigError(f"unknown verb {verb!r}{nearest(verb, VERBS)}")
        importlib.import_module(f"bertkit.stages.{_FILES.get(verb, verb)}").main(rest[:-1])
    except KeyboardInterrupt:  # a training catches the signal itself and saves first
        print(f"bertkit {verb}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        message = _message(error)
        if _is_one_of_several():
            from bertkit.stages.failures import LOST, is_first_to_fail, is_loss_of_another

            if not is_first_to_fail():
                return 2
            if is_loss_of_another(error):
                message = LOST
        if message is None:
            raise
        print(f"bertkit {verb}: {message}", file=sys.stderr, flush=True)
        return 2
    return 0


def _is_one_of_several() -> bool:
    return int(os.environ.get("WORLD_SIZE") or 1) > 1


def _message(error: Exception) -> str | None:
    """Return what an error says to the user; None for that of a bug, which is for us."""
    if isinstance(error, OSError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    if isinstance(error, ValueError | FloatingPointError) and _raised_by_bertkit(error.__traceback__):
        return str(error)
    return None


def _raised_by_bertkit(traceback: TracebackType | None) -> bool:
    """Return whether the innermost frame is bertkit's: then the message is meant for the user, else it is a bug's."""
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and traceback.tb_frame.f_globals.get("__name__", "").startswith("bertkit")


if __name__ == "__main__":
    sys.exit(main())
