"""Decoding of image files, with limits on the dimensions in the header before any pixel is decoded.

A small compressed file can contain a huge picture ("decompression bomb").
"""

import hashlib
import io
import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ollama_tw.interfaces import InvalidImages

MAX_IMAGES = 64
"""Maximum number of images of a job."""
MAX_BYTES = 64 << 20
"""Maximum bytes of an image file."""
MAX_PIXELS = 64 << 20
"""Maximum pixels of an image; four bytes each while it is decoded."""
MAX_TOTAL_PIXELS = 128 << 20
"""Maximum pixels of all images of a job."""
MAX_SIDE = 16384
"""Maximum width and height of an image in pixels."""
MAX_ASPECT_RATIO = 200
"""Maximum ratio of the longer side to the shorter one."""

MAX_KEPT_PIXELS = 16 << 20
"""Pixels beyond which an image is reduced by a whole factor: more than any model uses."""

# Decoding takes several times the memory of the picture: one image of all requests at a time.
_decoding = threading.Lock()

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")


@dataclass(frozen=True)
class Picture:
    """``width`` times ``height`` pixels, three bytes each (red, green, blue), row by row from the top."""

    width: int
    height: int
    pixels: bytes
    digest: str
    """The SHA-256 of the file, in hexadecimal."""


def decode(files: Sequence[bytes]) -> list[Picture]:
    """Return the pictures in ``files``, of an animation the first frame.

    Raises :class:`InvalidImages`.
    """
    if len(files) > MAX_IMAGES:
        raise InvalidImages(f"the prompt has {len(files)} images: the maximum is {MAX_IMAGES}")
    opened = [_open(data, number) for number, data in enumerate(files, 1)]
    if sum(image.width * image.height for image in opened) > MAX_TOTAL_PIXELS:
        raise InvalidImages(f"the images have more than {MAX_TOTAL_PIXELS} pixels in total")
    pictures = []
    for number, (image, data) in enumerate(zip(opened, files, strict=True), 1):
        with _decoding:
            pictures.append(_decode(image, data, number))
    return pictures


def _open(data: bytes, number: int) -> Any:
    """Open an image, of which only the header is read, and check its dimensions."""
    if len(data) > MAX_BYTES:
        raise InvalidImages(f"image {number} has {len(data)} bytes: the maximum is {MAX_BYTES}")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise InvalidImages(f"image {number} has more than {MAX_PIXELS} pixels") from error
    # A damaged file may raise any exception in the decoder.
    except Exception as error:
        raise InvalidImages(f"image {number} is not a PNG, JPEG, WebP, GIF or BMP file") from error
    short, long = sorted(image.size)
    if image.width * image.height > MAX_PIXELS:
        raise InvalidImages(f"image {number} has more than {MAX_PIXELS} pixels")
    if long > MAX_SIDE or long > MAX_ASPECT_RATIO * short:
        raise InvalidImages(
            f"image {number} has {image.width} x {image.height} pixels: the maximum of a side is "
            f"{MAX_SIDE}, and {MAX_ASPECT_RATIO} times the other side"
        )
    return image


def _decode(image: Any, data: bytes, number: int) -> Picture:
    width, height = image.size
    factor = math.ceil(math.sqrt(width * height / MAX_KEPT_PIXELS))
    try:
        if factor > 1:
            # JPEG decodes at the smaller size; has no effect on other formats.
            image.draft("RGB", (width // factor, height // factor))
            picture = image.convert("RGB")
            left = math.ceil(math.sqrt(picture.width * picture.height / MAX_KEPT_PIXELS))
            picture = picture.reduce(left) if left > 1 else picture
            (width, height), pixels = picture.size, picture.tobytes()
        elif image.mode.startswith("I;16"):
            # Pillow would clip values above 255 instead of scaling.
            pixels = (np.asarray(image) >> 8).astype(np.uint8).repeat(3).tobytes()
        else:
            pixels = image.convert("RGB").tobytes()
    except Exception as error:
        raise InvalidImages(f"image {number} is damaged: its pixels cannot be read") from error
    finally:
        # Frees the decoded pixels before the next image is decoded.
        image.close()
    return Picture(width, height, pixels, hashlib.sha256(data).hexdigest())
