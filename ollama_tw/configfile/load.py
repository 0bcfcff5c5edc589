"""Finds and reads the configuration file, and joins it with the environment, which wins."""

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ollama_tw.config.declaration import SettingsError, Warn
from ollama_tw.config.settings import VARIABLES, Settings, config_file, models_directory
from ollama_tw.configfile.document import EMPTY, Document, Mistake
from ollama_tw.errors import reason_of

NAME = "ollama.toml"
SYSTEM = Path("/etc/ollama", NAME)
"""The file that is read where there is none beside the models directory."""

_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Configuration:
    """The settings of a server: those of the environment, else of the file, else the defaults."""

    settings: Settings
    document: Document = EMPTY


def find_file(environ: Mapping[str, str]) -> Path | None:
    """Return the path of the configuration file, None if there is none.

    Raises SettingsError if the home directory is unknown.
    """
    if (named := config_file(environ)) is not None:
        return named
    for path in (models_directory(environ).parent / NAME, SYSTEM):
        if _exists(path):
            return path
    return None


def _exists(path: Path) -> bool:
    """Return whether ``path`` is a file, also if that cannot be found out: reading it will say why."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def read_file(path: Path | None) -> Document:
    """Return the configuration in the file ``path``, with its mistakes; an empty one without a file."""
    if path is None:
        return EMPTY
    # Servers without a file start without these modules.
    from ollama_tw.configfile.parsing import parse_document

    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
        text = data.decode()
    except OSError as error:
        return Document(path, mistakes=(Mistake(0, f"it cannot be read: {reason_of(error)}"),))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        return Document(path, mistakes=(Mistake(line, "this is not UTF-8"),))
    except ValueError as error:
        return Document(path, mistakes=(Mistake(0, str(error)),))
    return parse_document(text, path)


def joined(environ: Mapping[str, str], document: Document) -> dict[str, str]:
    """Return ``environ`` with the settings of ``document`` that it does not have."""
    variables = {variable.name: variable for variable in VARIABLES}
    added = {name: text for name, text in document.settings.items() if not variables[name].is_set(environ)}
    return {**environ, **added}


def read_configuration(environ: Mapping[str, str], warn: Warn) -> Configuration:
    """Return the configuration; call ``warn`` for each invalid value of the environment.

    Raises SettingsError with all mistakes of the file, and for what :meth:`Settings.read` does.
    """
    document = read_file(find_file(environ))
    if document.mistakes:
        raise SettingsError("\n".join(mistake_lines(document)))
    return Configuration(Settings.read(joined(environ, document), warn), document)


def mistake_lines(document: Document) -> list[str]:
    """Return the mistakes with the file and the line of each."""
    return [
        f"{document.path}:{one.line}: {one.text}" if one.line else f"{document.path}: {one.text}"
        for one in document.mistakes
    ]
