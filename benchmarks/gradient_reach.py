"""How far back a left-to-right language model is taught: the gradient of a prediction with respect to the tokens before it.

    python benchmarks/gradient_reach.py runs/elman/last runs/lstm/last runs/gpt/last --text held_out.txt

Windows of the text are read from a state of zeros. Of each, only the last token's loss is taken, and the norm of its gradient
with respect to every input embedding; distance 1 is the token just before the one that is predicted. The table has the mean
norm over the windows, divided by the mean norm at distance 1: how much a prediction hears of a token at that distance, beside
the nearest one.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from bertkit.hub.checkpoints import load_checkpoint
from bertkit.tokenization import load_tokenizer

DISTANCES = (1, 2, 4, 8, 16, 32, 64)
_WINDOWS_AT_ONCE = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", type=Path, nargs="+", help="folders of rnn or gpt checkpoints")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--context", type=int, default=128, help="tokens read before the one that is predicted")
    parser.add_argument("--windows", type=int, default=512, help="most windows of the text")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = arguments.text.read_text(encoding="utf-8")
    width = max(len(str(folder)) for folder in arguments.checkpoints)
    print(" " * width, *(f"{distance:>9}" for distance in DISTANCES))
    for folder in arguments.checkpoints:
        model = load_checkpoint(folder, "AutoModelForCausalLM")
        tokens = load_tokenizer(folder)(text, add_special_tokens=False, verbose=False)["input_ids"]
        windows = cut_windows(tokens, length=arguments.context + 1, most=arguments.windows)
        reach = relative_reach(gradient_norms(model, windows), DISTANCES)
        print(f"{folder!s:{width}}", *(f"{share:9.1e}" for share in reach))


def cut_windows(tokens: Sequence[int], *, length: int, most: int) -> torch.Tensor:
    """Spread windows evenly over a text.

    Args:
        tokens: of the text.
        length: tokens of a window.
        most: windows, if the text holds so many that do not overlap.

    Returns:
        (windows, length) int64.

    Raises:
        ValueError: the text is shorter than a window.
    """
    if len(tokens) < length:
        raise ValueError(f"the text has {len(tokens)} tokens; a window takes {length}")
    whole = torch.tensor(tokens, dtype=torch.int64).unfold(0, length, length)
    return whole[torch.linspace(0, len(whole) - 1, min(most, len(whole))).long()]


def gradient_norms(model: PreTrainedModel, windows: torch.Tensor) -> torch.Tensor:
    """Return the norm of the gradient that a prediction sends to each of the tokens before it.

    Args:
        model: an `AutoModelForCausalLM`, in evaluation mode.
        windows: (windows, 1 + context) token ids, of which the last is predicted from the others.

    Returns:
        (windows, context): the norms, that of distance 1 first.
    """
    norms = []
    for some in windows.split(_WINDOWS_AT_ONCE):
        embedded = model.get_input_embeddings()(some[:, :-1]).detach().requires_grad_()  # (windows, context, embedding)
        logits = model(inputs_embeds=embedded, use_cache=False).logits[:, -1]  # (windows, vocab)
        loss = F.cross_entropy(logits, some[:, -1], reduction="sum")  # no window has a part in another's loss
        (gradient,) = torch.autograd.grad(loss, embedded)
        norms.append(gradient.norm(dim=-1).flip(1))
    return torch.cat(norms)


def relative_reach(norms: torch.Tensor, distances: Sequence[int]) -> list[float]:
    """Return the mean norms at distances, each divided by that at distance 1."""
    mean = norms.double().mean(0)  # (context)
    return [(mean[distance - 1] / mean[0]).item() for distance in distances]


if __name__ == "__main__":
    main()
