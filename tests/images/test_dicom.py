"""DICOM comes out as a viewer shows it, whatever its encoding, and nothing of the patient comes with it."""

from __future__ import annotations

import dataclasses
import io
import sys
import traceback
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom  # noqa: TID251
import pytest
from corruption import errors_of_corruptions
from medical_files import PATIENT, PATIENT_ID, dicom, item, saved
from PIL import Image
from pydicom import uid  # noqa: TID251

from microscopy_cls.errors import ImageError
from microscopy_cls.images import decode

YY, XX = np.mgrid[0:24, 0:32]
GREY = (XX * 7 + YY).astype(np.uint8)
RGB = np.stack([XX * 7, YY * 9, 255 - XX * 4 - YY * 5], -1).astype(np.uint8)
DEEP = (XX * 100 + YY * 30).astype(np.uint16)  # 12 bits
SIGNED = DEEP.astype(np.int16) - 1024
FULL = {"intensity": "full"}


def reason_of(source: Path | bytes, **options: object) -> str:
    with pytest.raises(ImageError) as caught:
        decode(source, **options)  # type: ignore[arg-type]
    return caught.value.reason


def grey_of(data: bytes, **options: object) -> np.ndarray:
    pixels = decode(data, **options).pixels  # type: ignore[arg-type]
    np.testing.assert_array_equal(pixels, np.repeat(pixels[..., :1], 3, axis=2))
    return pixels[..., 0]


def windowed(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((values.astype(float) - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def jpeg(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def table_of(values: np.ndarray) -> bytes:
    return values.astype("<u2").tobytes()


def rle(values: np.ndarray) -> bytes:
    dataset = pydicom.dcmread(io.BytesIO(dicom(values)))
    dataset.compress(uid.RLELossless)
    return saved(dataset, uid.RLELossless)


def compressed(syntax: str, frame: bytes, values: np.ndarray, **elements: Any) -> bytes:
    return dicom(values, syntax=syntax, frames=[frame], **elements)


DEEP_FILES = {
    "little": dicom(DEEP, bits_stored=12),
    "implicit": dicom(DEEP, bits_stored=12, syntax=uid.ImplicitVRLittleEndian),
    "big": dicom(DEEP, bits_stored=12, syntax=uid.ExplicitVRBigEndian),
    "deflated": dicom(DEEP, bits_stored=12, syntax=uid.DeflatedExplicitVRLittleEndian),
    "rle": rle(DEEP),
    "jpeg 2000": compressed(
        uid.JPEG2000Lossless, imagecodecs.jpeg2k_encode(DEEP, codecformat="j2k", level=0, reversible=True), DEEP
    ),
    "jpeg-ls": compressed(uid.JPEGLSLossless, imagecodecs.jpegls_encode(DEEP), DEEP),
    "jpeg lossless": compressed(uid.JPEGLosslessSV1, imagecodecs.ljpeg_encode(DEEP, bitspersample=16), DEEP),
}
COLOUR_FILES = {
    "interleaved": dicom(RGB),
    "planar": dicom(np.ascontiguousarray(RGB.transpose(2, 0, 1)), Rows=24, Columns=32, SamplesPerPixel=3,
                    PhotometricInterpretation="RGB", PlanarConfiguration=1),
    "rle": rle(RGB),
    "jpeg 2000": compressed(
        uid.JPEG2000Lossless, imagecodecs.jpeg2k_encode(RGB, codecformat="j2k", level=0, reversible=True, mct=True),
        RGB, PhotometricInterpretation="YBR_RCT",
    ),
    "jpeg-ls": compressed(uid.JPEGLSLossless, imagecodecs.jpegls_encode(RGB), RGB),
    "jpeg": compressed(uid.JPEGBaseline8Bit, jpeg(RGB), RGB, PhotometricInterpretation="YBR_FULL"),
    "ybr": dicom(np.array(Image.fromarray(RGB).convert("YCbCr")), PhotometricInterpretation="YBR_FULL"),
}  # fmt: skip
FILES = {f"grey {name}": data for name, data in DEEP_FILES.items()} | {
    f"colour {name}": data for name, data in COLOUR_FILES.items()
}


@pytest.mark.parametrize("name", DEEP_FILES)
def test_every_encoding_of_grey_gives_the_same_picture(name: str) -> None:
    result = decode(DEEP_FILES[name], intensity=(0, 4095))
    assert (result.format, result.channels, result.width_px, result.height_px) == ("DICOM", 1, 32, 24)
    np.testing.assert_array_equal(result.pixels[..., 1], windowed(DEEP, 0, 4095))


@pytest.mark.parametrize("name", COLOUR_FILES)
def test_every_encoding_of_colours_gives_the_same_picture(name: str) -> None:
    result = decode(COLOUR_FILES[name])
    assert (result.format, result.channels, result.bit_depth) == ("DICOM", 3, 8)
    assert np.abs(result.pixels.astype(int) - RGB).mean() < (3 if name == "jpeg" else 1)


def test_eight_bits_stay_as_they_are() -> None:
    np.testing.assert_array_equal(grey_of(dicom(GREY)), GREY)
    np.testing.assert_array_equal(grey_of(dicom(GREY), intensity=(0, 9)), GREY)


def test_half_stored_colours_are_completed() -> None:
    ybr = np.array(Image.fromarray(np.repeat(RGB[:, ::2], 2, axis=1)).convert("YCbCr"))
    pairs = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], axis=-1)
    data = dicom(pairs, Rows=24, Columns=32, SamplesPerPixel=3, PhotometricInterpretation="YBR_FULL_422",
                 PlanarConfiguration=0)  # fmt: skip
    assert np.abs(decode(data).pixels.astype(int) - np.repeat(RGB[:, ::2], 2, axis=1)).mean() < 1


def test_twelve_bit_jpeg() -> None:
    frame = imagecodecs.jpeg8_encode(DEEP, level=98, bitspersample=12)
    data = compressed(uid.JPEGExtended12Bit, frame, DEEP, BitsStored=12, HighBit=11)
    assert decode(data).bit_depth == 12
    assert np.abs(grey_of(data, **FULL).astype(int) - windowed(DEEP, 0, 4095)).mean() < 2


def test_full_is_the_range_of_the_stored_bits() -> None:
    np.testing.assert_array_equal(grey_of(dicom(DEEP, bits_stored=12), **FULL), windowed(DEEP, 0, 4095))
    signed = dicom(SIGNED, bits_stored=13, RescaleSlope=2, RescaleIntercept=-5)
    np.testing.assert_array_equal(grey_of(signed, **FULL), windowed(SIGNED, -4096, 4095))
    falling = dicom(DEEP, bits_stored=12, RescaleSlope=-1, RescaleIntercept=0)
    np.testing.assert_array_equal(grey_of(falling, **FULL), windowed(4095 - DEEP.astype(int), 0, 4095))


def test_a_configured_window_is_in_the_modalitys_units_and_overrules_the_file() -> None:
    data = dicom(DEEP, RescaleSlope=0.5, RescaleIntercept=-1000, WindowCenter=0, WindowWidth=10)
    expected = windowed(DEEP * 0.5 - 1000, -500, 300)
    np.testing.assert_allclose(grey_of(data, intensity=(-500, 300)).astype(int), expected, atol=1)


@pytest.mark.parametrize(
    ("window", "low", "high"),
    [
        ({"WindowCenter": 40, "WindowWidth": 401}, -160.5, 239.5),
        ({"WindowCenter": [40, 7], "WindowWidth": [401, 9]}, -160.5, 239.5),
        ({"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"}, -160, 240),
        ({"WindowCenter": 40, "WindowWidth": 1}, 39.5, 40.5),
    ],
)
def test_the_files_window_is_the_default(window: dict[str, Any], low: float, high: float) -> None:
    data = dicom(SIGNED, RescaleSlope=1, RescaleIntercept=-24, **window)
    np.testing.assert_array_equal(grey_of(data), windowed(SIGNED - 24, low, high))


def test_a_window_of_the_file_holds_for_eight_bits_too() -> None:
    data = dicom(GREY, WindowCenter=100.5, WindowWidth=101)
    np.testing.assert_array_equal(grey_of(data), windowed(GREY, 50, 150))


def test_a_sigmoid_window() -> None:
    data = dicom(SIGNED, WindowCenter=40, WindowWidth=400, VOILUTFunction="SIGMOID")
    np.testing.assert_array_equal(grey_of(data), np.rint(255 / (1 + np.exp(-4 * (SIGNED - 40.0) / 400))))


@pytest.mark.parametrize("window", [{"WindowCenter": 9, "WindowWidth": 0}, {"WindowCenter": 9}, {}])
def test_without_a_usable_window_percentiles_are_taken(window: dict[str, Any]) -> None:
    low, high = np.percentile(SIGNED, [0.1, 99.9])
    np.testing.assert_array_equal(grey_of(dicom(SIGNED, **window)), windowed(SIGNED, low, high))


def test_a_display_table_of_the_file_is_the_default() -> None:
    table = item(LUTDescriptor=[4096, 0, 12], LUTData=table_of(4095 - np.arange(4096)))
    data = dicom(DEEP, bits_stored=12, VOILUTSequence=table, WindowCenter=9, WindowWidth=9)
    np.testing.assert_array_equal(grey_of(data), windowed(4095 - DEEP.astype(int), 0, 4095))
    impossible = item(LUTDescriptor=[4, 0, 0], LUTData=table_of(np.arange(4)))
    reason = "is damaged: its display table has an impossible number of bits"
    assert reason_of(dicom(DEEP, VOILUTSequence=impossible)) == reason


def test_a_modality_table_comes_first() -> None:
    table = item(LUTDescriptor=[4096, 0, 16], LUTData=table_of(3 * np.arange(4096)), ModalityLUTType="US")
    data = dicom(DEEP, bits_stored=12, ModalityLUTSequence=table)
    np.testing.assert_array_equal(grey_of(data, intensity=(0, 3 * 4095)), windowed(DEEP, 0, 4095))


def test_where_high_values_are_dark_the_picture_is_inverted() -> None:
    data = dicom(DEEP, bits_stored=12, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(grey_of(data, **FULL), 255 - windowed(DEEP, 0, 4095))


@pytest.mark.parametrize("scale", [1, 257])
def test_a_palette_of_sixteen_bits_or_of_eight_in_sixteen(scale: int) -> None:
    tables = {}
    for place, colour in enumerate(("Red", "Green", "Blue")):
        values = (np.arange(256) * (place + 1) % 256 * scale).astype("<u2")
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        tables[f"{colour}PaletteColorLookupTableData"] = values.tobytes()
    result = decode(dicom(GREY, PhotometricInterpretation="PALETTE COLOR", **tables))
    assert result.channels == 1
    expected = np.stack([GREY.astype(int) * factor % 256 for factor in (1, 2, 3)], axis=-1)
    np.testing.assert_array_equal(result.pixels, expected)


def test_one_bit_a_pixel() -> None:
    bits = XX % 3 == 0
    packed = np.packbits(bits, axis=None, bitorder="little")
    data = dicom(packed.reshape(24, 4), Columns=32, BitsAllocated=1, BitsStored=1, HighBit=0)
    np.testing.assert_array_equal(grey_of(data), bits * 255)


def test_colours_can_be_chosen() -> None:
    np.testing.assert_array_equal(decode(dicom(RGB), channels=(1,)).pixels, np.repeat(RGB[..., 1:2], 3, axis=2))


def test_a_frame_is_a_page() -> None:
    data = dicom(np.stack([RGB, 255 - RGB]), num_frames=2)
    np.testing.assert_array_equal(decode(data).pixels, RGB)
    np.testing.assert_array_equal(decode(data, page=1).pixels, 255 - RGB)
    assert reason_of(data, page=2) == "page 2 asked, has 2 pages (counted from 0; data.page)"


def without_signature(data: bytes) -> bytes:
    """The data set alone, as some archives send it."""
    dataset = pydicom.dcmread(io.BytesIO(data))
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, pydicom.Dataset(dataset), implicit_vr=False, little_endian=True)
    return buffer.getvalue()


def test_without_a_signature_name_and_content_have_to_agree(tmp_path: Path) -> None:
    bare = without_signature(dicom(GREY))
    assert bare[128:132] != b"DICM"
    np.testing.assert_array_equal(grey_of(bare, name="a/IMG.DCM"), GREY)
    (tmp_path / "scan.dicom").write_bytes(bare)
    assert decode(tmp_path / "scan.dicom").format == "DICOM"
    assert reason_of(bare, name="scan.png").startswith("is not an image")
    assert reason_of(b"this is not an image\n", name="text.dcm") == "is not an image: it starts like a text"


def test_a_large_image_is_refused_before_it_is_decoded() -> None:
    data = compressed(uid.JPEGBaseline8Bit, jpeg(GREY), GREY, Rows=60_000, Columns=60_000)
    expected = "claims 60000 x 60000 pixels, more than the limit of 300,000,000 (data.max_pixels)"
    assert reason_of(data) == expected


@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEG2000Lossless, uid.JPEGLSLossless])
def test_a_frame_larger_than_its_header_says_is_refused(syntax: str) -> None:
    encode = {
        uid.JPEGBaseline8Bit: jpeg,
        uid.JPEG2000Lossless: lambda values: imagecodecs.jpeg2k_encode(values, codecformat="j2k"),
        uid.JPEGLSLossless: imagecodecs.jpegls_encode,
    }[syntax]
    data = compressed(syntax, encode(np.tile(GREY, (4, 4))), GREY)
    assert reason_of(data) == "is damaged: its frame has another size than its header says"


def test_a_jpeg_2000_file_in_a_frame_is_read_and_a_box_without_length_does_not_hang() -> None:
    frame = imagecodecs.jpeg2k_encode(DEEP, codecformat="jp2", level=0, reversible=True)
    whole = compressed(uid.JPEG2000Lossless, frame, DEEP)
    np.testing.assert_array_equal(grey_of(whole, intensity=(0, 4095)), windowed(DEEP, 0, 4095))
    broken = compressed(uid.JPEG2000Lossless, frame[:12] + bytes(4) + frame[16:], DEEP)
    assert reason_of(broken) == "is damaged: its frame has another size than its header says"


def test_a_deflated_bomb_is_not_inflated() -> None:
    data = dicom(np.zeros((3000, 3000), np.uint8), syntax=uid.DeflatedExplicitVRLittleEndian, Rows=2, Columns=2)
    assert reason_of(data, max_pixels=1000) == "inflates to more than the limit on pixels allows (data.max_pixels)"


def report(sop_class: str, **elements: Any) -> bytes:
    dataset = pydicom.Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.PatientName = sop_class, "1.2.3", PATIENT
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return saved(dataset)


def test_what_holds_no_image_is_named() -> None:
    assert reason_of(report(uid.BasicTextSRStorage)) == "is a DICOM file without an image (Basic Text SR Storage)"
    expected = "is a DICOM file without an image (RT Structure Set Storage)"
    assert reason_of(report(uid.RTStructureSetStorage)) == expected
    directory = report("1.2.840.10008.1.3.10", DirectoryRecordSequence=item(DirectoryRecordType="PATIENT"))
    assert reason_of(directory) == "is a DICOM file without an image (a directory of other files, DICOMDIR)"
    assert reason_of(report("1.2.3.4.5")) == "is a DICOM file without an image (an unknown kind of object)"
    expected = "is damaged or no image: its DICOM header does not say what it describes"
    assert reason_of(bytes(128) + b"DICM" + bytes(64)) == expected
    assert reason_of(bytes(128) + b"DICM") == "is truncated: its DICOM data set ends early"


def test_a_slide_is_sent_elsewhere() -> None:
    data = dicom(RGB, SOPClassUID=uid.VLWholeSlideMicroscopyImageStorage)
    expected = "is a slide (VL Whole Slide Microscopy Image Storage), not one image: classify it as a slide"
    assert reason_of(data) == expected


@pytest.mark.parametrize("keyword", ["Rows", "Columns", "BitsAllocated", "SamplesPerPixel"])
def test_an_incomplete_header_names_what_is_missing(keyword: str) -> None:
    dataset = pydicom.dcmread(io.BytesIO(dicom(DEEP)))
    delattr(dataset, keyword)
    assert reason_of(saved(dataset)) == f"has an incomplete DICOM header: {keyword} is missing"


def test_an_impossible_header_names_what_is_wrong() -> None:
    assert reason_of(dicom(DEEP, Rows=0)) == "has a damaged DICOM header: Rows is not positive"
    expected = "is a DICOM file of neither 1 nor 3 samples a pixel, which is not supported: save RGB"
    assert reason_of(dicom(DEEP, SamplesPerPixel=4)) == expected
    hsv = dicom(RGB, PhotometricInterpretation="HSV")
    assert reason_of(hsv) == "stores colours as HSV, which is not supported: save RGB"
    other = dicom(RGB, PhotometricInterpretation="DOE")
    assert reason_of(other) == "stores colours as an unknown model, which is not supported: save RGB"


def test_other_transfer_syntaxes_are_named() -> None:
    data = compressed(uid.MPEG2MPML, b"\x00\x00\x01\xb3", RGB)
    assert reason_of(data) == (
        "is encoded as MPEG2 Main Profile / Main Level, which is not supported: save it as Explicit VR Little Endian"
    )
    unknown = COLOUR_FILES["jpeg"].replace(uid.JPEGBaseline8Bit.encode(), b"1.2.840.10008.1.2.9.50")
    assert reason_of(unknown).startswith("is encoded as an unknown transfer syntax, which is not supported")


def test_a_compressed_file_has_to_say_how() -> None:
    dataset = pydicom.dcmread(io.BytesIO(COLOUR_FILES["jpeg"]))
    del dataset.file_meta.TransferSyntaxUID
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=True)
    reason = reason_of(buffer.getvalue(), name="a.dcm")
    assert reason == "is compressed, but does not say how (its transfer syntax is missing)"


@pytest.mark.parametrize("name", FILES)
def test_half_a_file_is_called_truncated(name: str) -> None:
    data = FILES[name]
    expected = ("is truncated", "is damaged") if name in ("grey deflated", "colour jpeg-ls") else "is truncated"
    assert reason_of(data[: len(data) // 2]).startswith(expected)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_an_error_or_whole(name: str) -> None:
    data = FILES[name]
    whole = decode(data).pixels
    for size in range(0, len(data), 17):
        try:
            pixels = decode(data[:size]).pixels
        except ImageError:
            continue
        np.testing.assert_array_equal(pixels, whole)


@pytest.mark.parametrize("name", FILES)
def test_any_corruption_gives_pixels_or_an_image_error_and_no_noise(
    name: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    errors = errors_of_corruptions(FILES[name], name, 150, name="x.dcm")
    assert len(errors) > 20
    for error in errors:
        told = "".join(traceback.format_exception(error))
        assert PATIENT not in told
        assert PATIENT_ID not in told
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PhotometricInterpretation", "MONOCHROME2"),
        ("RescaleSlope", "1.23456789"),
        ("WindowCenter", "17.2345678"),
        ("NumberOfFrames", "0000000001"),
        ("SOPClassUID", "1.2.3.4.5.6.7"),
    ],
)
def test_a_patients_name_in_the_wrong_place_is_not_told(
    keyword: str, value: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    elements = {"RescaleSlope": "2", "RescaleIntercept": "0", "WindowCenter": "9", "WindowWidth": "9", keyword: value}
    data = dicom(DEEP, **elements)
    planted = data.replace(value.encode(), PATIENT.encode().ljust(len(value)))
    assert planted != data
    if keyword in ("SOPClassUID", "WindowCenter"):  # the picture does not depend on them
        assert decode(planted).format == "DICOM"
        return
    with pytest.raises(ImageError) as caught:
        decode(planted)
    assert "Doe" not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_nothing_but_pixels_and_technical_facts_is_returned() -> None:
    result = decode(DEEP_FILES["little"])
    names = {field.name for field in dataclasses.fields(result)}
    assert names == {"pixels", "format", "width_px", "height_px", "channels", "bit_depth"}


def test_without_pydicom_the_reason_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("pydicom", "microscopy_cls.images.dicom"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    expected = "is a DICOM file, and reading those needs pydicom: pip install 'microscopy-cls[medical]'"
    assert reason_of(DEEP_FILES["little"]) == expected
