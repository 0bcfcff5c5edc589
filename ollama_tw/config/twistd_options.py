"""Options of ``twistd ollama``: one for each environment variable of the server."""

from collections.abc import Mapping

from twisted.python import usage

from ollama_tw.config.settings import VARIABLES


class Options(usage.Options):
    """Options: ``--num-parallel 4`` for ``OLLAMA_NUM_PARALLEL=4``, ``--debug`` for ``OLLAMA_DEBUG=1``."""

    optFlags = tuple((variable.option, None, variable.summary) for variable in VARIABLES if variable.switch)
    optParameters = tuple(
        (variable.option, None, None, variable.summary) for variable in VARIABLES if not variable.switch
    )

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["listen"] = ()

    def opt_listen(self, description: str) -> None:
        """Listen on this Twisted endpoint (tcp:8080, unix:PATH) instead of --host; may be repeated."""
        self["listen"] += (description,)

    def environ(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return ``base`` with the variables of the given options replaced, for ``Settings.read``."""
        merged = dict(base)
        for variable in VARIABLES:
            given = self[variable.option]
            if variable.switch and given:
                merged[variable.name] = "1"
            elif not variable.switch and given is not None:
                merged[variable.name] = given
        return merged
