"""sentence-transformers, one text at a time; run by its peer's interpreter: `python encode.py MODEL DTYPE < texts.json`.

Prints the texts per second.
"""

from __future__ import annotations

import json
import sys
import time

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import Pooling, Transformer


def main() -> None:
    torch.set_num_threads(1)
    body = Transformer(sys.argv[1], model_kwargs={"dtype": sys.argv[2]})
    model = SentenceTransformer(modules=[body, Pooling(body.get_word_embedding_dimension())], device="cpu")
    texts = json.load(sys.stdin)
    for text in texts[:20]:
        model.encode(text)
    started = time.perf_counter()
    for text in texts:
        model.encode(text)
    print(json.dumps(len(texts) / (time.perf_counter() - started)))


if __name__ == "__main__":
    main()
