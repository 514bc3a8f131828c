"""ONNX files, run by onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnxruntime


def open_session(model: str | bytes, threads: int) -> onnxruntime.InferenceSession:
    """Return a session of an ONNX file, by its path or content, on the GPU where there is one.

    threads: of the processor. Raises onnxruntime's own errors, which share no base class, for what
    is no usable model.
    """
    # Since 1.32 onnxruntime notes its use in the user's home, to be sent to its makers, unless
    # this is set before its import. Nobody else needs to know what faces a user works on.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    devices = providers(onnxruntime.get_available_providers())
    return onnxruntime.InferenceSession(model, options, providers=devices)


def providers(available: Sequence[str]) -> list:
    """Return what onnxruntime computes on: this process's own GPU if there is one, or the CPU."""
    cuda, cpu = "CUDAExecutionProvider", "CPUExecutionProvider"
    if cuda not in available:
        return [cpu]
    import torch  # counts GPUs

    own = int(os.environ.get("LOCAL_RANK", "0")) % max(1, torch.cuda.device_count())
    return [(cuda, {"device_id": own}), cpu]
