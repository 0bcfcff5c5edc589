"""The registry of the distribution project as a child process."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

BINARY = shutil.which("docker-registry") or shutil.which("registry")

MISSING = "docker-registry is not installed"

_TIMEOUT = 30.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class DockerRegistry:
    """A registry with an empty store below ``directory``; ``host`` is its ``address:port``.

    ``pem`` (certificate and key) enables TLS, ``auth`` authentication with tokens.
    """

    def __init__(
        self, directory: Path, *, pem: Path | None = None, auth: dict[str, str] | None = None
    ) -> None:
        assert BINARY is not None
        directory.mkdir(parents=True, exist_ok=True)
        self.host = f"127.0.0.1:{free_port()}"
        self._scheme = "http" if pem is None else "https"
        self.root = directory / "storage"
        configuration: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": str(self.root)}, "delete": {"enabled": True}},
            "http": {"addr": self.host},
        }
        if pem is not None:
            configuration["http"] = {"addr": self.host, "tls": {"certificate": str(pem), "key": str(pem)}}
        if auth is not None:
            configuration["auth"] = {"token": auth}
        file = directory / "registry.yml"
        # Every JSON document is a YAML document.
        file.write_text(json.dumps(configuration))
        self._log = (directory / "registry.log").open("wb")
        self._process = subprocess.Popen(
            [BINARY, "serve", str(file)],
            env={"PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def wait_until_up(self) -> "DockerRegistry":
        unchecked = ssl.create_default_context()
        unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                urllib.request.urlopen(
                    f"{self._scheme}://{self.host}/v2/", timeout=5, context=unchecked
                ).close()
            except urllib.error.HTTPError:
                return self
            except OSError:
                continue
            return self
        raise AssertionError("the registry does not start: " + Path(self._log.name).read_text())

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()
