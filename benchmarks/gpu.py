"""Pretraining on one GPU: bertkit's Trainer beside transformers', in real (unpadded) tokens per second.

    python benchmarks/gpu.py --preset base --block_size 512 --batch_size 32

The same size, text, tokenizer, optimizer and batch on both sides, in bfloat16 by autocast over float32 weights: a masked
language model beside transformers' BERT (run_mlm's full rows), and a causal one beside GPT-2. Each side is a process of its
own; they take turns of some steps, and the GPU is waited for where a turn begins and ends. Collating counts, preparing the
data does not. Memory is the most that torch's tensors had on the GPU. Utilisation counts the multiplications that the loss
depends on (`scaling_arithmetic.py`), the same number for both sides, against the GPU's peak. A side that stands still keeps
its memory, so both sides' peaks have to fit the GPU together.

`--device cpu` walks the same road without a GPU, to try the benchmark itself.
"""

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from corpus import prepare
from peer_examples import grouped
from scaling_arithmetic import flops_per_token, table
from trainers import train_bertkit, train_transformers
from turns import OURS, Figures, Meter, option_parser, take_turns

PEER = "transformers"
WORK = {"masked": "MLM, all text in full rows", "causal": "causal LM"}
# Dense bfloat16, from NVIDIA's data sheets; of a name that begins another, the longer comes first.
PEAK_TFLOPS = {"A100": 312, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "L40S": 362, "L4": 121}
NO_GPU = (
    "benchmarks/gpu.py needs a GPU, and torch finds none; --device cpu walks the same road, slowly, to try the script"
)


def main() -> None:
    import torch

    from bertkit.models.modeling_bert import BERT_PRESETS

    parser = option_parser(__doc__)
    parser.add_argument("--corpus", type=Path, help="UTF-8 text, documents parted by blank lines")
    parser.add_argument("--work", nargs="+", choices=WORK, default=list(WORK), help="kinds of pretraining to compare")
    presets = [name for name, preset in BERT_PRESETS.items() if not preset.get("norm_first")]  # as the peer's
    parser.add_argument("--preset", choices=presets, default="base", help="size of the models, by BERT's names")
    parser.add_argument("--vocab_size", type=int, default=30522, help="of the models; the tokenizer may have fewer")
    parser.add_argument("--block_size", type=int, default=512, help="tokens of a row")
    parser.add_argument("--batch_size", type=int, default=32, help="rows of a step")
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps of a turn")
    parser.add_argument("--warmup_steps", type=int, default=5, help="steps before the first turn")
    parser.add_argument("--precision", choices=("bf16", "no"), default="bf16", help="bf16, or no for float32")
    parser.add_argument(
        "--attn_implementation",
        choices=("sdpa", "flash_attention_2"),
        default="sdpa",
        help="of both sides; flash_attention_2 wants the package flash-attn or kernels",
    )
    parser.add_argument("--peak_tflops", type=float, help="of the GPU; default: what is known of its name")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu: to try the benchmark itself")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print(NO_GPU, file=sys.stderr)
        raise SystemExit(2)
    if arguments.attn_implementation != "sdpa" and (arguments.precision == "no" or arguments.device == "cpu"):
        parser.error(f"--attn_implementation {arguments.attn_implementation} needs a GPU and --precision bf16")
    if arguments.side:
        train_side(arguments)
        return
    on_cpu = arguments.device == "cpu"
    # transformers' Trainer would take all GPUs that it sees, by DataParallel.
    os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0]
    turns = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = prepare(arguments.corpus, folder)
        for work in arguments.work:
            options = ["--work", work]
            turns[work] = take_turns(
                work, (PEER, OURS), rounds=arguments.rounds, folder=folder, options=options, on_cpu=on_cpu
            )
    device = "CPU" if on_cpu else torch.cuda.get_device_name()
    peak = arguments.peak_tflops or known_peak(device, arguments.precision)
    results = {work: compare(work, rounds, arguments, peak) for work, rounds in turns.items()}
    print(format_table(results))
    said = f"peak {peak:g} TFLOP/s" if peak else "peak unknown: give --peak_tflops for the utilisation"
    print(f"{device}, {said}; {arguments.attn_implementation}; torch {torch.__version__}")
    if arguments.output:
        names = (
            "preset",
            "vocab_size",
            "block_size",
            "batch_size",
            "steps",
            "rounds",
            "precision",
            "attn_implementation",
        )
        settings = {name: getattr(arguments, name) for name in names}
        made_on = {"device": device, "peak_tflops": peak, "torch": torch.__version__, "corpus": corpus}
        arguments.output.write_text(json.dumps({**made_on, **settings, "work": results}, indent=2) + "\n")
        print(f"written: {arguments.output}")


def known_peak(device: str, precision: str) -> float | None:
    """Return the TFLOP/s that a GPU can do by its data sheet, where its name is known and the precision is bfloat16.

    >>> known_peak("NVIDIA H100 PCIe", "bf16"), known_peak("NVIDIA RTX A1000", "bf16"), known_peak("NVIDIA L4", "no")
    (756, None, None)
    """
    if precision != "bf16":
        return None
    return next((tflops for name, tflops in PEAK_TFLOPS.items() if re.search(rf"\b{name}\b", device)), None)


def compare(
    work: str, rounds: list[dict[str, Figures]], arguments: argparse.Namespace, peak_tflops: float | None
) -> dict[str, Any]:
    """Return the results of a kind of work as they are written down."""
    ratios = [figures[OURS].speed_by_clock / figures[PEER].speed_by_clock for figures in rounds]
    results: dict[str, Any] = {"title": WORK[work], "ratio": statistics.median(ratios), "ratios": ratios}
    ours = [figures[OURS] for figures in rounds]
    labelled = sum(turn.labels for turn in ours) / sum(turn.tokens for turn in ours)
    config = shape("bert" if work == "masked" else "gpt", arguments)
    flops = flops_per_token(config, arguments.block_size, labelled=labelled, trims=work == "masked").total
    for side in (PEER, OURS):
        turns = [figures[side] for figures in rounds]
        speed = statistics.median(turn.speed_by_clock for turn in turns)
        results[side] = {
            "tokens_per_second": speed,
            "peak_bytes": max(turn.peak_bytes for turn in turns),
            "utilisation": None if peak_tflops is None else speed * flops / (peak_tflops * 1e12),
            "rounds": [asdict(turn) for turn in turns],
        }
    return results


def format_table(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Lay the results out as a Markdown table."""
    rows = []
    for result in results.values():
        sides = [result[PEER], result[OURS]]
        rows.append(
            [
                result["title"],
                *(f"{side['tokens_per_second']:,.0f}" for side in sides),
                f"**{result['ratio']:.2f} ×** ({min(result['ratios']):.2f} to {max(result['ratios']):.2f})",
                *(f"{side['peak_bytes'] / 1e9:.2f}" if side["peak_bytes"] else "-" for side in sides),
                *(f"{100 * side['utilisation']:.0f} %" if side["utilisation"] else "-" for side in sides),
            ]
        )
    head = ["work", "transformers, tokens a second", "bertkit", "ratio (lowest to highest round)", "GB, transformers"]
    return table([*head, "GB, bertkit", "utilisation, transformers", "utilisation, bertkit"], rows)


class GpuMeter(Meter):
    """A meter whose turns begin and end where the GPU has nothing left to do."""

    def settle(self) -> None:
        import torch

        torch.cuda.synchronize()
        if self.turn is not None:
            self.turn.peak_bytes = torch.cuda.max_memory_allocated()


def shape(family: str, arguments: argparse.Namespace, **settings: Any) -> Any:
    """Return bertkit's configuration of a family in the size asked for."""
    from bertkit.models import build_config
    from bertkit.models.modeling_bert import BERT_PRESETS

    sizes = BERT_PRESETS[arguments.preset] | {"vocab_size": arguments.vocab_size}
    return build_config(family, **sizes, max_position_embeddings=max(512, arguments.block_size), **settings)


def peer_model(work: str, arguments: argparse.Namespace, tokenizer: Any) -> Any:
    """Return transformers' model of the same size."""
    from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

    ours = shape("bert", arguments)
    if work == "masked":
        sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        fields = {name: getattr(ours, name) for name in (*sizes, "vocab_size", "max_position_embeddings")}
        return BertForMaskedLM(BertConfig(**fields, pad_token_id=tokenizer.pad_token_id))
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=ours.vocab_size,
            n_positions=ours.max_position_embeddings,
            n_embd=ours.hidden_size,
            n_layer=ours.num_hidden_layers,
            n_head=ours.num_attention_heads,
            n_inner=ours.intermediate_size,
            bos_token_id=tokenizer.cls_token_id,
            eos_token_id=tokenizer.sep_token_id,
        )
    )


def train_side(arguments: argparse.Namespace) -> None:
    from transformers import DataCollatorForLanguageModeling

    from bertkit.models import build_model
    from bertkit.objectives.causal import CausalArguments, CausalObjective
    from bertkit.objectives.masked import MaskedArguments, MaskedObjective
    from bertkit.tokenization import load_tokenizer

    [work], on_cpu = arguments.work, arguments.device == "cpu"
    meter = (Meter if on_cpu else GpuMeter)(
        warmup_steps=arguments.warmup_steps, steps=arguments.steps, rounds=arguments.rounds
    )
    tokenizer = load_tokenizer(arguments.folder / "tokenizer")
    if len(tokenizer) > arguments.vocab_size:
        raise SystemExit(
            f"--vocab_size {arguments.vocab_size} is less than the {len(tokenizer)} tokens of the tokenizer"
        )
    text, bf16 = arguments.folder / "paragraphs.txt", arguments.precision == "bf16"
    if arguments.side == PEER:
        examples = grouped(text, tokenizer, arguments.block_size)
        collate = DataCollatorForLanguageModeling(tokenizer, mlm=work == "masked")
        model = peer_model(work, arguments, tokenizer)
        model.set_attn_implementation(arguments.attn_implementation)
        train_transformers(model, examples, collate, meter, batch_size=arguments.batch_size, on_cpu=on_cpu, bf16=bf16)
        return
    objective: Any
    if work == "masked":
        objective = MaskedObjective(MaskedArguments(block_size=arguments.block_size, next_sentence=False), tokenizer)
    else:
        objective = CausalObjective(CausalArguments(block_size=arguments.block_size), tokenizer)
    settings = {"pad_token_id": tokenizer.pad_token_id, **objective.config_settings}
    config = shape("bert" if work == "masked" else "gpt", arguments, **settings)
    model = build_model(config, objective.auto_class)
    train_bertkit(
        model,
        objective,
        text,
        tokenizer,
        meter,
        batch_size=arguments.batch_size,
        bf16=bf16,
        attn_implementation=arguments.attn_implementation,
    )


if __name__ == "__main__":
    main()
