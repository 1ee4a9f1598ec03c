"""Libraries: what computes, and what reads."""

from __future__ import annotations

import platform
from dataclasses import replace
from importlib.util import find_spec

from microscopy_cls import __version__
from microscopy_cls.cli.checks.row import Check, find_library, install, load_library
from microscopy_cls.system.versions import library_version


def software() -> list[Check]:
    """Python, and what every command needs. Takes as long as importing torch."""
    torch = find_library("torch", "torch", "trains and classifies", essential=True)
    cv2 = find_library("cv2", "opencv-python-headless", "resizes and draws", essential=True)
    return [
        Check("python", "ok", f"{platform.python_version()}, microscopy-cls {__version__}"),
        load_library(torch, lambda module: f"{module.__version__}: trains and classifies"),
        find_library("timm", "timm", "networks and pretrained weights", essential=True),
        find_library("albumentations", "albumentations", "augmentation", essential=True),
        load_library(cv2, lambda module: f"{module.__version__}: resizes and draws"),
    ]


def engines() -> list[Check]:
    """What classifies beside torch."""
    return [
        find_library("openvino", "openvino", "the fastest engine on CPUs", extra="cpu"),
        find_library("onnxruntime", "onnxruntime", "runs exported models", extra="cpu"),
    ]


def readers() -> list[Check]:
    """What opens files."""
    openslide = find_library("openslide", "openslide-python", "whole slides", extra="slides")
    return [
        _pillow(),
        _tifffile(),
        _pydicom(),
        find_library("nibabel", "nibabel", "NIfTI volumes", extra="medical"),
        load_library(openslide, lambda module: f"library {module.__library_version__}: whole slides"),
    ]


def _pillow() -> Check:
    from PIL import features

    codecs = {"JPEG": "jpg", "PNG": "zlib", "WebP": "webp", "TIFF": "libtiff", "JPEG 2000": "jpg_2000"}
    able = [name for name, codec in codecs.items() if features.check(codec)]
    unable = [name for name in codecs if name not in able]
    detail = f"{library_version('pillow')}: {', '.join(able)}"
    if not unable:
        return Check("pillow", "ok", detail)
    advice = "pip install --force-reinstall pillow (its wheels hold all of them)"
    return Check("pillow", "warn", f"{detail}, but not {', '.join(unable)}", advice)


def _tifffile() -> Check:
    found = find_library("tifffile", "tifffile", "TIFF of any depth")
    if found.status == "ok" and find_spec("imagecodecs") is None:
        return replace(found, status="warn", detail="no compressed TIFF: imagecodecs is missing", advice=install(""))
    return found


def _pydicom() -> Check:
    found = find_library("pydicom", "pydicom", "DICOM", extra="medical")
    if found.status == "ok" and (find_spec("pylibjpeg") is None or find_spec("openjpeg") is None):
        detail = "no compressed DICOM: pylibjpeg or its plugins are missing"
        return replace(found, status="warn", detail=detail, advice=install("medical"))
    return found
