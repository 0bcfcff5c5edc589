"""Requests that manage models, and the record of a loaded one.

Source: ollama: api/types.go, CreateRequest, ShowRequest, ProcessModelResponse, CopyRequest, DeleteRequest,
PullRequest, PushRequest.
"""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class CreateRequest(msgspec.Struct, frozen=True):
    """``POST /api/create``. ``name``, ``quantization`` are the deprecated names of other fields."""

    model: str = ""
    name: str = ""
    stream: bool | None = None
    from_: str = msgspec.field(name="from", default="")
    remote_host: str = ""
    files: dict[str, str] | None = None
    draft_files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    template: str = ""
    system: str = ""
    license: Any = None
    parameters: dict[str, Any] | None = None
    messages: list[dict[str, Any]] | None = None
    quantize: str = ""
    quantization: str = ""
    draft_quantize: str = ""
    renderer: str = ""
    parser: str = ""
    requires: str = ""
    info: dict[str, Any] | None = None


class ShowRequest(msgspec.Struct, frozen=True):
    """``POST /api/show``. ``system`` and ``options`` overlay the Modelfile that is shown."""

    model: str = ""
    name: str = ""
    system: str = ""
    template: str = ""
    verbose: bool = False
    options: dict[str, Any] | None = None


class LoadedModelRecord(msgspec.Struct, frozen=True):
    """One entry of ``GET /api/ps``. Sizes in bytes, ``expires_at`` in RFC 3339.

    ``replicas`` is absent unless the model is on several machines.
    """

    name: str
    model: str
    size: int
    digest: str
    details: dict[str, Any]
    expires_at: str
    size_vram: int
    context_length: int
    size_prompt_cache: int
    slots: int
    running: int
    replicas: list[dict[str, Any]] | UnsetType = UNSET


class CopyRequest(msgspec.Struct, frozen=True):
    """``POST /api/copy``."""

    source: str = ""
    destination: str = ""


class DeleteRequest(msgspec.Struct, frozen=True):
    """``DELETE /api/delete``."""

    model: str = ""
    name: str = ""


class TransferRequest(msgspec.Struct, frozen=True):
    """``POST /api/pull`` and ``POST /api/push``. ``insecure`` means HTTP without TLS."""

    model: str = ""
    name: str = ""
    insecure: bool = False
    stream: bool | None = None
