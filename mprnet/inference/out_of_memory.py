"""Telling a lack of memory from other errors."""

import torch

# What the C library, CUDA, its libraries and Metal say if memory runs out.
_NO_MEMORY = (
    "not enough memory",
    "out of memory",
    "can't allocate memory",
    "STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",
    "CUBLAS_STATUS_NOT_INITIALIZED",  # there is no memory for what cuBLAS needs at its start
    "unable to find an engine",  # none of cuDNN's kernels has got the memory that it needs
    "Unable to find a valid cuDNN algorithm",
    "Invalid buffer size",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return True if ``error`` says that the memory of a device or of the system has run out."""
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(words in str(error) for words in _NO_MEMORY)
