"""How far back a left-to-right model's gradient reaches: its norm at a token against that token's distance.

The loss of one prediction is differentiated by the vectors of the tokens before it. Where the norm falls by a constant factor a
step, as in Elman's network, what lies a sentence back can teach the model nothing: the vanishing gradient of Hochreiter 1991
and Bengio et al. 1994, https://doi.org/10.1109/72.279181, which the LSTM's cell was made against and attention sidesteps. In
some windows it grows instead, and explodes: a median does not see them, and a mean may see nothing else.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm
from transformers import PreTrainedModel

from bertkit.evaluation.likelihood import LOGITS_AT_ONCE, TokenIds


def gradient_reach(
    model: PreTrainedModel,
    texts: Sequence[TokenIds],
    *,
    length: int = 128,
    max_windows: int = 512,
    quiet: bool = False,
) -> np.ndarray:
    """Measure the gradient of a prediction by the tokens before it.

    Args:
        model: an `AutoModelForCausalLM`, in evaluation mode, with word vectors (`get_input_embeddings`).
        texts: token ids of each, without special tokens. Windows are cut from them side by side; what is left is not used.
        length: tokens of a window. Only the token that follows it is predicted.
        max_windows: most windows; if there are more, so many are taken at even distances.
        quiet: no progress bar.

    Returns:
        (windows, length) float64: the norm of the loss's gradient by the vector of the token at distance 1, 2, 3, ... from the
        predicted one.

    Raises:
        ValueError: no text has length + 1 tokens.
    """
    places = [(text, start) for text, ids in enumerate(texts) for start in range(0, len(ids) - length, length)]
    if not places:
        raise ValueError(f"no text has {length + 1} tokens; give longer ones, or a smaller length")
    step = max(len(places) / max_windows, 1.0)
    places = [places[int(number * step)] for number in range(min(len(places), max_windows))]
    windows = torch.from_numpy(
        np.array([np.asarray(texts[text][start : start + length + 1], dtype=np.int64) for text, start in places])
    )
    at_once = max(LOGITS_AT_ONCE // (model.config.vocab_size * length), 1)
    norms = []
    embed = model.get_input_embeddings()
    for rows in tqdm(windows.split(at_once), desc="differentiating", unit="batch", disable=quiet):
        rows = rows.to(model.device)
        vectors = embed(rows[:, :-1]).detach().requires_grad_()  # (rows, length, width)
        with torch.enable_grad():
            logits = model(inputs_embeds=vectors, use_cache=False).logits[:, -1]  # (rows, vocab)
            loss = F.cross_entropy(logits.float(), rows[:, -1], reduction="sum")
            [gradient] = torch.autograd.grad(loss, vectors)
        norms.append(gradient.double().norm(dim=-1).flip(1).cpu())
    return torch.cat(norms).numpy()
