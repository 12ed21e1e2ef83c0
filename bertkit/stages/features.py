"""`bertkit features`: a frozen checkpoint and a file of texts -> vectors, in the order of the texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bertkit.config import RecipeParser
from bertkit.features import INPUT_FORMS, OUTPUT_FORMS, Layer, Level, Pooling, WordPooling, Words

if TYPE_CHECKING:
    from accelerate import PartialState
    from jsonargparse import Namespace

    from bertkit.features import FeatureExtractor, ShardSettings, Vectors


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
        "--output",
        type=str,
        required=True,
        help=f"File of the vectors, one of {', '.join(OUTPUT_FORMS)}; or a folder (no ending, or / at its end), for more "
        "vectors than memory holds: it gets shards that are memory-mapped on reading, and a run that was interrupted goes on "
        "behind its last shard when started again.",
    )
    parser.add_argument("--text_column", type=str, default="text", help="Column of the text, where INPUT has columns.")
    parser.add_argument(
        "--text_pair_column", type=str | None, default=None, help="Column of the second text, for vectors of pairs."
    )
    parser.add_argument(
        "--level",
        type=Level,
        default="text",
        help="What gets a vector: each text, each word, or each token ([CLS] and [SEP] included).",
    )
    parser.add_argument(
        "--pooling",
        type=Pooling,
        default="mean",
        help="How a text's token states become one vector: the first token's, the mean or the maximum over all tokens "
        "([CLS] and [SEP] included), the last token's, or the last, the maximum and the mean joined (concat).",
    )
    parser.add_argument(
        "--word_pooling", type=WordPooling, default="mean", help="How the states of a word's tokens become one vector."
    )
    parser.add_argument(
        "--words",
        type=Words,
        default="tokenizer",
        help="What a word is: what the tokenizer cuts a text into before it looks into its vocabulary, or what stands "
        "between spaces, for text that was cut into words before.",
    )
    parser.add_argument(
        "--layers",
        type=Layer | list[Layer],
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
    parser.add_argument(
        "--shard_rows",
        type=int | None,
        default=None,
        help="Vectors of a shard, where OUTPUT is a folder (of words and tokens: characters of text); by default as many as "
        "fill 32 MiB, but not over 65,536.",
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
    """Compute the vectors of the texts, each process a share of them, and write them into one file or folder.

    Args:
        options: as `build_parser` reads them.
    """
    from transformers.utils import logging

    from bertkit.features import (
        FeatureExtractor,
        FeatureSettings,
        ShardSettings,
        load_encoder,
        load_encoder_tokenizer,
        output_form,
    )
    from bertkit.hub.checkpoints import checkpoint_folder
    from bertkit.training.processes import join_processes

    # Before all work: what cannot be written, or says nothing.
    form = output_form(options.output)
    settings = FeatureSettings(
        layers=options.layers,
        level=options.level,
        pooling=options.pooling,
        word_pooling=options.word_pooling,
        words=options.words,
        max_length=options.max_length,
        batch_tokens=options.batch_tokens,
    )
    shards = ShardSettings(dtype=options.dtype, shard_rows=options.shard_rows)
    if form and options.shard_rows is not None:
        raise ValueError("--shard_rows says nothing to one file; leave it out, or give a folder as --output")
    if not form and options.input == "-":
        raise ValueError(
            "standard input cannot be read again when an interrupted run goes on; give a file, or one file as --output"
        )
    processes = join_processes()
    if options.quiet or not processes.is_main_process:
        logging.disable_progress_bar()
    with processes.main_process_first():
        folder = checkpoint_folder(options.checkpoint)
    extractor = FeatureExtractor(
        load_encoder(folder).to(processes.device),
        load_encoder_tokenizer(folder),
        settings,
        pairs=options.text_pair_column is not None,
    )
    if form:
        rows, width = _write_file(options, extractor, processes)
    else:
        rows, width = _write_folder(options, extractor, shards, folder, processes)
    if processes.is_main_process and not options.quiet:
        print(f"{rows:,} vectors of {width:,} numbers are in {options.output}")


def _write_file(options: "Namespace", extractor: "FeatureExtractor", processes: "PartialState") -> tuple[int, int]:
    """Compute all vectors in memory and write one file."""
    from bertkit.features import read_texts, save_features

    texts, pairs = read_texts(options.input, text_column=options.text_column, text_pair_column=options.text_pair_column)
    share = slice(processes.process_index, None, processes.num_processes)
    numbers = range(len(texts))[share]
    quiet = options.quiet or not processes.is_main_process
    vectors = extractor(texts[share], None if pairs is None else pairs[share], numbers=numbers, quiet=quiet)
    extractor.warn_of_losses(len(numbers))
    vectors = gather_shares(vectors, len(texts))
    if processes.is_main_process:
        save_features(
            vectors.vectors.astype(options.dtype),
            options.output,
            offsets=None if vectors.words is None else vectors.offsets,
            words=vectors.words,
        )
    return vectors.vectors.shape


def _write_folder(
    options: "Namespace",
    extractor: "FeatureExtractor",
    settings: "ShardSettings",
    checkpoint: Path,
    processes: "PartialState",
) -> tuple[int, int]:
    """Compute the vectors window by window and write a shard of each, those that are not there yet."""
    from tqdm import tqdm

    from bertkit.features import ShardWriter, checkpoint_digest, examine, stream_texts

    quiet = options.quiet or not processes.is_main_process
    columns = {"text_column": options.text_column, "text_pair_column": options.text_pair_column}
    source = examine(stream_texts(options.input, **columns))
    made_by = {
        "checkpoint": options.checkpoint,
        "checkpoint_sha256": checkpoint_digest(checkpoint),
        "input": options.input,
    }
    writer = ShardWriter(Path(options.output).expanduser(), extractor, source, made_by, settings)
    with processes.main_process_first():
        writer.begin()
        if processes.is_main_process:
            writer.clear_away()
    with tqdm(total=source.num_texts, desc="Encoding", unit=" texts", unit_scale=True, disable=quiet) as bar:
        writer.write(
            stream_texts(options.input, **columns),
            process_index=processes.process_index,
            num_processes=processes.num_processes,
            advance=bar.update,
        )
    extractor.warn_of_losses(extractor.num_texts)  # of a run that goes on, or that has others beside it, not all
    processes.wait_for_everyone()
    return writer.finish() if processes.is_main_process else (0, 0)


def gather_shares(share: "Vectors", num_texts: int) -> "Vectors":
    """Put together what the processes computed.

    Args:
        share: of this process: the vectors of every n-th text, n being the number of processes.
        num_texts: how many texts there are in all.

    Returns:
        The vectors of all texts in their order, the same in every process.
    """
    import numpy as np
    from accelerate import PartialState
    from accelerate.utils import gather_object

    from bertkit.features import Vectors

    processes = PartialState()
    if processes.num_processes == 1:
        return share
    shares: list[Vectors] = gather_object([share])
    places = [divmod(number, processes.num_processes) for number in range(num_texts)]
    vectors = [shares[of].vectors[shares[of].offsets[at] : shares[of].offsets[at + 1]] for at, of in places]
    words = None if share.words is None else [(shares[of].words or [])[at] for at, of in places]
    return Vectors(np.concatenate(vectors), np.cumsum([0, *map(len, vectors)]), words)
