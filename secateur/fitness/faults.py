"""Whose fault it is when an evaluation goes wrong: the candidate's, the device's, or ours.

A candidate's own failures are outcomes of a search. What a device runs out of or says of itself is nobody's: it ends
the run before anything is noted, and the run goes on where there is more room or a healthy device. Anything else is a
fault of ours and ends the run with a traceback.
"""

import gc

import torch

from ..space.errors import DeviceError, OutOfMemoryError, said

HALVINGS = 2
"""How often a batch that does not fit is halved."""


class CandidateError(Exception):
    """Something that the candidate is to blame for, or the user's own function when it is shown it."""


CANDIDATE_ERRORS = (ArithmeticError, CandidateError)
"""What a candidate may fail with and the run goes on."""


def said_of(error: BaseException) -> str:
    """A candidate's error as its evaluation's reason."""
    return (str(error) if isinstance(error, CandidateError) else f"{type(error).__name__}: {error}")[:500]


def is_of_memory(error: BaseException) -> bool:
    """Whether a device, or the host, has run out of memory."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError)
        and any(word in said(error) for word in ("out of memory", "can't allocate memory"))
    )


def is_of_device(error: BaseException) -> bool:
    """Whether a device says that it has failed."""
    return isinstance(error, torch.AcceleratorError) or (
        isinstance(error, RuntimeError) and said(error).startswith(("CUDA error", "HIP error", "XPU error"))
    )


def room_again(device: torch.device) -> None:
    """Gives back what is held without need."""
    gc.collect()
    if device.type != "cpu" and hasattr(torch, "accelerator") and torch.accelerator.is_available():
        torch.accelerator.empty_cache()


class Batches:
    """How many sequences go through the model at once: fewer where they turn out not to fit."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.size, self._device, self._halved = size, device, 0

    def smaller(self, error: BaseException, tried: int) -> None:
        """Takes half of `tried` from now on, after an `error` that was one of memory.

        Raises:
            OutOfMemoryError: that has been tried.
            DeviceError: the device itself has failed.
            BaseException: `error` itself, where it is another one.
        """
        if is_of_device(error):
            raise DeviceError(
                f"the device {self._device} has failed: {said(error)}; nothing of this batch was noted: resume on a "
                "healthy one"
            ) from error
        if not is_of_memory(error):
            raise error
        tried = min(tried, self.size)
        if self._halved == HALVINGS or tried == 1:
            raise OutOfMemoryError(
                f"out of memory on {self._device} with {tried} sequences at once: {said(error)}; nothing of this batch "
                "was noted: make room, or take shorter sequences, and resume"
            ) from error
        self.size, self._halved = tried // 2, self._halved + 1
        room_again(self._device)
