"""LSTM language models: bertkit's Trainer beside a plain loop on torch.nn.LSTM of equal size.

    python benchmarks/lstm.py --rounds 3 --steps 3

Two layers of 256 and a vocabulary of 8192 (`--size large`: of 384 and 30522), output layer tied, dropout 0.1, float32, AdamW,
32 rows of 128 tokens on both sides. The loop is that of torch's word language model example: the text in 32 long rows, the
state carried from step to step. bertkit trains once the same way (`carry_state`), and once on packed texts, each from an
empty state.
"""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from causal import one_row
from corpus import prepare
from pretraining import SIZES, Size
from trainers import BATCH_SIZE, BLOCK_SIZE, LEARNING_RATE, WEIGHT_DECAY, train_bertkit
from turns import OURS, Meter, compare, option_parser, private_stdout, report, take_turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LAYERS, DROPOUT = 2, 0.1
WORK = {"carried": "LSTM LM, the state carried on", "packed": "LSTM LM, packed texts"}
PEER = "nn.LSTM in a plain loop"
GOALS = {PEER: 1.0}


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--corpus", type=Path, help="UTF-8 text, documents parted by blank lines")
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--size", choices=SIZES, default="small", help="width and vocabulary")
    parser.add_argument("--steps", type=int, default=3, help="optimizer steps of a turn")
    arguments = parser.parse_args()
    if arguments.side:
        train_side(arguments)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = prepare(arguments.corpus, folder, SIZES[arguments.size].vocab_size)
        results = {}
        for work in arguments.work:
            sides = [PEER, OURS]
            turns = take_turns(work, sides, rounds=arguments.rounds, folder=folder, options=["--work", work])
            results[work] = compare(WORK[work], turns, GOALS)
    report(results, arguments, corpus=corpus, steps=arguments.steps, rounds=arguments.rounds)


def train_side(arguments: argparse.Namespace) -> None:
    from bertkit.models import build_config, build_model
    from bertkit.objectives.causal import CausalArguments, CausalObjective
    from bertkit.tokenization import load_tokenizer

    meter = Meter(warmup_steps=2, steps=arguments.steps, rounds=arguments.rounds)
    tokenizer = load_tokenizer(arguments.folder / "tokenizer")
    text, size = arguments.folder / "paragraphs.txt", SIZES[arguments.size]
    if arguments.side == PEER:
        with private_stdout():
            train_plainly(text, tokenizer, meter, size)
        return
    is_carried = arguments.work[0] == "carried"
    objective = CausalObjective(CausalArguments(block_size=BLOCK_SIZE, carry_state=is_carried), tokenizer)
    width = {"hidden_size": size.hidden, "embedding_size": size.hidden, "vocab_size": size.vocab_size}
    shape = build_config("rnn", "mini", **width, pad_token_id=tokenizer.pad_token_id, **objective.config_settings)
    assert (shape.num_hidden_layers, shape.hidden_dropout_prob, shape.tie_word_embeddings) == (LAYERS, DROPOUT, True)
    train_bertkit(build_model(shape, objective.auto_class), objective, text, tokenizer, meter)


def train_plainly(text: Path, tokenizer: "PreTrainedTokenizerBase", meter: Meter, size: Size) -> None:
    """Train in a loop of a few lines."""
    import torch
    from torch import Tensor, nn

    tokens = one_row(text, tokenizer)
    rows = tokens[: len(tokens) - len(tokens) % BATCH_SIZE].view(BATCH_SIZE, -1)
    embeddings = nn.Embedding(size.vocab_size, size.hidden)
    nn.init.normal_(embeddings.weight, std=0.1)
    lstm = nn.LSTM(size.hidden, size.hidden, LAYERS, batch_first=True, dropout=DROPOUT)
    head = nn.Linear(size.hidden, size.vocab_size)
    head.weight = embeddings.weight
    dropout = nn.Dropout(DROPOUT)
    parameters = list(nn.ModuleList([embeddings, lstm, head]).parameters())
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)

    def batch_at(step: int) -> dict[str, Tensor]:
        start = step * BLOCK_SIZE
        inputs = rows[:, start : start + BLOCK_SIZE]
        labels = rows[:, start + 1 : start + BLOCK_SIZE + 1]
        return {"input_ids": inputs, "labels": labels, "attention_mask": torch.ones_like(inputs)}

    state: tuple[Tensor, Tensor] | None = None
    for step in range(meter.max_steps):
        batch = meter.batch(lambda step=step: batch_at(step))
        states, state = lstm(dropout(embeddings(batch["input_ids"])), state)
        state = (state[0].detach(), state[1].detach())
        logits = head(dropout(states))
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


if __name__ == "__main__":
    main()
