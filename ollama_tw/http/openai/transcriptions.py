"""Route of ``/v1/audio/transcriptions``.

Source: ollama: middleware/openai.go, TranscriptionMiddleware.
"""

# mypy: allow-untyped-calls
# (twisted.web has few annotations)

from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import Any

from twisted.web.http import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from ollama_tw.access.requirement import Access
from ollama_tw.dialects.openai.transcriptions import Transcription, native_request
from ollama_tw.errors import OllamaError
from ollama_tw.http.dialect_support import Dialect, chat_record
from ollama_tw.http.server.replies import send_json_line, send_text
from ollama_tw.http.server.routing import Routes
from ollama_tw.http.server.stream import answer_whole
from ollama_tw.inference.service import Completions
from ollama_tw.tracking.context import RequestContext
from ollama_tw.wire.native import ChatRequest

_MAX_PARTS = 64
_MAX_FIELD_BYTES = 1 << 20
_NOT_A_FORM = "failed to parse multipart form: "

_Call = tuple[Transcription, ChatRequest]


@dataclass(frozen=True)
class TranscriptionRoutes:
    """``/v1/audio/transcriptions``."""

    dialect: Dialect
    completions: Completions

    def register(self, routes: Routes) -> None:
        """Add the route to ``routes``."""
        routes.add("POST", "/v1/audio/transcriptions", self.transcribe, Access.RUN)

    async def transcribe(self, request: Request) -> None:
        """Transcribe the recording in a form."""
        content_type = request.getHeader("Content-Type") or ""
        await self.dialect.serve(request, partial(_read, content_type), partial(self._transcribe, request))

    async def _transcribe(self, request: Request, call: _Call) -> None:
        form, native = call

        async def work(cancel: RequestContext) -> str:
            record = await self.completions.chat(native, None, cancel)
            return chat_record(record).message.content.strip()

        def send(request: Request, text: str) -> None:
            if form.response_format == "text":
                send_text(request, text)
            else:
                send_json_line(request, {"text": text})

        await answer_whole(request, work, send=send)


def _read(content_type: str, body: bytes) -> _Call:
    form = _form(content_type, body)
    return form, native_request(form)


def _form(content_type: str, body: bytes) -> Transcription:
    kind, parameters = parse_options_header(content_type)
    if kind != "multipart/form-data":
        raise OllamaError(400, f"{_NOT_A_FORM}request Content-Type isn't multipart/form-data")
    parser = FormDataParser(
        stream_factory=_in_memory,
        max_form_memory_size=_MAX_FIELD_BYTES,
        max_form_parts=_MAX_PARTS,
        silent=False,
    )
    try:
        _, fields, files = parser.parse(BytesIO(body), kind, len(body), parameters)
    except (ValueError, RequestEntityTooLarge):
        raise OllamaError(400, f"{_NOT_A_FORM}it is cut off, malformed or too large") from None
    upload = files.get("file")
    return Transcription(
        model=fields.get("model", ""),
        file=None if upload is None else upload.stream.read(),
        response_format=fields.get("response_format", ""),
        language=fields.get("language", ""),
        prompt=fields.get("prompt", ""),
    )


def _in_memory(*_: Any, **__: Any) -> BytesIO:
    return BytesIO()
