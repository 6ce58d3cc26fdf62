"""Latency in llama.cpp, through llama-cpp-python (an optional extra): whole GGUF files, in turns with the dense one."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from ...space.errors import SecateurError
from ...space.latency import Measured, Workload
from .latency import until_settled
from .turns import Sample


def load_llama_cpp() -> Any:
    """The module; raises SecateurError when it is not installed."""
    try:
        import llama_cpp
    except ImportError:
        raise SecateurError(
            "latency.device: llama.cpp needs llama-cpp-python; pip install 'secateur[llama-cpp]', or choose cpu"
        ) from None
    return llama_cpp


def opened(path: Path, context: int, threads: int | None) -> Any:
    """A loaded model; raises SecateurError when llama.cpp refuses the file."""
    try:
        return load_llama_cpp().Llama(
            str(path),
            n_ctx=context,
            n_batch=context,
            n_ubatch=context,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )
    except ValueError as error:
        raise SecateurError(f"llama.cpp does not load {path}: {error}") from error


def request(model: Any, workload: Workload) -> Sample:
    """Times one request: seconds of the prefill and of one decoded token (median)."""
    model.reset()
    started = time.perf_counter()
    model.eval([1] * workload.prefill)
    prefill, steps = time.perf_counter() - started, []
    for _ in range(workload.decode):
        started = time.perf_counter()
        model.eval([1])
        steps.append(time.perf_counter() - started)
    return prefill, float(np.median(steps)) if steps else 0.0


def time_files(smaller: Path, dense: Path, workload: Workload, threads: int | None, repeats: int) -> Measured:
    """Times two files in turns.

    Raises:
        SecateurError: llama.cpp is not installed, or refuses a file.
    """
    context = workload.prefill + workload.decode + 8
    pair = [opened(path, context, threads) for path in (smaller, dense)]
    try:
        for one in pair:
            request(one, Workload(1, workload.prefill, min(2, workload.decode)))
        return until_settled("llama.cpp", lambda: [request(one, workload) for one in pair], workload, repeats)
    finally:
        for one in pair:
            one.close()
