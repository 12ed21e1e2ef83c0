"""`bertkit features`: a frozen checkpoint and a file of texts -> a file of vectors, in the order of the texts."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from bertkit.config import RecipeParser
from bertkit.features import INPUT_FORMS, OUTPUT_FORMS, Pooling

if TYPE_CHECKING:
    import numpy as np
    from jsonargparse import Namespace


def build_parser() -> RecipeParser:
    """Build the parser of the verb's options."""
    parser = RecipeParser("features", description="Turn text into vectors with a frozen checkpoint.")
    parser.add_argument("checkpoint", type=str, help="Folder or Hub name of a bertkit checkpoint, or of a BERT.")
    parser.add_argument(
        "input",
        type=str,
        help=f"File of texts ({', '.join(INPUT_FORMS)}; each also .gz), or - for standard input. A .txt file has a text a "
        "line; an empty line is an empty text, so that vectors and lines stay aligned.",
    )
    parser.add_argument(
        "--output", type=str, required=True, help=f"File of the vectors, one of {', '.join(OUTPUT_FORMS)}."
    )
    parser.add_argument("--text_column", type=str, default="text", help="Column of the text, where INPUT has columns.")
    parser.add_argument(
        "--text_pair_column", type=str | None, default=None, help="Column of the second text, for vectors of pairs."
    )
    parser.add_argument(
        "--pooling",
        type=Pooling,
        default="mean",
        help="How a text's token states become one vector: the first token's, the mean or the maximum over all tokens "
        "([CLS] and [SEP] included), or the last token's.",
    )
    parser.add_argument(
        "--layers",
        type=int | list[int] | Literal["mix"],
        default=-1,
        help="Layer to take, or several to join, as [-4,-3,-2,-1]: 0 is the embeddings, -1 the last layer. mix: the scalar mix "
        "of all, as a task has learned it if the checkpoint is a fine-tuned ELMo, else their mean.",
    )
    parser.add_argument(
        "--max_length",
        type=int | None,
        default=None,
        help="Longest text (or pair) in tokens; longer ones are cut. By default what the model takes.",
    )
    parser.add_argument(
        "--batch_tokens", type=int, default=4096, help="Tokens computed at a time; changes memory and speed only."
    )
    parser.add_argument(
        "--dtype", type=Literal["float32", "float16"], default="float32", help="Precision of the numbers saved."
    )
    parser.add_argument("--quiet", type=bool, default=False, help="No progress bar, no lines but warnings and errors.")
    return parser


def main(arguments: Sequence[str]) -> None:
    """Extract features as the command line says.

    Raises:
        ValueError: whatever is wrong with the options, the checkpoint or the texts, as one line.
    """
    options, _ = build_parser().read(arguments)
    write_features(options)


def write_features(options: "Namespace") -> None:
    """Read the texts, compute their vectors, each process a share of them, and write one file.

    Args:
        options: as `build_parser` reads them.
    """
    from transformers.utils import logging

    from bertkit.features import extract_features, load_encoder, output_form, read_texts, save_features
    from bertkit.hub.checkpoints import checkpoint_folder
    from bertkit.tokenization import load_tokenizer
    from bertkit.training.processes import join_processes

    output_form(options.output)  # before all work: an ending that cannot be written
    processes = join_processes()
    quiet = options.quiet or not processes.is_main_process
    if quiet:
        logging.disable_progress_bar()
    texts, pairs = read_texts(options.input, text_column=options.text_column, text_pair_column=options.text_pair_column)
    with processes.main_process_first():
        folder = checkpoint_folder(options.checkpoint)
    share = slice(processes.process_index, None, processes.num_processes)
    features = extract_features(
        load_encoder(folder).to(processes.device),
        load_tokenizer(folder),
        texts[share],
        text_pairs=None if pairs is None else pairs[share],
        pooling=options.pooling,
        layers=options.layers,
        max_length=options.max_length,
        batch_tokens=options.batch_tokens,
        quiet=quiet,
    )
    features = gather_shares(features, len(texts)).astype(options.dtype)
    if processes.is_main_process:
        save_features(features, options.output)
    if not quiet:
        print(f"{len(features):,} vectors of {features.shape[1]:,} numbers are in {options.output}")


def gather_shares(features: "np.ndarray", num_texts: int) -> "np.ndarray":
    """Put together what the processes computed.

    Args:
        features: (texts, features) of this process's share: every n-th text of all, n being the number of processes.
        num_texts: how many texts there are in all.

    Returns:
        (num_texts, features) in the order of the texts, the same in every process.
    """
    import numpy as np
    import torch
    from accelerate import PartialState
    from accelerate.utils import gather

    processes = PartialState()
    if processes.num_processes == 1:
        return features
    per_process = -(-num_texts // processes.num_processes)
    padded = np.zeros((per_process, features.shape[1]), dtype=features.dtype)
    padded[: len(features)] = features
    gathered = gather(torch.from_numpy(padded).to(processes.device)).cpu().numpy()  # shares one after the other
    by_place = gathered.reshape(processes.num_processes, per_process, -1).swapaxes(0, 1)
    return by_place.reshape(-1, features.shape[1])[:num_texts]
