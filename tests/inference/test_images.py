"""Image tags in a prompt are replaced by the markers of the engine."""

from typing import Any

import pytest

from ollama_tw.errors import OllamaError
from ollama_tw.inference.completion import Prompt
from ollama_tw.inference.images import place_images, without_tags
from ollama_tw.inference.records import GenerateWriter
from ollama_tw.interfaces import IMAGE_MARKER, InvalidImages
from tests.inference.test_completion import ScriptedRunner, task, whole

X = IMAGE_MARKER


@pytest.mark.parametrize(
    ("text", "images", "marked", "placed"),
    [
        ("[img-0]hi", (b"a",), f"{X}hi", (b"a",)),
        ("[img-0][img-1]hi", (b"a", b"b"), f"{X}{X}hi", (b"a", b"b")),
        ("[img-1] or [img-0]", (b"a", b"b"), f"{X} or {X}", (b"b", b"a")),
        ("[img-0] is [img-0]", (b"a",), f"{X} is {X}", (b"a", b"a")),
        ("[img-0] and [img-1]", (b"a",), f"{X} and [img-1]", (b"a",)),
        (f"[img-0] and {X}", (b"a",), f"{X} and ", (b"a",)),
        ("[img-x][img]", (), "[img-x][img]", ()),
    ],
)
def test_places(text: str, images: tuple[bytes, ...], marked: str, placed: tuple[bytes, ...]) -> None:
    assert place_images(text, images) == (marked, placed)


def test_an_image_without_a_place() -> None:
    with pytest.raises(OllamaError) as caught:
        place_images("[img-0] and [img]", [b"a", b"b"])
    assert (caught.value.status, caught.value.message) == (
        400,
        "the prompt has no [img-1] that marks the place of image 1",
    )


def test_tags_of_earlier_images_go() -> None:
    assert without_tags("[img-0]one [img] [img-12]two") == "one [img] two"


def with_image(**changes: Any) -> Any:
    return task(build_prompt=lambda _: Prompt("[img-0]what?", images=(b"a",)), **changes)


def test_the_engine_gets_the_images_and_where_they_stand() -> None:
    runner = ScriptedRunner(["yes"])
    whole(with_image(), runner)
    assert (runner.jobs[0].prompt, runner.jobs[0].images) == (f"{X}what?", (b"a",))


def test_without_images_a_tag_is_text() -> None:
    runner = ScriptedRunner(["yes"])
    whole(task(build_prompt=lambda _: Prompt("[img-0]what?")), runner)
    assert (runner.jobs[0].prompt, runner.jobs[0].images) == ("[img-0]what?", ())


def test_a_look_at_the_prompt_shows_tags_and_counts_images() -> None:
    record = whole(with_image(writer=GenerateWriter("m"), debug_only=True), ScriptedRunner())
    assert record["_debug_info"] == {"rendered_template": "[img-0]what?", "image_count": 1}


def test_images_that_the_engine_cannot_read_are_the_clients_fault() -> None:
    runner = ScriptedRunner([InvalidImages("image 1 is damaged")])
    with pytest.raises(OllamaError) as caught:
        whole(with_image(), runner)
    assert (caught.value.status, caught.value.message) == (400, "image 1 is damaged")


@pytest.mark.parametrize("file", [b"RIFF\x24\0\0\0WAVEfmt ", b"ID3\x04", b"\xff\xfb\x90\x00"])
def test_a_recording_is_refused(file: bytes) -> None:
    with pytest.raises(OllamaError) as raised:
        place_images("[img-0]", [file])
    assert (raised.value.status, raised.value.message) == (
        400,
        "this server does not support multimodal input of audio",
    )
