"""The keys that a running server accepts, read again when their file changes."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ollama_tw.access.key_file import KeyFileError, read_keys
from ollama_tw.access.keys import Key

_READABLE_BY_OTHERS = 0o077


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Keyring:
    """The keys in the file ``path``. Used on the reactor thread.

    With ``required`` keys are in use although there is none. ``log`` gets a sentence when the keys have
    changed or their file cannot be used; the keys before are then kept.

    Raises :class:`~ollama_tw.access.key_file.KeyFileError` if the file cannot be used at first.
    """

    def __init__(
        self,
        path: Path,
        log: Callable[[str], None],
        *,
        required: bool = False,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._path = path
        self._log = log
        self._required = required
        self._now = now
        # Taken first: a change in between is read again.
        self._version = self._file_version()
        self._keys = read_keys(path)
        self._warn_of_readers()

    @property
    def size(self) -> int:
        """The number of keys, expired ones included."""
        return len(self._keys)

    @property
    def in_use(self) -> bool:
        """True if requests need a key."""
        return self._required or bool(self._keys)

    def refresh(self) -> None:
        """Read the file again if it has changed. Looks at its times only otherwise."""
        version = self._file_version()
        if version == self._version:
            return
        self._version = version
        if version is None and self._keys:
            # A volume that is not mounted must not open the server.
            self._log(f"{self._path} is missing; the keys that were read before stay valid")
            return
        try:
            keys = read_keys(self._path)
        except KeyFileError as error:
            self._log(f"{error}; the keys that were read before stay valid")
            return
        if self._keys and not keys and not self._required:
            self._log(f"{self._path} has no keys any more: requests are answered without one")
        else:
            self._log(f"read {len(keys)} keys from {self._path}")
        self._keys = keys
        self._warn_of_readers()

    def find(self, secret: str) -> Key | None:
        """Return the key with ``secret``, also an expired one, in a time that does not depend on its text."""
        given = secret.encode("utf-8", "surrogateescape")
        found = None
        for key in self._keys:
            if key.matches(given):
                found = key
        return found

    def current(self, key: Key) -> Key | None:
        """Return ``key`` with the rights that the file has now; None if it was removed or has expired."""
        same = next((one for one in self._keys if one.digest == key.digest), None)
        return None if same is None or self.is_expired(same) else same

    def is_expired(self, key: Key) -> bool:
        """Return whether ``key`` has expired."""
        return key.is_expired(self._now())

    def _file_version(self) -> tuple[int, int, int] | None:
        """Return what changes whenever the file is replaced or written; None if there is no file."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size

    def _warn_of_readers(self) -> None:
        try:
            mode = self._path.stat().st_mode
        except OSError:
            return
        if mode & _READABLE_BY_OTHERS and self._keys:
            self._log(f"{self._path} is accessible to others than its owner: chmod 600 it")
