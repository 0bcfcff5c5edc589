"""States of prompts on disk: one file for each state, complete or absent.

A file begins with a header: magic, length and CRC-32 of a msgpack map with the identity of the model, the
tokens, and the size and CRC-32 of the state, which begins at a multiple of the page size. What cannot be
trusted is removed with a log line. The tokens are the users' words: files have mode 0600.
"""

import hashlib
import mmap
import os
import struct
import time
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
from twisted.logger import Logger

from ollama_tw.errors import reason_of
from ollama_tw.files import NO_FOLLOW, open_regular, pread, sync_directory
from ollama_tw.interfaces import PromptState
from ollama_tw.wire.decode_errors import DECODE_ERRORS

_log = Logger()

_MAGIC = b"ollama_tw prompt state 1\n"
_HEAD = struct.Struct(f">{len(_MAGIC)}sII")
_SUFFIX = ".state"
_PARTIAL = ".partial"
_PIECE = 1 << 22
# Tokens of the longest context, as msgpack.
_LONGEST_HEADER = 1 << 26


class Header(msgspec.Struct):
    """Header of a file; ``size`` and ``checksum`` are those of the state."""

    identity: str
    tokens: list[int]
    size: int
    checksum: int


class StateFiles:
    """The files of ``folder``, of at most ``budget`` bytes. Methods block, on one thread at a time."""

    def __init__(self, folder: Path, budget: int) -> None:
        self._folder = folder
        self.budget = budget
        self._disabled = False

    def write(self, identity: str, states: Sequence[PromptState], deadline: float) -> None:
        """Write the states that have no file yet, the most recently used ones first.

        Ends at ``deadline`` (monotonic). A full disk turns writing off.
        """
        if self._disabled:
            return
        try:
            folder = self._folder_of(identity)
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            written = 0
            for state in reversed(states):
                written += state.size
                if written > self.budget or time.monotonic() > deadline:
                    break
                self._write_one(folder, identity, state)
            self._prune()
        except OSError as error:
            self._disabled = True
            _log.error(
                "states of prompts cannot be written to {folder}, which turns the disk cache off: {reason}",
                folder=str(self._folder),
                reason=reason_of(error),
            )

    def _write_one(self, folder: Path, identity: str, state: PromptState) -> None:
        path = folder / (_name_of(state.tokens) + _SUFFIX)
        if state.checksum is not None and path.exists():
            # It was read from this file.
            os.utime(path)
            return
        partial = path.with_suffix(_PARTIAL)
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW, 0o600)
        try:
            with (
                os.fdopen(descriptor, "wb", buffering=0) as file,
                mmap.mmap(
                    state.descriptor, state.size, offset=state.offset, access=mmap.ACCESS_READ
                ) as memory,
            ):
                header = Header(identity, list(state.tokens), state.size, checksum(memory))
                _write_all(file.fileno(), _encode(header))
                _write_all(file.fileno(), memory)
                os.fsync(file.fileno())
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        sync_directory(folder)
        _remove_prefixes(folder, state.tokens)

    def read(self, identity: str, budget: int) -> list[PromptState]:
        """Return the states of a model, the most recently used one last, of at most ``budget`` bytes."""
        states = []
        total = 0
        for path in reversed(_by_age(self._folder_of(identity).glob("*" + _SUFFIX))):
            state = _open(path, identity)
            if state is None:
                continue
            total += state.size
            if total > budget:
                break
            states.append(state)
        states.reverse()
        return states

    def _folder_of(self, identity: str) -> Path:
        return self._folder / hashlib.sha256(identity.encode()).hexdigest()[:32]

    def _prune(self) -> None:
        """Remove the oldest files beyond the budget, and what an interrupted write has left."""
        for partial in self._folder.glob("*/*" + _PARTIAL):
            partial.unlink(missing_ok=True)
        files = _by_age(self._folder.glob("*/*" + _SUFFIX))
        total = sum(path.stat().st_size for path in files)
        for path in files:
            if total <= self.budget:
                break
            total -= path.stat().st_size
            path.unlink(missing_ok=True)


def checksum(memory: mmap.mmap) -> int:
    """Return the CRC-32 of mapped memory."""
    value = 0
    with memoryview(memory) as view:
        for begin in range(0, len(view), _PIECE):
            value = zlib.crc32(view[begin : begin + _PIECE], value)
    return value


def _name_of(tokens: Sequence[int]) -> str:
    return hashlib.sha256(msgspec.msgpack.encode(tuple(tokens))).hexdigest()[:32]


def _encode(header: Header) -> bytes:
    data = msgspec.msgpack.encode(header)
    head = _HEAD.pack(_MAGIC, len(data), zlib.crc32(data)) + data
    return head.ljust(-(-len(head) // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY, b"\0")


def _write_all(descriptor: int, data: bytes | mmap.mmap) -> None:
    with memoryview(data) as view:
        begin = 0
        while begin < len(view):
            begin += os.write(descriptor, view[begin : begin + _PIECE])


def _open(path: Path, identity: str) -> PromptState | None:
    """Return the state in a file, or None, with the file removed, if it cannot be trusted."""
    try:
        with open_regular(path) as file:
            header, offset = _read_header(file.fileno())
            if header.identity != identity:
                raise ValueError("it belongs to another model")
            if os.fstat(file.fileno()).st_size != offset + header.size:
                raise ValueError("it is not complete")
            descriptor = os.dup(file.fileno())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, *DECODE_ERRORS) as error:
        _log.warn(
            "removing {path}, a saved prompt that cannot be used: {why}", path=str(path), why=reason_of(error)
        )
        path.unlink(missing_ok=True)
        return None
    return PromptState(tuple(header.tokens), descriptor, header.size, offset, header.checksum)


def _read_header(descriptor: int) -> tuple[Header, int]:
    magic, length, expected = _HEAD.unpack(pread(descriptor, _HEAD.size, 0).ljust(_HEAD.size, b"\0"))
    if magic != _MAGIC:
        raise ValueError("it has another format")
    if length > _LONGEST_HEADER:
        raise ValueError("its header is too long")
    data = pread(descriptor, length, _HEAD.size)
    if zlib.crc32(data) != expected:
        raise ValueError("its header is damaged")
    end = _HEAD.size + length
    offset = -(-end // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
    return msgspec.msgpack.decode(data, type=Header), offset


def _remove_prefixes(folder: Path, tokens: tuple[int, ...]) -> None:
    """Remove the files of states that are a beginning of ``tokens``, and therefore superfluous."""
    for path in folder.glob("*" + _SUFFIX):
        try:
            with open_regular(path) as file:
                header, _ = _read_header(file.fileno())
        except (OSError, ValueError, *DECODE_ERRORS):
            continue
        if len(header.tokens) < len(tokens) and tuple(header.tokens) == tokens[: len(header.tokens)]:
            path.unlink(missing_ok=True)


def _by_age(paths: Iterable[Path]) -> list[Path]:
    """Return the files that exist, the oldest first."""
    found = []
    for path in paths:
        try:
            found.append((path.stat().st_mtime_ns, path))
        except OSError:
            continue
    return [path for _, path in sorted(found)]
