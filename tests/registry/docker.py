"""The registry of the distribution project as a child process."""

import json
import os
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

from tests.helpers import PATIENCE


class DockerRegistry:
    """A registry with an empty store below ``directory``; ``host`` is its ``address:port``.

    ``pem`` (certificate and key) enables TLS, ``auth`` authentication with tokens.
    """

    def __init__(
        self, program: str, directory: Path, *, pem: Path | None = None, auth: dict[str, str] | None = None
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.root = directory / "storage"
        configuration: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": str(self.root)}, "delete": {"enabled": True}},
            "http": {"addr": "127.0.0.1:0"},
        }
        if pem is not None:
            configuration["http"]["tls"] = {"certificate": str(pem), "key": str(pem)}
        if auth is not None:
            configuration["auth"] = {"token": auth}
        file = directory / "registry.yml"
        # Every JSON document is a YAML document.
        file.write_text(json.dumps(configuration))
        self.host = ""
        self._log = ""
        self._up = threading.Event()
        self._process = subprocess.Popen(
            [program, "serve", str(file)],
            env={"PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._log += line
                if found := re.search(r"listening on (127\.0\.0\.1:\d+)", line):
                    self.host = found[1]
                    self._up.set()
        self._up.set()

    def wait_until_up(self) -> "DockerRegistry":
        """Wait until it listens, at a port that the system has chosen."""
        assert self._up.wait(PATIENCE)
        assert self.host, "the registry does not start: " + self._log
        return self

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
