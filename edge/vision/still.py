"""A still image to what a model takes: grey levels 0..255 in the model's shape.

Owns decoding and resizing, by OpenCV. Decoding is bounded: an image that claims to be enormous is
refused before it is unpacked.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from edge.errors import StartError

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES = 64 << 20
MAX_PIXELS = 1 << 26
MAX_STRETCH = 1.5
"""How far the sides' ratio may differ from the model's: a round heart must not become flat."""


def read_still(data: bytes, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """An encoded image (PNG, JPEG, ...) or `.npy` levels as float32 `shape`, `[1, h, w]`.

    Raises `StartError` for what is no image, too large, or of a quite other shape.
    """
    if len(shape) != 3 or shape[0] != 1:
        raise StartError(f"images of {list(shape)} are not read", "use a bundle of grey images")
    grey = _decoded(data)
    ratio = (grey.shape[1] / grey.shape[0]) / (shape[2] / shape[1])
    if not 1 / MAX_STRETCH <= ratio <= MAX_STRETCH:
        raise StartError(
            f"the image is {grey.shape[1]} by {grey.shape[0]}, the model takes "
            f"{shape[2]} by {shape[1]}",
            "cut it to the part and proportions that the model was trained on",
        )
    if grey.shape != shape[1:]:
        shrinks = grey.shape[0] >= shape[1]
        cv2 = _opencv()
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        grey = cv2.resize(grey, (shape[2], shape[1]), interpolation=how)
    return np.asarray(grey, np.float32)[None]


def _decoded(data: bytes) -> NDArray[np.uint8]:
    """Grey levels `[h, w]`."""
    if len(data) > MAX_BYTES:
        raise StartError(f"the image has {len(data)} bytes", f"{MAX_BYTES} are allowed")
    if data.startswith(b"\x93NUMPY"):
        return _levels(data)
    cv2 = _opencv()
    try:
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:  # more pixels than it allows, or an empty buffer
        raise StartError(f"the image cannot be decoded ({error.err})", "save it again") from None
    if grey is None or grey.size > MAX_PIXELS:
        raise StartError("the input is no image that can be decoded", "give a PNG or a JPEG")
    return np.asarray(grey, np.uint8)


def _levels(data: bytes) -> NDArray[np.uint8]:
    """uint8 `[h, w]` of an `.npy`, never a pickle."""
    try:
        levels = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError) as error:
        raise StartError(f"the array cannot be read ({error})", "save it with numpy.save") from None
    if levels.dtype != np.uint8 or levels.ndim != 2 or not levels.size:
        raise StartError(
            f"the array is {levels.dtype} {list(levels.shape)}", "give uint8 levels [h, w]"
        )
    return np.asarray(levels)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise StartError(
            f"OpenCV is missing ({error})",
            "pip install '.[camera]' in medge's folder, or give a .npy of levels",
        ) from None
    return cv2
