"""Translation of ``/v1/audio/transcriptions`` to a chat with audio input.

Source: ollama: openai/openai.go, FromTranscriptionRequest.
"""

from dataclasses import dataclass

from ollama_tw.errors import OllamaError
from ollama_tw.wire.native import ChatRequest, Message

_TASK = "Write down the speech in the recording word for word. Answer with the transcript and nothing else."


@dataclass(frozen=True)
class Transcription:
    """The fields of the form; ``file`` is None if it is missing."""

    model: str = ""
    file: bytes | None = None
    response_format: str = ""
    language: str = ""
    prompt: str = ""


def native_request(form: Transcription) -> ChatRequest:
    """Return the native request. Raises :class:`OllamaError` 400."""
    if not form.model:
        raise OllamaError(400, "model is required")
    if form.file is None:
        raise OllamaError(400, "file is required: http: no such file")
    if not form.file:
        raise OllamaError(400, "audio file is empty")
    hints = [_TASK]
    if form.language:
        hints.append(f"The language is {form.language}.")
    if form.prompt:
        hints.append(f"What it is about: {form.prompt}")
    return ChatRequest(
        model=form.model,
        messages=[Message("system", " ".join(hints)), Message("user", "", images=[form.file])],
        options={"temperature": 0},
    )
