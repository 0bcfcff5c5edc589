"""Places the images of a request in the prompt that the engine gets."""

import re
from collections.abc import Sequence

from ollama_tw.errors import OllamaError
from ollama_tw.interfaces import IMAGE_MARKER

_TAG = re.compile(r"\[img-(\d{1,9})\]")


def place_images(text: str, images: Sequence[bytes]) -> tuple[str, tuple[bytes, ...]]:
    """Replace each ``[img-N]`` that has an image by the engine's marker.

    Returns the text and the images in the order of their markers. An image is placed at each of its tags;
    a tag without an image is text. Raises 400 for an image without a tag and for an audio file.
    """
    if any(map(_is_audio, images)):
        raise OllamaError(400, "this server does not support multimodal input of audio")
    placed: list[bytes] = []
    tagged: set[int] = set()

    def place(tag: re.Match[str]) -> str:
        number = int(tag[1])
        if number >= len(images):
            return tag[0]
        placed.append(images[number])
        tagged.add(number)
        return IMAGE_MARKER

    marked = _TAG.sub(place, text.replace(IMAGE_MARKER, ""))
    for number in range(len(images)):
        if number not in tagged:
            raise OllamaError(400, f"the prompt has no [img-{number}] that marks the place of image {number}")
    return marked, tuple(placed)


def without_tags(text: str) -> str:
    """Return ``text`` without image tags."""
    return _TAG.sub("", text)


def _is_audio(file: bytes) -> bool:
    """Return whether ``file`` begins as WAVE and MP3 files do."""
    wave = file.startswith(b"RIFF") and file[8:12] != b"WEBP"
    frame = len(file) > 1 and file[0] == 0xFF and file[1] & 0xE0 == 0xE0
    return wave or frame or file.startswith(b"ID3")
