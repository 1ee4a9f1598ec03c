"""What to compute on, in which precision, with how many threads and processes."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from microscopy_cls.errors import ConfigError

if TYPE_CHECKING:
    import torch

NumericType = Literal["fp32", "bf16"]
MAX_WORKERS = 16  # beyond it the cache's memory bandwidth, not augmentation, is the limit


@dataclass(frozen=True)
class Hardware:
    """Where and how a network runs.

    Attributes:
        device: `cpu`, `cuda`, `cuda:1` or `mps`.
        precision: of matrix products; weights and sums stay in fp32.
        num_threads: of torch on the CPU. Results on a CPU are equal to the bit only at equal thread counts.
        num_workers: processes that read and augment; 0 means none beside this one.
    """

    device: str
    precision: NumericType
    num_threads: int
    num_workers: int

    @property
    def is_cuda(self) -> bool:
        """Whether copies may be pinned and asynchronous."""
        return self.device.startswith("cuda")


def choose_hardware(device: str, precision: str, workers: int | str) -> Hardware:
    """Resolve `auto` and check what was asked for.

    Raises:
        ConfigError: the device is not in this machine.
    """
    import torch

    found = _find_device(device)
    if precision not in {"auto", "fp32", "bf16"}:
        raise ConfigError(f"runtime.precision {precision}: only auto, fp32 and bf16 are known")
    numeric: NumericType = "bf16" if precision == "bf16" or (precision == "auto" and gains_from_bf16(found)) else "fp32"
    # On a CPU the cores compute: a reading process beside them takes more than it gives (augmentation costs about
    # 1 ms an image, a training step 10 ms or more).
    automatic = min(num_cores(), MAX_WORKERS) if found.type == "cuda" else 0
    num_workers = automatic if workers == "auto" else int(workers)
    return Hardware(str(found), numeric, torch.get_num_threads(), num_workers)


def num_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def has_cuda() -> bool:
    """Whether a CUDA device is here. Torch is loaded only where the driver's device file says that one may be."""
    if sys.platform == "linux" and not any(Path(name).exists() for name in ("/dev/nvidiactl", "/dev/dxg")):
        return False
    import torch

    return torch.cuda.is_available()


def answering_device(wanted: str = "auto") -> str:
    """Where a finished network answers: `cpu`, `cuda` or one of several, as far as this machine has what was wanted.

    The wish stands in a bundle, which may come from a machine with other devices. Nothing answers on `mps`.

    Args:
        wanted: as `runtime.device`.
    """
    if wanted in {"cpu", "mps"} or not has_cuda():
        return "cpu"
    import torch

    is_here = wanted != "auto" and (torch.device(wanted).index or 0) < torch.cuda.device_count()
    return wanted if is_here else "cuda"


def gains_from_bf16(device: torch.device) -> bool:
    """Whether bf16 products are faster than fp32 there: CUDA from Ampere on, CPUs with AVX512-BF16 or AMX.

    Other CPUs emulate bf16 several times slower.
    """
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return device.type == "cpu" and cpu_has_bf16()


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 by itself."""
    return bool(cpu_features() & {"avx512_bf16", "amx_bf16"})


def cpu_features() -> set[str]:
    """Instruction sets of this CPU that matter here, as Linux names them; empty where they cannot be told."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as handle:  # noqa: PTH123  not a file of ours
            flags = next((line for line in handle if line.startswith("flags")), "")
    except OSError:
        return set()
    return set(flags.split()) & {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8"}


def _find_device(name: str) -> torch.device:
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"runtime.device {name}: this machine shows {torch.cuda.device_count()} CUDA devices. "
            "Use auto or cpu; `microscopy-cls doctor` tells what works here."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(f"runtime.device {name}: there is no such device here. Use auto or cpu.")
    return device
