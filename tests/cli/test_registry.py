"""A model's way through a registry, by commands alone."""

from pathlib import Path

from tests.cli.conftest import Ollama, Result
from tests.registry.docker import DockerRegistry


def test_create_push_rm_pull_run(ollama: Ollama, registry_program: str, tmp_path: Path) -> None:
    registry = DockerRegistry(registry_program, tmp_path / "registry")
    try:
        name = f"{registry.wait_until_up().host}/team/travelling"
        (tmp_path / "Modelfile").write_text("FROM m\nSYSTEM Be brief.\n")
        assert ollama("create", name) == Result(0, "", "")
        pushed = ollama("push", name, "--insecure")
        assert pushed == Result(0, f"\nYou can find your model at:\n\n\t{name}:latest\n", "")
        assert ollama("rm", name) == Result(0, f"deleted '{name}'\n", "")
        assert ollama("show", name).code == 1
        fit = ollama("fit", name, "--insecure")
        assert (fit.code, fit.err) == (0, "")
        assert fit.out.startswith("  Model\n    architecture      llama ")
        assert ollama("pull", name, "--insecure") == Result(0, "", "")
        assert ollama("run", name, "SAY back again") == Result(0, "back again\n\n", "")
        assert ollama("rm", name).code == 0
        # What is not there is pulled by run itself.
        assert ollama("run", name, "SAY pulled", "--insecure") == Result(0, "pulled\n\n", "")
        assert ollama("rm", name).code == 0
    finally:
        registry.stop()
