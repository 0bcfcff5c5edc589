"""All checks in the order of the report."""

from collections.abc import Iterator, Mapping

from ollama_tw.cli.client import Client
from ollama_tw.cli.doctor import devices, network, storage
from ollama_tw.cli.doctor.findings import Finding
from ollama_tw.cli.variables import API_KEY
from ollama_tw.config.declaration import SettingsError
from ollama_tw.config.settings import HOST, Settings
from ollama_tw.configfile.load import find_file, mistake_lines, read_file


def findings(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check this machine with the settings in ``environ``; yield the findings as they are made. Blocking."""
    warnings: list[str] = []
    endpoint = HOST.read(environ, lambda text: None)
    try:
        settings: Settings | None = Settings.read(environ, warnings.append)
    except SettingsError as error:
        settings = None
        yield Finding("problem", "settings", str(error), "correct the variable")
    else:
        for text in mistake_lines(read_file(find_file(environ))):
            yield Finding(
                "problem", "configuration file", text, "correct it; ollama config check finds all mistakes"
            )
    for text in warnings:
        yield Finding("warning", "settings", text, "correct or unset the variable")
    yield from network.server(Client(endpoint, API_KEY.read(environ, lambda text: None)), endpoint)
    yield from network.proxies(endpoint)
    yield from network.registry()
    if settings is not None:
        yield from storage.disk(settings.models)
        yield from storage.permissions(settings.home, settings.models)
        yield from storage.library(settings.models)
    yield from devices.threads(environ)
    found = devices.examine()
    yield from devices.backends(found)
    yield from devices.instructions(found)
