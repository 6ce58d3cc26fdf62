"""Run under llm-compressor's packages: its oneshot with a recipe, on windows of a text file; prints what it took.

python run_llm_compressor.py MODEL RECIPE TEXT OUT [COUNT LENGTH]
"""

import json
import sys
import time
from pathlib import Path

import torch
from datasets import Dataset
from llmcompressor import oneshot
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(model: str, recipe: str, text: str, out: str, count: str = "16", length: str = "32") -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    ids = tokenizer(Path(text).read_text())["input_ids"]
    size = int(length)
    windows = [ids[start : start + size] for start in range(0, len(ids) - size, size)][: int(count)]
    rows = {"input_ids": windows, "attention_mask": [[1] * size for _ in windows]}
    started = time.perf_counter()
    oneshot(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32, trust_remote_code=True),
        processor=tokenizer,
        recipe=recipe,
        dataset=Dataset.from_dict(rows),
        num_calibration_samples=len(windows),
        max_seq_length=size,
        output_dir=out,
        pipeline="basic",
        trust_remote_code_model=True,
    )
    print(json.dumps({"seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main(*sys.argv[1:])
