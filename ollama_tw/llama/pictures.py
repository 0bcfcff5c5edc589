"""From image files to pixels, with limits that hold before anything is decoded.

A small file can stand for a huge picture: its header says how large, and is asked first.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ollama_tw.interfaces import InvalidImages

MOST_IMAGES = 64
"""Images of one job."""
MOST_BYTES = 64 << 20
"""Bytes of one image file."""
MOST_PIXELS = 64 << 20
"""Pixels of one image; four bytes each while it is decoded."""
MOST_PIXELS_IN_ALL = 128 << 20
"""Pixels of all images of a job."""
LONGEST_SIDE = 16384
"""Pixels of an image's width or height."""
LARGEST_RATIO = 200
"""How many times longer than the other a side may be."""

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
    """The pictures in ``files``; of one that moves, its beginning. Raises :class:`InvalidImages`."""
    if len(files) > MOST_IMAGES:
        raise InvalidImages(f"{len(files)} images are too many: at most {MOST_IMAGES} go into one prompt")
    opened = [_open(data, number) for number, data in enumerate(files, 1)]
    if sum(image.width * image.height for image in opened) > MOST_PIXELS_IN_ALL:
        raise InvalidImages(f"the images have more than {MOST_PIXELS_IN_ALL} pixels in all")
    return [
        _decode(image, data, number)
        for number, (image, data) in enumerate(zip(opened, files, strict=True), 1)
    ]


def _open(data: bytes, number: int) -> Any:
    """The image as its header describes it."""
    if len(data) > MOST_BYTES:
        raise InvalidImages(f"image {number} has {len(data)} bytes: at most {MOST_BYTES} are read")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise InvalidImages(f"image {number} has more than {MOST_PIXELS} pixels") from error
    # Whatever a broken file makes of the decoder, it is the file that is broken.
    except Exception as error:
        raise InvalidImages(f"image {number} is not a PNG, JPEG, WebP, GIF or BMP file") from error
    short, long = sorted(image.size)
    if image.width * image.height > MOST_PIXELS:
        raise InvalidImages(f"image {number} has more than {MOST_PIXELS} pixels")
    if long > LONGEST_SIDE or long > LARGEST_RATIO * short:
        raise InvalidImages(
            f"image {number} has {image.width} x {image.height} pixels: a side may have {LONGEST_SIDE}, "
            f"and {LARGEST_RATIO} times as many as the other"
        )
    return image


def _decode(image: Any, data: bytes, number: int) -> Picture:
    width, height = image.size
    try:
        if image.mode.startswith("I;16"):
            # Pillow would cut off what is brighter than 255, instead of scaling.
            pixels = (np.asarray(image) >> 8).astype(np.uint8).repeat(3).tobytes()
        else:
            pixels = image.convert("RGB").tobytes()
    except Exception as error:
        raise InvalidImages(f"image {number} is damaged: its pixels cannot be read") from error
    finally:
        # Decoded pixels are as large as a picture, and the next one is to be decoded.
        image.close()
    return Picture(width, height, pixels, hashlib.sha256(data).hexdigest())
