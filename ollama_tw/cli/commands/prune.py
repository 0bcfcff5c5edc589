"""``ollama prune``: removes the files of the models directory that no model uses."""

import time

import click

from ollama_tw.cli.command import Command, UsageError, json_option, print_json
from ollama_tw.cli.folder import MODELS, models_folder
from ollama_tw.cli.tables import table
from ollama_tw.errors import reason_of
from ollama_tw.golang.humanize import human_bytes, human_time
from ollama_tw.library.manifests import ManifestError, prune_empty_directories
from ollama_tw.library.unused import Survey, UnusedFile, survey

_SHOWN = len("sha256-") + 12


@click.command("prune", cls=Command, variables=(MODELS,))
@click.option("--dry-run", is_flag=True, help="Only list what would be removed")
@json_option
def command(dry_run: bool, as_json: bool) -> None:
    """Remove the blobs that no model uses and the rests of interrupted downloads from the models directory.

    What may belong to a download or creation under way is kept: files of the last hour, and meanwhile all
    complete blobs.
    """
    root = models_folder()
    now = time.time()
    try:
        found = survey(root, now=now)
    except ManifestError as error:
        raise UsageError(
            f"nothing was removed: a manifest is damaged, pull or remove its model: {error}"
        ) from error
    if not dry_run:
        _remove(found)
        prune_empty_directories(root)
    if as_json:
        print_json({"dry_run": dry_run, **{key: _records(getattr(found, key)) for key in ("remove", "keep")}})
        return
    if found.remove:
        rows = [
            (_short(file), human_bytes(file.size), _age(file, now), "blob" if file.complete else "unfinished")
            for file in found.remove
        ]
        click.echo(table(rows, header=("FILE", "SIZE", "MODIFIED", "KIND")), nl=False)
    click.echo(f"{'would remove' if dry_run else 'removed'} {_sum(found.remove)}")
    if found.keep:
        click.echo(f"kept {_sum(found.keep)}, because a download or creation may be under way")


def _remove(found: Survey) -> None:
    """Remove the files unless they changed since; raises UsageError for one that cannot be removed."""
    for file in found.remove:
        try:
            if file.path.lstat().st_mtime == file.modified:
                file.path.unlink()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UsageError(
                f"{reason_of(error)}: {file.path}: run the command as the user of the server"
            ) from error


def _records(files: tuple[UnusedFile, ...]) -> list[dict[str, object]]:
    return [{"name": file.path.name, "size": file.size, "complete": file.complete} for file in files]


def _short(file: UnusedFile) -> str:
    """Return the name of a file with the first 12 digits of its digest."""
    name = file.path.name
    digits = len("sha256-") + 64
    return name if len(name) < digits else name[:_SHOWN] + name[digits:]


def _age(file: UnusedFile, now: float) -> str:
    return human_time(int((now - file.modified) * 1e9))


def _sum(files: tuple[UnusedFile, ...]) -> str:
    count = len(files)
    return f"{count} {'file' if count == 1 else 'files'} ({human_bytes(sum(file.size for file in files))})"
