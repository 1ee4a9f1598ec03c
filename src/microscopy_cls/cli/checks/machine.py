"""The machine: processors, memory, and the places that files go to."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path

from microscopy_cls.cli.checks.row import UNLOADABLE, Check
from microscopy_cls.system.hardware import choose_hardware, cpu_features, num_cores

GB = 1e9
MIN_DISK_GB = 5.0  # a pixel cache, five members at 100 MB, DVC's copies of both
MIN_MEMORY_GB = 4.0


def compute() -> list[Check]:
    """Processors and memory, and what would be computed on."""
    return [_cpu(), *_devices(), _threads(), _memory()]


def places() -> list[Check]:
    """Where files are written and kept."""
    return [_folder(), _disk(), *_weights()]


def _cpu() -> Check:
    usable, present = num_cores(), os.cpu_count() or num_cores()
    cores = f"{usable} cores" if usable == present else f"{usable} of {present} cores usable"
    features = ", ".join(sorted(cpu_features())) or "instruction sets unknown"
    return Check("cpu", "ok", f"{_cpu_model()}, {cores}, {features}")


def _cpu_model() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def _devices() -> list[Check]:
    """Nothing where torch does not load, which is told elsewhere."""
    try:
        return [_accelerator(), _choice()]
    except UNLOADABLE:
        return []


def _accelerator() -> Check:
    import torch

    with warnings.catch_warnings(record=True) as complaints:  # of drivers that are too old
        warnings.simplefilter("always")
        is_there = torch.cuda.is_available()
    if is_there:
        devices = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        listed = [f"cuda:{index} {device.name}, {_gb(device.total_memory)}" for index, device in enumerate(devices)]
        return Check("cuda", "ok", "; ".join(listed))
    if torch.backends.mps.is_available():
        return Check("mps", "ok", f"graphics cores of {_cpu_model()}")
    if shutil.which("nvidia-smi") is None:
        return Check("cuda", "missing", "no device here: networks run on the CPU")
    reason = " ".join(str(complaints[0].message).split()) if complaints else "torch sees no device"
    advice = "This torch was built without CUDA: install the plain one with pip install torch."
    if torch.version.cuda is not None:
        advice = f"It was built for CUDA {torch.version.cuda}: renew the driver, and look at CUDA_VISIBLE_DEVICES."
    return Check("cuda", "warn", f"there is a driver, but {reason}", advice)


def _choice() -> Check:
    chosen = choose_hardware("auto", "auto", "auto")
    why = "faster here than fp32" if chosen.precision == "bf16" else "bf16 would not be faster here"
    readers = f"{chosen.num_workers} processes read" if chosen.num_workers else "the same process reads"
    return Check("device", "ok", f"{chosen.device} is chosen, in {chosen.precision} ({why}); {readers}")


def _threads() -> Check:
    count, policy = os.environ.get("OMP_NUM_THREADS", ""), os.environ.get("OMP_WAIT_POLICY", "")
    detail = f"OMP_NUM_THREADS {count or 'not set'}, OMP_WAIT_POLICY {policy or 'not set'}"
    if policy.upper() != "PASSIVE":
        return Check("threads", "warn", detail, "export OMP_WAIT_POLICY=PASSIVE, so that idle threads sleep")
    if count.isdigit() and int(count) > num_cores():
        advice = f"export OMP_NUM_THREADS={num_cores()}: more threads than cores hinder each other"
        return Check("threads", "warn", detail, advice)
    return Check("threads", "ok", detail)


def _memory() -> Check:
    total = _memory_bytes()
    if total is None:
        return Check("memory", "ok", "cannot be told on this system")
    if total < MIN_MEMORY_GB * GB:
        return Check("memory", "warn", _gb(total), "Choose a smaller finetune.batch_size and model.image_size_px.")
    return Check("memory", "ok", _gb(total))


def _memory_bytes() -> int | None:
    """Memory of the machine, or of the container where that is less."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return None
    present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")]
    texts = [limit.read_text().strip() for limit in limits if limit.is_file()]
    return min([present, *(int(text) for text in texts if text.isdigit())])


def _folder() -> Check:
    here = Path.cwd()
    try:
        with tempfile.TemporaryFile(dir=here):
            return Check("folder", "ok", f"{here} can be written", essential=True)
    except OSError as error:
        advice = "Go to a folder of your own: data, runs and reports are written below it."
        return Check("folder", "missing", f"{here} cannot be written: {error.strerror}", advice, essential=True)


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    if free < MIN_DISK_GB * GB:
        advice = f"Make room, at least {MIN_DISK_GB:.0f} GB: pixels, networks and DVC's copies of them are kept."
        return Check("disk", "warn", f"{_gb(free)} free", advice)
    return Check("disk", "ok", f"{_gb(free)} free")


def _weights() -> list[Check]:
    """The folder of pretrained weights, and whether others may be fetched."""
    if find_spec("huggingface_hub") is None:
        return []
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    num_kept = len(list(cache.glob("models--timm--*"))) if cache.is_dir() else 0
    detail = f"{num_kept} timm models in {cache}"
    if not constants.HF_HUB_OFFLINE:
        return [Check("hub cache", "ok", f"{detail}, others are fetched when first used")]
    if num_kept:
        return [Check("hub cache", "ok", f"{detail}, HF_HUB_OFFLINE is set: no others")]
    advice = "Unset HF_HUB_OFFLINE to fetch weights, or give a file as model.weights."
    return [Check("hub cache", "warn", f"{detail}, and HF_HUB_OFFLINE is set", advice)]


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / GB:.0f} GB" if num_bytes >= 10 * GB else f"{num_bytes / GB:.1f} GB"
