"""Where the images of a request stand in the prompt that the engine gets.

Source: ``spec/inference-api.md`` sections 1.6 and 9.
"""

import re
from collections.abc import Sequence

from ollama_tw.errors import OllamaError
from ollama_tw.interfaces import IMAGE_MARKER

_TAG = re.compile(r"\[img-(\d{1,9})\]")


def place_images(text: str, images: Sequence[bytes]) -> tuple[str, tuple[bytes, ...]]:
    """``text`` with the engine's marker for each ``[img-N]`` that has an image, and the images in the
    order of their markers. A tag that comes twice shows its image twice; one without an image is text.

    Raises 400 for an image that no tag names, and for a recording.
    """
    if any(map(_is_recording, images)):
        raise OllamaError(400, "this server cannot hear: send the request without the recording")
    placed: list[bytes] = []
    named: set[int] = set()

    def place(tag: re.Match[str]) -> str:
        number = int(tag[1])
        if number >= len(images):
            return tag[0]
        placed.append(images[number])
        named.add(number)
        return IMAGE_MARKER

    marked = _TAG.sub(place, text.replace(IMAGE_MARKER, ""))
    for number in range(len(images)):
        if number not in named:
            raise OllamaError(
                400, f"the prompt does not say where image {number} belongs: write [img-{number}] into it"
            )
    return marked, tuple(placed)


def without_tags(text: str) -> str:
    """``text`` without the tags of images that are not there any more."""
    return _TAG.sub("", text)


def _is_recording(file: bytes) -> bool:
    """Whether ``file`` begins as WAVE and MP3 files do. Source: ``spec/inference-api.md`` section 9."""
    wave = file.startswith(b"RIFF") and file[8:12] != b"WEBP"
    frame = len(file) > 1 and file[0] == 0xFF and file[1] & 0xE0 == 0xE0
    return wave or frame or file.startswith(b"ID3")
