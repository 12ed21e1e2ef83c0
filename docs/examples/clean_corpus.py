"""Deduplicate and filter a corpus by datatrove, for bertkit to train on what is left.

    pip install "datatrove[io,processing]" spacy
    python docs/examples/clean_corpus.py corpus.jsonl.gz cleaned/ --tasks 8 --workers 8
    bertkit pretrain --config bert-mini --data.train cleaned/documents ...

The input is jsonl with a column `text` (one file or a folder of shards). Near duplicates are found by MinHash (14 buckets of 8
hashes over 5-grams of words: 92 % of the pairs with a similarity of 0.8), copies to the letter among them. On a cluster take
SlurmPipelineExecutor or RayPipelineExecutor instead of the local one; the steps stay as they are.
"""

import argparse
from pathlib import Path

from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.filters import LambdaFilter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.typeshelper import Languages


def worth_reading(document: Document) -> bool:
    """Keep documents of at least 20 words that are mostly letters; put your own rules here, or datatrove's (Gopher, C4)."""
    text = document.text
    return len(text.split()) >= 20 and sum(map(str.isalpha, text)) > 0.6 * sum(not c.isspace() for c in text)


def main() -> None:
    """Run the four stages of MinHash deduplication, the last of which also filters and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("input", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--tasks", type=int, default=4, help="parts the files are shared out in")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time")
    parser.add_argument("--language", default=Languages.english, help="decides how words are cut, as eng or kor")
    arguments = parser.parse_args()
    folder, pattern = (
        (arguments.input, None) if arguments.input.is_dir() else (arguments.input.parent, arguments.input.name)
    )
    work, config = arguments.output / "work", MinhashConfig()

    def reader() -> JsonlReader:
        return JsonlReader(str(folder), glob_pattern=pattern)

    def stage(name: str, pipeline: list, tasks: int, depends: LocalPipelineExecutor | None) -> LocalPipelineExecutor:
        logs = str(work / "logs" / name)
        return LocalPipelineExecutor(
            pipeline, tasks=tasks, workers=arguments.workers, logging_dir=logs, depends=depends
        )

    signatures, buckets, remove = (str(work / name) for name in ("signatures", "buckets", "remove"))
    sign = MinhashDedupSignature(output_folder=signatures, config=config, language=arguments.language)
    match = MinhashDedupBuckets(input_folder=signatures, output_folder=buckets, config=config)
    cluster = MinhashDedupCluster(input_folder=buckets, output_folder=remove, config=config)
    write = JsonlWriter(str(arguments.output / "documents"))
    first = stage("sign", [reader(), sign], arguments.tasks, None)
    second = stage("match", [match], config.num_buckets, first)
    third = stage("cluster", [cluster], 1, second)
    last = [reader(), MinhashDedupFilter(input_folder=remove), LambdaFilter(worth_reading), write]
    stage("write", last, arguments.tasks, third).run()


if __name__ == "__main__":
    main()
