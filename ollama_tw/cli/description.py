"""Text of ``ollama show``: tables of the reply of ``/api/show``. Pure.

Source: ollama: cmd/cmd.go, showInfo.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from ollama_tw.cli.tables import CELL_WIDTH, table
from ollama_tw.cli.width import text_width
from ollama_tw.golang.fmt import format_value, human_number

_TEXT_WIDTH = 100
_TEXT_LINES = 2
_LIST_COLUMNS = 10

_Rows = list[Sequence[str]]


def description(shown: Mapping[str, Any], *, verbose: bool = False) -> str:
    """Return the sections of the model ``shown``; ``verbose`` adds its metadata and tensors."""
    return "".join(
        f"  {title}\n{table([('', *row) for row in rows], cell_width=width)}\n"
        for title, rows, width in _sections(shown, verbose)
    )


def _sections(shown: Mapping[str, Any], verbose: bool) -> Iterator[tuple[str, _Rows, int]]:
    """Yield title, rows and width of the cells of each section."""
    info: Mapping[str, Any] | None = shown.get("model_info")
    yield "Model", _model_rows(shown, info), CELL_WIDTH
    if capabilities := shown.get("capabilities"):
        yield "Capabilities", [(name,) for name in capabilities], CELL_WIDTH
    projector: Mapping[str, Any] | None = shown.get("projector_info")
    if projector is not None:
        yield "Projector", _projector_rows(projector), CELL_WIDTH
    if parameters := shown.get("parameters"):
        yield "Parameters", [line.split() for line in parameters.splitlines() if line], CELL_WIDTH
    if verbose and info is not None:
        yield "Metadata", [(key, metadata_text(info[key])) for key in sorted(info)], CELL_WIDTH
    if verbose and (tensors := shown.get("tensors")):
        rows: _Rows = [(one["name"], one["type"], format_value(one["shape"])) for one in tensors]
        yield "Tensors", rows, CELL_WIDTH
    for title in ("System", "License"):
        if text := shown.get(title.lower()):
            yield title, _first_lines(text), _TEXT_WIDTH


def _model_rows(shown: Mapping[str, Any], info: Mapping[str, Any] | None) -> _Rows:
    details = shown.get("details") or {}
    rows: _Rows = []
    if shown.get("remote_host"):
        rows += [("Remote model", shown.get("remote_model", "")), ("Remote URL", shown["remote_host"])]
    if info is None:
        rows += [
            ("architecture", details.get("family", "")),
            ("parameters", details.get("parameter_size", "")),
        ]
    else:
        architecture = info.get("general.architecture") or ""
        if architecture:
            rows.append(("architecture", architecture))
        size = details.get("parameter_size")
        if not size and _is_number(count := info.get("general.parameter_count")):
            size = human_number(int(count))
        if size:
            rows.append(("parameters", size))
        rows += _number_row("context length", info, f"{architecture}.context_length")
        rows += _number_row("embedding length", info, f"{architecture}.embedding_length")
    rows.append(("quantization", details.get("quantization_level", "")))
    if requires := shown.get("requires"):
        rows.append(("requires", requires))
    return rows


def _projector_rows(info: Mapping[str, Any]) -> _Rows:
    architecture = info.get("general.architecture") or ""
    rows: _Rows = [("architecture", architecture)]
    if _is_number(count := info.get("general.parameter_count")):
        rows.append(("parameters", human_number(int(count))))
    rows += _number_row("embedding length", info, f"{architecture}.vision.embedding_length")
    rows += _number_row("dimensions", info, f"{architecture}.vision.projection_dim")
    return rows


def _number_row(title: str, info: Mapping[str, Any], key: str) -> _Rows:
    value = info.get(key)
    if not _is_number(value):
        return []
    return [(title, str(int(value)) if float(value).is_integer() else str(value))]


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def metadata_text(value: Any) -> str:
    """Return a value of the metadata for its cell; of a list, as many items as fit into ten columns."""
    if not isinstance(value, list):
        return "map[string]interface {}" if isinstance(value, dict) else format_value(value)
    shown, width = 0, 1
    for at, item in enumerate(value):
        columns = text_width(format_value(item)) + (2 if at else 0)
        if at and width + columns > _LIST_COLUMNS:
            break
        width += columns
        shown += 1
    text = format_value(value[:shown])
    return text if shown == len(value) else f"{text.removesuffix(']')} ...+{len(value) - shown} more]"


def _first_lines(text: str) -> _Rows:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return [(line,) for line in lines[:_TEXT_LINES] + (["..."] if len(lines) > _TEXT_LINES else [])]
