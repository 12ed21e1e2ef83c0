"""Causal language models: bertkit's GPT beside transformers' Trainer with GPT-2, and beside a plain loop.

    python benchmarks/causal.py --rounds 3 --steps 3

The same size (4 layers of 256, 4 heads, vocabulary 8192, or `--size large`: 6 of 384, vocabulary 30522; output layer tied,
float32), text, tokenizer and batch (32 rows of 128 tokens) on all sides. The plain loop is what nanoGPT
(https://github.com/karpathy/nanoGPT) does on a CPU: a small model of torch's modules, fused attention,
fused AdamW, random places of one long row of tokens, no padding, clipped gradients.
"""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corpus import prepare
from peer_examples import grouped
from pretraining import SIZES, Size, shape_of
from trainers import BATCH_SIZE, BLOCK_SIZE, LEARNING_RATE, WEIGHT_DECAY, train_bertkit, train_transformers
from turns import OURS, Meter, compare, option_parser, private_stdout, report, take_turns

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

WORK = {"dropout": ("causal LM, dropout 0.1", 0.1), "no_dropout": ("causal LM, no dropout", 0.0)}
GOALS = {"transformers' Trainer": 1.3, "plain loop": 1.0}


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--corpus", type=Path, help="UTF-8 text, documents parted by blank lines")
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK))
    parser.add_argument("--size", choices=SIZES, default="small", help="shape of the model")
    parser.add_argument("--steps", type=int, default=3, help="optimizer steps of a turn")
    arguments = parser.parse_args()
    if arguments.side:
        meter = Meter(warmup_steps=2, steps=arguments.steps, rounds=arguments.rounds)
        train_side(arguments.side, WORK[arguments.work[0]][1], SIZES[arguments.size], arguments.folder, meter)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = prepare(arguments.corpus, folder, SIZES[arguments.size].vocab_size)
        results = {}
        for work in arguments.work:
            sides = [*GOALS, OURS]
            turns = take_turns(work, sides, rounds=arguments.rounds, folder=folder, options=["--work", work])
            results[work] = compare(WORK[work][0], turns, GOALS)
    report(results, arguments, corpus=corpus, steps=arguments.steps, rounds=arguments.rounds)


def train_side(
    side: str, dropout: float, size: Size, folder: Path, meter: Meter, *, micro_batch_size: int | None = None
) -> None:
    from transformers import DataCollatorForLanguageModeling, GPT2Config, GPT2LMHeadModel

    from bertkit.models import build_config, build_model
    from bertkit.objectives.causal import CausalArguments, CausalObjective
    from bertkit.tokenization import load_tokenizer

    tokenizer = load_tokenizer(folder / "tokenizer")
    text = folder / "paragraphs.txt"
    if side == "plain loop":
        with private_stdout():
            train_plainly(text, tokenizer, meter, dropout, size)
    elif side == OURS:
        objective = CausalObjective(CausalArguments(block_size=BLOCK_SIZE), tokenizer)
        shape = build_config(
            "gpt",
            "mini",
            **shape_of(size),
            max_position_embeddings=BLOCK_SIZE,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            pad_token_id=tokenizer.pad_token_id,
            **objective.config_settings,
        )
        model = build_model(shape, objective.auto_class)
        train_bertkit(model, objective, text, tokenizer, meter, micro_batch_size=micro_batch_size)
    else:
        config = GPT2Config(
            vocab_size=size.vocab_size,
            n_positions=BLOCK_SIZE,
            n_embd=size.hidden,
            n_layer=size.layers,
            n_head=size.heads,
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
        )
        examples = grouped(text, tokenizer, BLOCK_SIZE)
        collate = DataCollatorForLanguageModeling(tokenizer, mlm=False)
        train_transformers(GPT2LMHeadModel(config), examples, collate, meter)


def train_plainly(text: Path, tokenizer: "PreTrainedTokenizerBase", meter: Meter, dropout: float, size: Size) -> None:
    """Train in a loop of a few lines."""
    import torch

    tokens = one_row(text, tokenizer)
    model = plain_gpt(size, dropout)
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": WEIGHT_DECAY},
        {"params": vectors, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, fused=True)

    def draw() -> dict[str, torch.Tensor]:
        starts = torch.randint(len(tokens) - BLOCK_SIZE - 1, (BATCH_SIZE,)).tolist()
        rows = torch.stack([tokens[start : start + BLOCK_SIZE + 1] for start in starts])
        inputs = rows[:, :-1]
        return {"input_ids": inputs, "labels": rows[:, 1:], "attention_mask": torch.ones_like(inputs)}

    for _ in range(meter.max_steps):
        batch = meter.batch(draw)
        logits = model(batch["input_ids"])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch["labels"].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def one_row(text: Path, tokenizer: "PreTrainedTokenizerBase") -> "torch.Tensor":
    """Return all tokens of a text, one behind the other: (tokens,)."""
    import torch

    return torch.tensor(grouped(text, tokenizer, BLOCK_SIZE)["input_ids"]).flatten()


def plain_gpt(size: Size, dropout: float, *, context: int = BLOCK_SIZE) -> "torch.nn.Module":
    """Return GPT-2 of torch's modules."""
    import torch.nn.functional as F
    from torch import Tensor, arange, nn

    layers, hidden, heads, vocab_size = size

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention_norm, self.feed_forward_norm = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
            self.qkv, self.output = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
            self.feed_forward = nn.Sequential(
                nn.Linear(hidden, 4 * hidden), nn.GELU(), nn.Linear(4 * hidden, hidden), nn.Dropout(dropout)
            )
            self.dropout = nn.Dropout(dropout)

        def forward(self, states: Tensor) -> Tensor:
            batch, seq, _ = states.shape
            qkv = self.qkv(self.attention_norm(states)).view(batch, seq, 3, heads, hidden // heads)
            query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind()  # (batch, heads, seq, head_dim)
            dropped = dropout if self.training else 0.0
            context = F.scaled_dot_product_attention(query, key, value, dropout_p=dropped, is_causal=True)
            states = states + self.dropout(self.output(context.transpose(1, 2).reshape(batch, seq, hidden)))
            return states + self.feed_forward(self.feed_forward_norm(states))

    class Gpt(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens, self.positions = nn.Embedding(vocab_size, hidden), nn.Embedding(context, hidden)
            self.layers = nn.Sequential(nn.Dropout(dropout), *(Block() for _ in range(layers)), nn.LayerNorm(hidden))
            self.head = nn.Linear(hidden, vocab_size, bias=False)
            for module in self.modules():  # as in GPT-2
                if isinstance(module, nn.Linear | nn.Embedding):
                    nn.init.normal_(module.weight, std=0.02)
                if isinstance(module, nn.Linear) and module.bias is not None:
                    nn.init.zeros_(module.bias)
            self.head.weight = self.tokens.weight

        def forward(self, input_ids: Tensor) -> Tensor:
            return self.head(self.layers(self.tokens(input_ids) + self.positions(arange(input_ids.shape[1]))))

    return Gpt()


if __name__ == "__main__":
    main()
