"""Packed rows of llama.cpp's types: what its own quantizer makes of a matrix.

Five types can be made by the `gguf` package, which llama.cpp's authors keep equal to their reference; all others, and
all with an importance matrix, by ggml's own library, `ggml_quantize_chunk`. That comes with any llama.cpp: the package
`llama-cpp-python`, or whatever folder `SECATEUR_GGML` names. A library whose types have other sizes is refused.
"""

import ctypes
import importlib.util
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import quants
from numpy.typing import NDArray

from ...space.bits import SIMPLE, TYPES
from ...space.errors import SecateurError

VARIABLE = "SECATEUR_GGML"
"""Of the environment: where ggml's library is, a file or the folder it is in."""
PACKAGES = ("llama_cpp",)
"""Python packages that carry the library in their folder `lib`."""
NAMES = {"darwin": ("libggml-base.dylib",), "win32": ("ggml-base.dll",)}.get(sys.platform, ("libggml-base.so",))
CHUNK = 64
"""Rows that a thread makes at once."""
HOW = (
    "install llama-cpp-python, or let the environment variable "
    f"{VARIABLE} name the folder of a llama.cpp that has {NAMES[0]}"
)


class Library:
    """ggml's quantizer."""

    def __init__(self, path: Path) -> None:
        """Raises SecateurError where it cannot be loaded, or knows types otherwise."""
        try:
            self._library = ctypes.CDLL(str(path))
            self._quantize = self._library.ggml_quantize_chunk
            row_size = self._library.ggml_row_size
        except (OSError, AttributeError) as error:
            raise SecateurError(f"{path}: cannot be used as ggml's library: {str(error)[:200]}") from error
        self.version = self._version()
        floats = ctypes.POINTER(ctypes.c_float)
        self._quantize.restype, row_size.restype = ctypes.c_size_t, ctypes.c_size_t
        self._quantize.argtypes = [ctypes.c_int, floats, ctypes.c_void_p, *[ctypes.c_int64] * 3, floats]
        row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
        for kind, stored in TYPES.items():
            if (found := row_size(stored.number, 256)) != 256 // stored.block * stored.bytes:
                raise SecateurError(f"{path}: a row of 256 {kind} has {found} bytes there; use another version")

    def _version(self) -> str:
        """As it calls itself; those of before 2025 do not say."""
        found = []
        for name in ("ggml_version", "ggml_commit"):
            if hasattr(self._library, name):
                told = getattr(self._library, name)
                told.restype = ctypes.c_char_p
                found.append((told() or b"").decode(errors="replace"))
        return " ".join(found) or "unknown"

    def rows(
        self, kind: str, values: NDArray[np.float32], packed: NDArray[np.uint8], weights: NDArray[np.float32] | None
    ) -> None:
        """Packs contiguous rows (rows, columns) into (rows, bytes); `weights`: the importance of columns."""
        floats = ctypes.POINTER(ctypes.c_float)
        importance = None if weights is None else weights.ctypes.data_as(floats)
        count, columns = values.shape
        source, target = values.ctypes.data_as(floats), packed.ctypes.data_as(ctypes.c_void_p)
        written = self._quantize(TYPES[kind].number, source, target, 0, count, columns, importance)
        if written != packed.nbytes:
            raise SecateurError(f"ggml's library made {written} bytes of {count} rows of {kind}, not {packed.nbytes}")


def encode(kind: str, matrix: torch.Tensor, importance: torch.Tensor | None = None) -> torch.Tensor:
    """Packed rows (rows, bytes) of a matrix (rows, columns), on the CPU, for a type of `TYPES`.

    `importance`: (columns,), the mean square of each input; None: all alike.

    Raises:
        SecateurError: the type needs ggml's library, or an importance matrix, and there is none.
    """
    stored = TYPES[kind]
    assert matrix.shape[1] % stored.block == 0, "rows are whole blocks"
    values = np.ascontiguousarray(matrix.detach().float().cpu().numpy())
    if kind == "F16":
        return torch.from_numpy(values).half().view(torch.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance.float().cpu().numpy())
    if stored.needs_importance and weights is None:
        raise SecateurError(f"bits: {kind} needs an importance matrix; set quantizer to importance")
    if not by_library(kind, weights is not None):
        return torch.from_numpy(quants.quantize(values, gguf.GGMLQuantizationType[kind]))
    if (found := library()) is None:
        what = f"{kind} with an importance matrix" if kind in SIMPLE else kind
        other = "" if kind not in SIMPLE else ", or set quantizer to nearest"
        raise SecateurError(f"bits: {what} is made by llama.cpp's own library; {HOW}{other}")
    packed = np.zeros((len(values), values.shape[1] // stored.block * stored.bytes), dtype=np.uint8)
    # ctypes lets other threads run meanwhile.
    with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
        parts = [slice(start, start + CHUNK) for start in range(0, len(values), CHUNK)]
        list(pool.map(lambda part: found.rows(kind, values[part], packed[part], weights), parts))
    return torch.from_numpy(packed)


def by_library(kind: str, weighted: bool) -> bool:
    """Whether ggml's library makes a type, with the importance of inputs or without."""
    # Its Q8_0 does not look at that.
    return kind not in SIMPLE or (weighted and kind != "Q8_0")


def library() -> Library | None:
    """ggml's library; None where there is none.

    Raises:
        SecateurError: `SECATEUR_GGML` names something that is none.
    """
    return _loaded(os.environ.get(VARIABLE, ""))


@cache
def _loaded(named: str) -> Library | None:
    if named:
        path = Path(named)
        places = [path] if path.is_file() else [path / name for name in NAMES]
        if (found := next((place for place in places if place.is_file()), None)) is None:
            raise SecateurError(f"{VARIABLE}: there is no {NAMES[0]} in {named}")
        return Library(found)
    found = next((place for place in _installed() if place.is_file()), None)
    return None if found is None else Library(found)


def _installed() -> Iterator[Path]:
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
            yield from (Path(folder) / "lib" / name for name in NAMES)
