"""Small DICOM and NIfTI files, drawn for the tests."""

from __future__ import annotations

import gzip
import io
from typing import Any

import nibabel  # noqa: TID251
import numpy as np
from pydicom import uid  # noqa: TID251
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: TID251
from pydicom.encaps import encapsulate  # noqa: TID251
from pydicom.sequence import Sequence  # noqa: TID251

PATIENT = "Doe^Jane"
PATIENT_ID = "MRN0815"


def item(**elements: Any) -> Sequence:
    """A sequence of one item."""
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return Sequence([dataset])


def header(values: np.ndarray, *, num_frames: int | None = None, bits_stored: int | None = None) -> Dataset:
    """What describes samples (h, w), (h, w, 3), or these behind an axis of frames."""
    shape = values.shape if num_frames is None else values.shape[1:]
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = uid.CTImageStorage, "1.2.3.4"
    dataset.PatientName, dataset.PatientID = PATIENT, PATIENT_ID
    dataset.Rows, dataset.Columns = shape[:2]
    dataset.SamplesPerPixel = 1 if len(shape) == 2 else 3
    dataset.PhotometricInterpretation = "MONOCHROME2" if len(shape) == 2 else "RGB"
    if dataset.SamplesPerPixel == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = values.itemsize * 8
    dataset.BitsStored = bits_stored or values.itemsize * 8
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    if num_frames is not None:
        dataset.NumberOfFrames = num_frames
    return dataset


def dicom(
    values: np.ndarray,
    *,
    syntax: str = uid.ExplicitVRLittleEndian,
    num_frames: int | None = None,
    bits_stored: int | None = None,
    frames: list[bytes] | None = None,
    **elements: Any,
) -> bytes:
    """A file of `values`; with `frames`, these hold the compressed samples. `elements` replace the header's."""
    dataset = header(values, num_frames=num_frames, bits_stored=bits_stored)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    if frames is None:
        order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
        data = values.astype(values.dtype.newbyteorder(order)).tobytes()
        dataset.PixelData = data + b"\x00" * (len(data) % 2)
    else:
        dataset.PixelData = encapsulate(frames)
        dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB" if values.itemsize == 1 or frames else "OW"
    return saved(dataset, syntax)


def saved(dataset: Dataset, syntax: str = uid.ExplicitVRLittleEndian) -> bytes:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def nifti(
    values: np.ndarray,
    affine: np.ndarray | None = None,
    *,
    slope: float | None = None,
    intercept: float = 0.0,
    version: int = 1,
    zipped: bool = False,
) -> bytes:
    """A volume; the affine's default says that axes run right, anterior, superior."""
    kind = {1: nibabel.Nifti1Image, 2: nibabel.Nifti2Image}[version]
    image = kind(values, np.eye(4) if affine is None else affine, dtype=values.dtype)
    image.header.set_data_dtype(values.dtype)
    data = bytearray(image.to_bytes())
    if slope is not None:
        fields = image.header.template_dtype.fields
        for name, value in (("scl_slope", slope), ("scl_inter", intercept)):
            dtype, at = fields[name][:2]
            data[at : at + dtype.itemsize] = np.array(value, dtype).tobytes()
    return gzip.compress(bytes(data), mtime=0) if zipped else bytes(data)
