"""Decoding of image files, and the limits that are checked before."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ollama_tw.interfaces import InvalidImages
from ollama_tw.llama.pictures import decode

RED, GREEN = (255, 0, 0), (0, 128, 0)


def file(image: Any, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def two_pixels() -> Any:
    image = Image.new("RGB", (2, 1), RED)
    image.putpixel((1, 0), GREEN)
    return image


def png_header(width: int, height: int) -> bytes:
    """Return a PNG file that has a header but no pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (header, data))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def refusal(*files: bytes) -> str:
    with pytest.raises(InvalidImages) as caught:
        decode(files)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("BMP", {}), ("GIF", {}), ("WEBP", {"lossless": True})]
)
def test_formats(kind: str, options: dict[str, Any]) -> None:
    [picture] = decode([file(two_pixels(), kind, **options)])
    assert (picture.width, picture.height, picture.pixels) == (2, 1, bytes(RED + GREEN))


def test_jpeg() -> None:
    [picture] = decode([file(Image.new("RGB", (8, 8), (128, 128, 128)), "JPEG")])
    assert (picture.width, picture.height, set(picture.pixels)) == (8, 8, {128})


def test_transparent_pixels_keep_their_colour() -> None:
    [picture] = decode([file(Image.new("RGBA", (1, 1), (1, 2, 3, 0)), "PNG")])
    assert picture.pixels == b"\x01\x02\x03"


def test_sixteen_bits_of_grey_become_eight() -> None:
    [picture] = decode([file(Image.fromarray(np.array([[0x1234, 0xFF00]], dtype=np.uint16)), "PNG")])
    assert picture.pixels == b"\x12\x12\x12\xff\xff\xff"


def test_the_first_frame_of_an_animation() -> None:
    data = file(Image.new("RGB", (1, 1), RED), "GIF", save_all=True, append_images=[two_pixels()])
    assert decode([data])[0].pixels == bytes(RED)


def test_equal_files_have_equal_digests() -> None:
    one, other = file(two_pixels(), "PNG"), file(two_pixels(), "BMP")
    first, again, different = decode([one, one, other])
    assert first.digest == again.digest != different.digest


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ([b""], "image 1 is not a PNG, JPEG, WebP, GIF or BMP file"),
        ([b"RIFF\0\0\0\0WAVEfmt "], "image 1 is not a PNG, JPEG, WebP, GIF or BMP file"),
        ([b"%!PS-Adobe-3.0 EPSF-3.0"], "image 1 is not a PNG, JPEG, WebP, GIF or BMP file"),
        ([file(two_pixels(), "TIFF")], "image 1 is not a PNG, JPEG, WebP, GIF or BMP file"),
        ([file(two_pixels(), "PNG"), b"GIF89a"], "image 2 is not a PNG, JPEG, WebP, GIF or BMP file"),
        ([png_header(8193, 8193)], "image 1 has more than 67108864 pixels"),
        ([png_header(1 << 30, 1 << 30)], "image 1 has more than 67108864 pixels"),
        ([b"\0" * ((64 << 20) + 1)], "image 1 has 67108865 bytes: the maximum is 67108864"),
        ([png_header(8000, 8000)] * 3, "the images have more than 134217728 pixels in total"),
        ([b""] * 65, "the prompt has 65 images: the maximum is 64"),
        (
            [png_header(16385, 200)],
            "image 1 has 16385 x 200 pixels: the maximum of a side is 16384, and 200 times the other side",
        ),
        (
            [png_header(1, 201)],
            "image 1 has 1 x 201 pixels: the maximum of a side is 16384, and 200 times the other side",
        ),
        ([png_header(30, 30)], "image 1 is damaged: its pixels cannot be read"),
        ([file(two_pixels(), "PNG")[:-30]], "image 1 is damaged: its pixels cannot be read"),
    ],
)
def test_refusals(files: Sequence[bytes], text: str) -> None:
    assert refusal(*files) == text


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_picture_larger_than_any_model_looks_at_is_reduced(kind: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (6000, 4000), (10, 200, 90)).save(buffer, kind)
    (picture,) = decode([buffer.getvalue()])
    assert (picture.width, picture.height) == (3000, 2000)
    assert len(picture.pixels) == 3000 * 2000 * 3
    red, green, blue = picture.pixels[:3]
    assert abs(red - 10) + abs(green - 200) + abs(blue - 90) <= 6
