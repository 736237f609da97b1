"""DICOM as Pillow sees other pictures: one frame, windowed to eight bits as a viewer shows it.

Stored values, the modality's rescaling, the window or look-up table of the file (DICOM PS3.3
C.11.1 and C.11.2), and MONOCHROME1 turned round, so that white is white: all by pydicom. A file
without window or table is stretched over its own values, padding apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageFile
from pydicom import dcmread
from pydicom.pixels import apply_color_lut, apply_rescale, apply_windowing

_GREY = ("MONOCHROME1", "MONOCHROME2")
# so many widths from a window's centre, its function has reached its ends
_FAR = 1e4


class DicomImageFile(ImageFile.ImageFile):  # type: ignore[misc]
    """One DICOM picture, in mode L or RGB. Raises OSError for more frames than one, or none."""

    format = "DICOM"
    format_description = "Digital Imaging and Communications in Medicine"

    def _open(self) -> None:
        self._dataset = dcmread(self.fp)
        if "PixelData" not in self._dataset:
            what = self._dataset.get("Modality") or "its kind is not told"
            raise OSError(f"DICOM without pixels ({what})")
        frames = int(self._dataset.get("NumberOfFrames") or 1)
        if frames != 1:
            raise OSError(
                f"DICOM of {frames} frames, and a picture is one; save each as a file of its own"
            )
        self._size = (int(self._dataset.Columns), int(self._dataset.Rows))
        self._mode = "L" if self._dataset.PhotometricInterpretation in _GREY else "RGB"
        self.tile: list[Any] = []
        self._decoded = False

    def load(self) -> Any:
        """Decode the pixels. Raises OSError with the reason where pydicom cannot."""
        if not self._decoded:
            eight = _grey if self._mode == "L" else _colours
            self.im = Image.fromarray(eight(self._dataset, _stored(self._dataset))).im
            self._decoded = True
        return super().load()


def register() -> str:
    """Let Pillow open DICOM by DicomImageFile; returns the name of the format."""
    Image.register_open(DicomImageFile.format, DicomImageFile, None)
    return DicomImageFile.format


def _stored(dataset: Any) -> np.ndarray:
    """The stored values. Raises OSError for what is damaged or wants another decoder."""
    try:
        values: np.ndarray = dataset.pixel_array
    except (RuntimeError, NotImplementedError) as error:
        if "missing" not in str(error):
            raise
        syntax = dataset.file_meta.TransferSyntaxUID.name
        raise OSError(
            f"DICOM in {syntax}, for which pydicom wants a plugin: pip install pylibjpeg "
            "pylibjpeg-libjpeg pylibjpeg-openjpeg"
        ) from error
    return values


def _grey(dataset: Any, pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W], black to white as a viewer shows it."""
    if dataset.get("ModalityLUTSequence"):
        values = _looked_up(pixels, dataset.ModalityLUTSequence[0])
    else:
        values = apply_rescale(pixels, dataset).astype(np.float64)
    if dataset.get("VOILUTSequence"):
        low, high = 0.0, 2.0 ** int(dataset.VOILUTSequence[0].LUTDescriptor[2]) - 1
        values = _looked_up(values, dataset.VOILUTSequence[0])
    elif dataset.get("WindowCenter") is not None and dataset.get("WindowWidth") is not None:
        centre, width = _first(dataset.WindowCenter), _first(dataset.WindowWidth)
        ends = np.array([centre - _FAR * width, centre + _FAR * width])
        with np.errstate(over="ignore"):
            windowed = apply_windowing(np.append(values, ends), dataset)
        low, high = windowed[-2:]
        values = windowed[:-2].reshape(values.shape)
    else:
        shown = values[pixels != dataset.get("PixelPaddingValue", object())]
        low, high = (shown.min(), shown.max()) if shown.size else (0.0, 0.0)
    spread = (high - low) or 1.0
    eight = np.rint(np.clip((values - low) / spread, 0.0, 1.0) * 255.0).astype(np.uint8)
    inverted = dataset.PhotometricInterpretation == "MONOCHROME1"
    return np.asarray(255 - eight if inverted else eight)


def _looked_up(values: np.ndarray, item: Any) -> np.ndarray:
    """The values by a look-up table (C.11.1.1), float64.

    pydicom's own takes 256 entries at most where the results have eight bits.
    """
    entries, first = int(item.LUTDescriptor[0]) or 2**16, int(item.LUTDescriptor[1])
    if first >= 2**15 and values.min() < 0:
        first -= 2**16  # written as unsigned
    table = item.LUTData
    if isinstance(table, bytes):
        table = np.frombuffer(table, "<u2" if len(table) >= 2 * entries else "u1")
    place = np.clip(np.rint(values).astype(np.int64) - first, 0, entries - 1)
    found: np.ndarray = np.asarray(table, dtype=np.float64)[place]
    return found


def _colours(dataset: Any, pixels: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]; pydicom has made RGB of YBR, a palette is looked up here."""
    bits = int(dataset.BitsStored)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
        bits = pixels.dtype.itemsize * 8
    if bits != 8:  # noqa: PLR2004  as they are
        pixels = np.rint(pixels * (255.0 / (2**bits - 1)))
    return np.ascontiguousarray(pixels.astype(np.uint8)[..., :3])


def _first(value: Any) -> float:
    """The window that a viewer shows first, of a file with several."""
    return float(value if isinstance(value, (str, int, float)) else value[0])
