"""Files of many frames are opened once and give one frame at a time, the same that reading that page gives."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import tifffile
from medical_files import dicom, header, item, nifti, saved
from PIL import Image
from pydicom import uid  # noqa: TID251
from pydicom.dataset import Dataset  # noqa: TID251
from pydicom.sequence import Sequence  # noqa: TID251

from microscopy_cls.errors import ConfigError, ImageError
from microscopy_cls.images import decode, is_stack, read_stack

FRAMES = np.random.default_rng(0).integers(0, 4096, (4, 12, 16)).astype(np.uint16)
FRAMES[2] //= 4
VOLUME = {"SOPClassUID": uid.EnhancedCTImageStorage}
CINE = dicom(FRAMES, num_frames=4, SOPClassUID=uid.UltrasoundMultiFrameImageStorage)
ENHANCED = dicom(FRAMES, num_frames=4, **VOLUME)
NIFTI = nifti(FRAMES.transpose(2, 1, 0).copy(), zipped=True)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 5)).save(buffer, "PNG")
    return buffer.getvalue()


def windowed(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("data", "file_format", "kind"),
    [(CINE, "DICOM", "frames"), (ENHANCED, "DICOM", "volume"), (NIFTI, "NIFTI", "volume")],
)
def test_a_frame_is_what_reading_its_page_gives(tmp_path: Path, data: bytes, file_format: str, kind: str) -> None:
    path = tmp_path / "scan"
    path.write_bytes(data)
    stack = read_stack(path)
    assert (stack.format, stack.num_frames, stack.kind) == (file_format, 4, kind)
    for index in range(4):
        np.testing.assert_array_equal(stack.frame(index).pixels, decode(data, page=index).pixels)
    with pytest.raises(ImageError, match=r"scan: page 4 asked, has 4 pages"):
        stack.frame(4)


def test_pictures_in_time_are_scaled_each_and_slices_of_a_volume_together() -> None:
    cine, volume = read_stack(CINE), read_stack(ENHANCED)
    for index, frame in enumerate(FRAMES):
        single = windowed(frame, *np.percentile(frame, [0.1, 99.9]))
        together = windowed(frame, *np.percentile(FRAMES, [0.1, 99.9]))
        np.testing.assert_array_equal(cine.frame(index).pixels[..., 0], single)
        np.testing.assert_array_equal(volume.frame(index).pixels[..., 0], together)


def per_frame(**groups: list[dict[str, object]]) -> Sequence:
    """Functional groups: of each frame one item with the given sequences."""
    frames = []
    for place in range(len(FRAMES)):
        dataset = Dataset()
        for keyword, values in groups.items():
            setattr(dataset, keyword, item(**values[place]))
        frames.append(dataset)
    return Sequence(frames)


def test_enhanced_files_scale_each_frame_and_show_a_volume_through_one_window() -> None:
    groups = per_frame(
        PixelValueTransformationSequence=[
            {"RescaleSlope": 2 if place == 3 else 1, "RescaleIntercept": -1000, "RescaleType": "HU"}
            for place in range(4)
        ],
        FrameVOILUTSequence=[{"WindowCenter": 500.5 + place, "WindowWidth": 1001} for place in range(4)],
    )
    volume = read_stack(dicom(FRAMES, num_frames=4, PerFrameFunctionalGroupsSequence=groups, **VOLUME))
    cine = read_stack(dicom(FRAMES, num_frames=4, PerFrameFunctionalGroupsSequence=groups))
    values = FRAMES[3] * 2.0 - 1000
    shown, alone = volume.frame(3).pixels[..., 0], cine.frame(3).pixels[..., 0]
    np.testing.assert_allclose(shown.astype(int), windowed(values, 0, 1000), atol=1)
    np.testing.assert_allclose(alone.astype(int), windowed(values, 3, 1003), atol=1)


def test_what_all_frames_share_is_found() -> None:
    shared = item(FrameVOILUTSequence=item(WindowCenter=2000.5, WindowWidth=2001))
    stack = read_stack(dicom(FRAMES, num_frames=4, SharedFunctionalGroupsSequence=shared, **VOLUME))
    expected = windowed(FRAMES[1], 1000, 3000)
    np.testing.assert_allclose(stack.frame(1).pixels[..., 0].astype(int), expected, atol=1)


def test_a_single_picture_is_a_stack_of_one_if_asked_for_but_none_by_itself() -> None:
    data = dicom(FRAMES[0])
    assert (read_stack(data).num_frames, read_stack(data).kind) == (1, "frames")
    assert not is_stack(data)


def test_volumes_and_files_of_many_frames_are_stacks(tmp_path: Path) -> None:
    pages = io.BytesIO()
    tifffile.imwrite(pages, FRAMES, photometric="minisblack")
    samples = {
        "cine.dcm": (CINE, True),
        "one.dcm": (dicom(FRAMES[0]), False),
        "volume.nii.gz": (NIFTI, True),
        "slice.nii": (nifti(FRAMES[0]), True),
        "report.dcm": (saved(header(FRAMES[0])), False),
        "broken.dcm": (CINE[:200], False),
        "cell.png": (png(), False),
        "pages.tif": (pages.getvalue(), False),
        "empty.dcm": (b"", False),
        "text.nii": (b"not a volume", False),
    }
    for name, (data, expected) in samples.items():
        (tmp_path / name).write_bytes(data)
        assert is_stack(tmp_path / name) is expected, name
        assert is_stack(data) is expected, name


def test_what_is_no_file_is_no_stack_and_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    for path in (tmp_path, tmp_path / "missing.dcm", tmp_path / "pipe.dcm", Path("nul\x00.dcm")):
        assert not is_stack(path)


def test_other_formats_are_refused() -> None:
    with pytest.raises(ImageError, match="plate 3: is a PNG image and no stack of frames: read it as an image"):
        read_stack(png(), name="plate 3")
    with pytest.raises(ImageError, match="is not an image: it starts like a text"):
        read_stack(b"not an image\n")
    with pytest.raises(ImageError, match="is truncated"):
        read_stack(NIFTI[:-20])
    with pytest.raises(ConfigError, match=r"data.intensity is \[5, 1\]"):
        read_stack(CINE, intensity=(5, 1))


def test_channels_of_colour_frames_are_chosen() -> None:
    colours = np.random.default_rng(1).integers(0, 256, (2, 6, 8, 3), dtype=np.uint8)
    stack = read_stack(dicom(colours, num_frames=2), channels=(2, 1, 0))
    np.testing.assert_array_equal(stack.frame(1).pixels, colours[1, ..., ::-1])
    with pytest.raises(ImageError, match=r"channel 1 asked, has 1 channel \(counted from 0; data.channels\)"):
        read_stack(CINE, channels=(1,)).frame(0)


def test_threads_read_frames_side_by_side() -> None:
    stack, results = read_stack(ENHANCED), {}
    threads = [threading.Thread(target=lambda at=at: results.setdefault(at, stack.frame(at % 4))) for at in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, result in results.items():
        np.testing.assert_array_equal(result.pixels, stack.frame(at % 4).pixels)
    assert len(results) == 16
