"""Run under any packages: the mean next-token cross-entropy of a checkpoint on windows of tokens, as JSON.

python run_transformers.py MODEL IDS.safetensors [LOGITS.safetensors]
"""

import json
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM


def main(model: str, ids: str, out: str = "") -> None:
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, trust_remote_code=True).eval()
    losses, all_logits = [], []
    for window in load_file(ids)["ids"]:
        with torch.no_grad():
            logits = loaded(window[None]).logits[0]
        all_logits.append(logits)
        losses.append(float(torch.nn.functional.cross_entropy(logits[:-1].double(), window[1:])))
    if out:
        save_file({"logits": torch.stack(all_logits)}, out)
    print(json.dumps({"cross_entropy": sum(losses) / len(losses), "version": transformers.__version__}))


if __name__ == "__main__":
    main(*sys.argv[1:])
