"""A Sphinx extension: the directive ``commands`` has what ``--help`` says of every command, in its own words."""

import inspect
from collections.abc import Iterator

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from refrm.cli import cli


def options(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the options as a definition list."""
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and parameter.name != "help":
            yield f"`{record[0]}`\n: {record[1].replace('[', chr(92) + '[')}\n"


def section(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield what there is to say of one command, as Markdown; its examples stand after a line with a backspace."""
    said, _, examples = inspect.cleandoc(command.help or "").partition("\n\n\b\nExamples:\n")
    yield f"## {context.command_path}\n\n{said}\n"
    yield f"```text\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```\n"
    yield from options(command, context)
    if examples:
        yield f"```text\n{inspect.cleandoc(examples)}\n```\n"


def page() -> str:
    """Return the page of all commands, as Markdown."""
    top = click.Context(cli, info_name="refrm", **cli.context_settings)
    parts = []
    for name in cli.list_commands(top):
        command = cli.get_command(top, name)
        if command is not None:
            parts += section(command, click.Context(command, top, name))
    return "\n".join(parts)


class Commands(SphinxDirective):
    """``{commands}``, without arguments."""

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes(page(), allow_section_headings=True)


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("commands", Commands)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
