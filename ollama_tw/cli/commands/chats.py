"""``ollama chats``: lists the kept conversations of interactive sessions, or deletes some."""

import click

from ollama_tw.cli.chats import Chats
from ollama_tw.cli.command import Command, json_option, print_json
from ollama_tw.cli.listings import chat_table
from ollama_tw.cli.variables import NO_HISTORY


@click.command("chats", cls=Command, variables=(NO_HISTORY,))
@click.option("--delete", "deleted", multiple=True, metavar="ID", help="Delete a conversation")
@json_option
def command(deleted: tuple[str, ...], as_json: bool) -> None:
    """List the conversations that "ollama run" has kept, the last one first.

    "ollama run -c" continues the last one, "ollama run --continue=ID" another one.
    """
    chats = Chats()
    for id in deleted:
        chats.delete(id)
        click.echo(f"deleted '{id}'", err=as_json)
    if deleted:
        return
    found = chats.all()
    if not as_json:
        click.echo(chat_table(found), nl=False)
        return
    for chat in found:
        print_json(
            {
                "id": chat.id,
                "model": chat.model,
                "title": chat.title,
                "messages": len(chat.messages),
                "modified_at": chat.modified.isoformat(),
            }
        )
