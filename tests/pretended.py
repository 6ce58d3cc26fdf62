"""A pretended accelerator: numbers lie on the CPU, but torch knows their tensors as those of a device of its own.

As a real one would, it refuses operations on tensors of two devices, but for single numbers and for indices. It counts
what would cost a transfer or a wait, by the function of the package that asked for it. `pretend` registers it in this
process for good: call it in processes of its own.
"""

import sys
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as trees
from torch.utils import backend_registration

NAME = "pretended"


@dataclass
class Traffic:
    """Copies to the device, copies back and waits, and what was refused; by function of the package.

    `peak`: bytes on the device at their most; None: not looked at, which takes long.
    """

    up: Counter[str] = field(default_factory=Counter)
    up_bytes: Counter[str] = field(default_factory=Counter)
    down: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    synchronised: list[str] = field(default_factory=list)
    operations: int = 0
    peak: int | None = None

    def clear(self) -> None:
        """Forgets all."""
        for counter in (self.up, self.up_bytes, self.down, self.refused):
            counter.clear()
        self.synchronised.clear()
        self.operations = 0


TRAFFIC = Traffic()


HELD: "weakref.WeakSet[OnDevice]" = weakref.WeakSet()


def on_device() -> int:
    """Bytes that are on the device now."""
    storages = {storage.data_ptr(): storage.nbytes() for one in HELD for storage in [one.numbers.untyped_storage()]}
    return sum(storages.values())


def _place() -> str:
    """The innermost function of the package that is at work."""
    frame = sys._getframe(1)
    while frame is not None:
        _, package, file = frame.f_code.co_filename.rpartition("/secateur/")
        if package:
            return f"{file}:{frame.f_code.co_name}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


class OnDevice(torch.Tensor):
    """A tensor of the device; its numbers are in `numbers`."""

    numbers: torch.Tensor

    @staticmethod
    def __new__(cls, numbers: torch.Tensor) -> "OnDevice":
        """Wraps."""
        with torch.inference_mode(False):  # views of what was made before would be refused
            made: OnDevice = torch.Tensor._make_wrapper_subclass(
                cls,
                numbers.size(),
                strides=numbers.stride(),
                storage_offset=numbers.storage_offset(),
                dtype=numbers.dtype,
                device=torch.device(NAME, 0),
            )
        made.numbers = numbers
        HELD.add(made)
        if TRAFFIC.peak is not None:
            TRAFFIC.peak = max(TRAFFIC.peak, on_device())
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> Any:  # type: ignore[override]
        return f"OnDevice({tensor_contents or self.numbers})"

    def tolist(self) -> Any:
        """Waits."""
        TRAFFIC.down[_place()] += 1
        return self.numbers.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        """As on any device."""
        raise TypeError(f"can't convert a tensor of {NAME} to numpy; use Tensor.cpu() first")

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _carry_out(func, args, kwargs or {})


def _data(new: OnDevice | torch.Tensor, old: OnDevice) -> None:
    """What `parameter.data = new` does."""
    if not isinstance(new, OnDevice):
        raise RuntimeError(f"attempted to call `variable.set_data(tensor)` with a tensor of the CPU, at {_place()}")
    plain = torch.Tensor.data.__set__  # type: ignore[attr-defined]
    plain(old, new)
    old.numbers = new.numbers


OnDevice.data = property(torch.Tensor.data.__get__, lambda old, new: _data(new, old))  # type: ignore[assignment, attr-defined]

INDEXING = {"aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_", "aten::_unsafe_index"}
WAITING = {
    *("aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal", "aten::nonzero"),
    *("aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::repeat_interleave.Tensor"),
}


def _numbers(value: Any) -> Any:
    return value.numbers if isinstance(value, OnDevice) else value


def _carry_out(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name = func._schema.name
    if torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), "CompositeImplicitAutograd"):
        made = func.decompose(*args, **kwargs)
        if made is not NotImplemented:
            return made
    if name == "aten::_to_copy":
        return _moved(func, args, kwargs)
    if name == "aten::copy_":
        _note_copy(args[1], args[0])
        _numbers(args[0]).copy_(_numbers(args[1]))
        return args[0]
    tensors = [leaf for leaf in trees.tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    held = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
    _check_devices(name, args, tensors)
    # A mask in an index is counted first: how much there will be is not known before.
    masks = [leaf for leaf in trees.tree_leaves(args[1:2]) if isinstance(leaf, OnDevice) and leaf.dtype == torch.bool]
    if held and (name in WAITING or (name in INDEXING and masks)):
        TRAFFIC.down[_place()] += 1
    TRAFFIC.operations += 1
    device = kwargs.get("device")
    here = bool(held) or (device is not None and torch.device(device).type == NAME)
    plain_args, plain_kwargs = trees.tree_map(_numbers, args), trees.tree_map(_numbers, kwargs)
    plain_kwargs.pop("pin_memory", None)
    if device is not None and torch.device(device).type == NAME:
        plain_kwargs["device"] = torch.device("cpu")
    known = {id(tensor.numbers): tensor for tensor in held}

    def wrapped(value: Any) -> Any:
        if not here or not isinstance(value, torch.Tensor) or isinstance(value, OnDevice):
            return value
        return known[id(value)] if id(value) in known else OnDevice(value)

    return trees.tree_map(wrapped, func(*plain_args, **plain_kwargs))


def _moved(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    source, device = args[0], kwargs.get("device")
    to = torch.device(device) if device is not None else source.device
    plain = {key: value for key, value in kwargs.items() if key not in ("device", "non_blocking", "pin_memory")}
    made = func(_numbers(source), **plain)
    target = OnDevice(made) if to.type == NAME else made
    _note_copy(source, target)
    return target


def _note_copy(source: torch.Tensor, target: torch.Tensor) -> None:
    if isinstance(target, OnDevice) and not isinstance(source, OnDevice):
        TRAFFIC.up[_place()] += 1
        TRAFFIC.up_bytes[_place()] += source.nbytes
    elif isinstance(source, OnDevice) and not isinstance(target, OnDevice):
        TRAFFIC.down[_place()] += 1


def _check_devices(name: str, args: Any, tensors: list[torch.Tensor]) -> None:
    """Raises RuntimeError, as torch does, where two devices meet; an index that has to be brought is counted."""
    here = [tensor for tensor in tensors if isinstance(tensor, OnDevice)]
    there = [tensor for tensor in tensors if not isinstance(tensor, OnDevice) and tensor.dim() > 0]
    if not here or not there:
        return
    if name in INDEXING and isinstance(args[0], OnDevice):
        TRAFFIC.up[_place()] += 1
        TRAFFIC.up_bytes[_place()] += sum(tensor.nbytes for tensor in there)
        values = trees.tree_leaves(args[2:])
        if not any(value is tensor for value in values for tensor in there):
            return
    place = _place()
    TRAFFIC.refused[f"{name} at {place}"] += 1
    raise RuntimeError(f"Expected all tensors to be on the same device, but found {NAME}:0 and cpu ({name} at {place})")


class Backend:
    """What torch asks of a kind of device; there are two of this."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 2

    def get_device_name(self, _: Any = None) -> str:
        return "model 1"

    def synchronize(self, device: Any = None) -> None:
        """Waits."""
        TRAFFIC.down[_place()] += 1
        TRAFFIC.synchronised.append(str(device))

    def manual_seed_all(self, seed: int) -> None:
        """Random numbers come from the CPU."""

    def _is_in_bad_fork(self) -> bool:
        return False


_LIBRARIES: list[torch.library.Library] = []
"""As long as they live, the device is known."""


def pretend() -> None:
    """Registers the device in this process."""
    if _LIBRARIES:
        return
    backend_registration._setup_privateuseone_for_python_backend(NAME, Backend())
    library: Any = torch.library.Library("aten", "IMPL")  # type: ignore[no-untyped-call]
    _LIBRARIES.append(library)
    for name in ("empty.memory_format", "empty_strided", "arange", "arange.start", "arange.start_step"):
        library.impl(name, _factory(name), "PrivateUse1")
    library.impl("_copy_from", _copied, "PrivateUse1")


def _factory(name: str) -> Callable[..., Any]:
    packet, _, overload = name.partition(".")
    plain = getattr(getattr(torch.ops.aten, packet), overload or "default")

    def make(*args: Any, **kwargs: Any) -> OnDevice:
        kept = {key: value for key, value in kwargs.items() if key not in ("device", "pin_memory")}
        return OnDevice(plain(*args, **kept, device=torch.device("cpu")))

    return make


def _copied(source: torch.Tensor, target: torch.Tensor, _: bool = False) -> torch.Tensor:
    _note_copy(source, target)
    _numbers(target).copy_(_numbers(source))
    return target
