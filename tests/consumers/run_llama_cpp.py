"""Run under llama.cpp's packages: the mean next-token cross-entropy of a GGUF on windows of tokens, and text it writes.

python run_llama_cpp.py MODEL.gguf IDS.safetensors PROMPT
"""

import json
import sys

import llama_cpp
import torch
from safetensors.torch import load_file


def main(model: str, ids: str, prompt: str) -> None:
    windows = load_file(ids)["ids"]
    loaded = llama_cpp.Llama(model, n_ctx=windows.shape[1] + 8, logits_all=True, verbose=False)
    losses = []
    for window in windows:
        loaded.reset()
        loaded.eval(window.tolist())
        logits = torch.tensor(loaded.scores[: len(window)])
        losses.append(float(torch.nn.functional.cross_entropy(logits[:-1].double(), window[1:])))
    loaded.reset()
    written = loaded.create_completion(prompt, max_tokens=8, temperature=0.0)["choices"][0]["text"]
    tokens = loaded.tokenize(prompt.encode(), add_bos=False)
    print(json.dumps({"cross_entropy": sum(losses) / len(losses), "written": written, "tokens": tokens}))


if __name__ == "__main__":
    main(*sys.argv[1:])
