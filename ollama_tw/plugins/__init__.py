"""The backends. Other packages may put modules of their own into this one (docs/backends.md)."""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))  # type: ignore[no-untyped-call]
__all__: list[str] = []
