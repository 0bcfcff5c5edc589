"""The options of ``twistd ollama``: each environment variable of the server under another name."""

from collections.abc import Mapping

from twisted.python import usage

from ollama_tw.settings import VARIABLES


class Options(usage.Options):
    """``--num-parallel 4`` is ``OLLAMA_NUM_PARALLEL=4``, ``--debug`` is ``OLLAMA_DEBUG=1``."""

    optFlags = tuple((variable.option, None, variable.summary) for variable in VARIABLES if variable.switch)
    optParameters = tuple(
        (variable.option, None, None, variable.summary) for variable in VARIABLES if not variable.switch
    )

    def environ(self, base: Mapping[str, str]) -> dict[str, str]:
        """``base`` with the given options in the place of the variables; for ``Settings.read``."""
        merged = dict(base)
        for variable in VARIABLES:
            given = self[variable.option]
            if variable.switch and given:
                merged[variable.name] = "1"
            elif not variable.switch and given is not None:
                merged[variable.name] = given
        return merged
