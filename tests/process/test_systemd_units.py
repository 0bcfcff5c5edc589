"""Consistency of the systemd units with the server's settings."""

import configparser

from ollama_tw.config.settings import VARIABLES
from ollama_tw.golang.durations import SECOND, parse_duration
from tests.helpers import ROOT

FOLDER = ROOT / "contrib" / "systemd"


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters="=")
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string((FOLDER / name).read_text())
    return parser


def test_the_service_waits_longer_than_the_drain() -> None:
    service = unit("ollama.service")["Service"]
    defaults = {variable.name: variable.default for variable in VARIABLES}
    drain = parse_duration(defaults["OLLAMA_DRAIN_TIMEOUT"]) // SECOND
    # Unloading the models takes up to 30 seconds after the drain.
    assert int(service["TimeoutStopSec"]) > drain + 30
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > 0


def test_the_environment_file_names_settings_and_their_defaults() -> None:
    known = {variable.name: variable.default for variable in VARIABLES}
    lines = [
        line.removeprefix("#").partition("=")
        for line in (FOLDER / "ollama.env").read_text().splitlines()
        if line.startswith("#OLLAMA_")
    ]
    assert lines
    for name, _, value in lines:
        assert name in known
        expected = {"false": "0"}.get(known[name], known[name])
        assert name == "OLLAMA_MODELS" or value == expected
