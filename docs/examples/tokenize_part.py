"""Tokenize one part of a corpus into a token store of its own, or merge the stores of all parts.

    python docs/examples/tokenize_part.py build runs/tokenizer stores/00 part-00.jsonl.gz part-01.jsonl.gz
    python docs/examples/tokenize_part.py merge stores/all stores/00 stores/01 ...
    bertkit pretrain --config bert-mini --data.train store:stores/all --data.eval held_out.txt --tokenizer runs/tokenizer ...

Each `build` is a job of its own, on any machine; each uses all cores. The merged store is to the byte the one that a single job
would have made of the parts one after the other.
"""

import argparse
import shutil
from pathlib import Path

from bertkit.data.arguments import DataArguments
from bertkit.data.documents import load_documents
from bertkit.data.merging import merge_stores
from bertkit.data.token_store import TokenStore
from bertkit.tokenization import load_tokenizer


def build(tokenizer: str, folder: Path, sources: list[str], language: str) -> None:
    """Build the store of some sources in a folder."""
    arguments = DataArguments(
        train=sources, language=language, cache_dir=str(folder.with_name(f".{folder.name}.cache"))
    )
    store = TokenStore.build(load_documents(sources, arguments), load_tokenizer(tokenizer), arguments)
    store.path.rename(folder)
    shutil.rmtree(str(arguments.cache_dir))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    building = verbs.add_parser("build", help="tokenize one part")
    building.add_argument("tokenizer")
    building.add_argument("folder", type=Path)
    building.add_argument("sources", nargs="+")
    building.add_argument("--language", default="en")
    merging = verbs.add_parser("merge", help="join the stores of all parts")
    merging.add_argument("folder", type=Path)
    merging.add_argument("stores", nargs="+", type=Path)
    given = parser.parse_args()
    if given.verb == "build":
        build(given.tokenizer, given.folder, given.sources, given.language)
    else:
        print(merge_stores(given.stores, given.folder))
