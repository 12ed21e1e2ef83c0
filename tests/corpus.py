"""A made-up corpus with something to learn."""

from pathlib import Path

import numpy as np


def write_corpus(path: Path) -> Path:
    """Write a text of 80 documents over 150 made-up words, each of which is followed by one of three others only."""
    random = np.random.default_rng(0)
    syllables = ["ba", "do", "ki", "lu", "me", "no", "pa", "ri", "so", "tu"]
    words = sorted({"".join(random.choice(syllables, random.integers(1, 5))) for _ in range(160)})
    successors = random.integers(0, len(words), (len(words), 3))

    def sentence() -> str:
        chain = [int(random.integers(len(words)))]
        for _ in range(random.integers(3, 14)):
            chain.append(int(random.choice(successors[chain[-1]])))
        return " ".join(words[word] for word in chain).capitalize() + "."

    paragraphs = [[" ".join(sentence() for _ in range(4)) for _ in range(random.integers(3, 10))] for _ in range(80)]
    path.write_text("\n\n".join("\n".join(document) for document in paragraphs) + "\n")
    return path
