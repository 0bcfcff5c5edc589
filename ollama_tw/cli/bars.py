"""Lines of a progress display: bars with rate and remaining time, spinners. Pure; times are seconds.

Source: ollama: progress/bar.go, progress/spinner.go.
"""

from dataclasses import dataclass, field
from typing import Protocol

from ollama_tw.cli.width import clipped, text_width
from ollama_tw.golang.humanize import human_bytes

_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ASCII_FRAMES = "|/-\\"
_BAR = ("▕", "█", "▏")
_ASCII_BAR = ("[", "#", "]")
CHARACTERS = _FRAMES + "".join(_BAR)
"""Characters of a display that is not ``ascii``."""
_FRAMES_PER_SECOND = 10
_SIZE_COLUMNS = 6
_SAMPLES = 10
_SAMPLE_SECONDS = 1.0


class Line(Protocol):
    """One line of the display."""

    def text(self, now: float, columns: int) -> str:
        """Return the line at the time ``now``, narrower than ``columns``."""

    def stop(self, now: float) -> None:
        """Show the line as ended from now on."""


@dataclass
class Spinner:
    """A message, with an animation until it is stopped."""

    message: str
    stopped: bool = False
    ascii: bool = False

    def text(self, now: float, columns: int) -> str:
        """Return the message and the frame of this time."""
        frames = _ASCII_FRAMES if self.ascii else _FRAMES
        frame = "" if self.stopped else f"{frames[int(now * _FRAMES_PER_SECOND) % len(frames)]} "
        return clipped(f"{self.message} {frame}" if self.message else frame, columns - 1)

    def stop(self, now: float) -> None:
        """End the animation."""
        self.stopped = True


@dataclass
class Bar:
    """The progress of ``total`` bytes, of which ``first`` were there at the time ``started``."""

    message: str
    total: int
    first: int
    started: float
    ascii: bool = False
    current: int = 0
    ended: float | None = None
    samples: list[tuple[float, int]] = field(default_factory=list)
    """Times and counts, one a second, of the last ten seconds."""

    def __post_init__(self) -> None:
        self.current = self.first
        if self.first >= self.total:
            self.ended = self.started

    def set(self, now: float, count: int) -> None:
        """Note that ``count`` bytes are there."""
        self.current = min(count, self.total)
        if self.current >= self.total:
            self.ended = now
        if not self.samples or now - self.samples[-1][0] > _SAMPLE_SECONDS:
            self.samples = [*self.samples, (now, self.current)][-_SAMPLES:]

    def stop(self, now: float) -> None:
        """Leave the bar as it is; a bar ends with its last byte."""

    def rate(self) -> float:
        """Return the bytes per second of the last samples, 0 without any."""
        if not self.samples:
            return 0.0
        since = self.samples[0] if len(self.samples) > 1 else (self.started, self.first)
        until = self.samples[-1]
        return (until[1] - since[1]) / (until[0] - since[0]) if until[0] > since[0] else 0.0

    def text(self, now: float, columns: int) -> str:
        """Return the bar; on a narrow terminal without the bar itself, or without rate and remaining time."""
        share = self.current / self.total * 100 if self.total > 0 else 0.0
        head = f"{self.message.strip()} {share:3.0f}%" if self.message else f"{share:3.0f}%"
        sizes = human_bytes(self.total).rjust(_SIZE_COLUMNS)
        rate = 0.0 if self.ended is not None else self.rate()
        if self.ended is None:
            sizes = f"{human_bytes(self.current).rjust(_SIZE_COLUMNS)}/{sizes}"
        else:
            sizes += " " * (_SIZE_COLUMNS + 1)
        speed = " " * 18
        if rate > 0:
            remaining = _remaining(int((self.total - self.current) / rate)).rjust(_SIZE_COLUMNS)
            speed = f"  {human_bytes(int(rate)).rjust(_SIZE_COLUMNS)}/s  {remaining}"
        width = columns - text_width(head) - len(sizes) - len(speed) - 5
        if width >= 0:
            full = int(width * share / 100)
            left, block, right = _ASCII_BAR if self.ascii else _BAR
            return f"{head} {left}{block * full}{' ' * (width - full)}{right} {sizes}{speed}"
        for line in (f"{head} {sizes}{speed}", f"{head} {sizes}"):
            if text_width(line) < columns:
                return line
        return clipped(head, columns - 1)


def _remaining(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    if hours >= 100:
        return "99h+"
    minutes, seconds = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"
