"""Generation: bertkit's GPT beside transformers' GPT-2, by the same `generate` and with the same weights.

    python benchmarks/generation.py

A batch of 8 prompts of 16 random tokens, 128 new tokens each, greedy, 4 layers of 256, vocabulary 8192 (`--size large`: 6 of
384, vocabulary 30522). bertkit's weights are
random and exported to GPT-2, so that both sides must write the same tokens; those are compared.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from pretraining import SIZES, Size
from turns import OURS, answer, compare, option_parser, report, take_turns

BATCH_SIZE, PROMPT_LENGTH, NEW_TOKENS = 8, 16, 128
PEER = "transformers' GPT-2"
GOALS = {PEER: 1.0}


def main() -> None:
    parser = option_parser(__doc__, rounds=5)
    parser.add_argument("--size", choices=SIZES, default="small", help="shape of the model")
    parser.add_argument("--repeats", type=int, default=5, help="batches of a turn")
    arguments = parser.parse_args()
    if arguments.side:
        generate_side(arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_models(folder, SIZES[arguments.size])
        turns = take_turns("generation", [PEER, OURS], rounds=arguments.rounds, folder=folder)
        same = np.array_equal(*(np.load(folder / f"{side}.npy") for side in (PEER, OURS)))
    title = f"generation, batch of {BATCH_SIZE}, {NEW_TOKENS} new tokens"
    results = {"generation": compare(title, turns, GOALS)}
    report(results, arguments, rounds=arguments.rounds)
    if not same:
        raise SystemExit("the two sides wrote different tokens")


def make_models(folder: Path, size: Size) -> None:
    """Lay the same random model into the folder, once as bertkit's and once as GPT-2."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from bertkit.hub.native.loading import load_native

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=size.vocab_size,
        n_positions=PROMPT_LENGTH + NEW_TOKENS,
        n_embd=size.hidden,
        n_layer=size.layers,
        n_head=size.heads,
        initializer_range=0.3,  # far from 0.02, where all tokens score alike and rounding would decide between them
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )
    GPT2LMHeadModel(config).save_pretrained(folder / PEER)
    load_native(folder / PEER, "AutoModelForCausalLM").save_pretrained(folder / OURS)


def generate_side(arguments: argparse.Namespace) -> None:
    import torch
    from transformers import GPT2LMHeadModel

    from bertkit.models import load_model

    source = arguments.folder / arguments.side
    is_ours = arguments.side == OURS
    model: Any = load_model(source, "AutoModelForCausalLM") if is_ours else GPT2LMHeadModel.from_pretrained(source)
    model.eval()
    largest, drawn = SIZES[arguments.size].vocab_size, torch.Generator().manual_seed(0)
    prompts = torch.randint(1, largest, (BATCH_SIZE, PROMPT_LENGTH), generator=drawn)
    settings = {"max_new_tokens": NEW_TOKENS, "do_sample": False, "pad_token_id": 0}
    written: list[torch.Tensor] = []

    def work() -> int:
        written[:] = [
            model.generate(prompts, attention_mask=torch.ones_like(prompts), **settings)
            for _ in range(arguments.repeats)
        ]
        return sum(rows[:, PROMPT_LENGTH:].numel() for rows in written)

    answer(work, rounds=arguments.rounds)
    np.save(arguments.folder / f"{arguments.side}.npy", written[-1].numpy())


if __name__ == "__main__":
    main()
