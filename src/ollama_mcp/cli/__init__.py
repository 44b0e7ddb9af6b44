"""The command `ollama-mcp`: argv to settings to what runs. The only ring that prints."""

from __future__ import annotations

import argparse
import gc
import signal
import sys
from collections.abc import Callable, Sequence

from ollama_mcp import __version__
from ollama_mcp.cli.output import die_with_the_reader
from ollama_mcp.settings import Settings, SettingsError, load, with_default_store

Command = Callable[[argparse.Namespace, Settings], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 done, 1 it did not work, 2 bad usage or settings."""
    arguments = _parser().parse_args(argv)
    try:
        settings = load(flags=_flags(arguments))
        settings = with_default_store(settings, is_made=arguments.command in {_index, _ask})
    except SettingsError as error:
        for problem in error.problems:
            print(f"ollama-mcp: {problem}", file=sys.stderr)
        return 2
    command: Command = arguments.command
    if argv is None and command in {_doctor, _demo}:
        die_with_the_reader()  # of a process of our own only: who calls us from Python keeps its signals
    try:
        if argv is None and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on it is ours to end well
        return command(arguments, settings)
    except KeyboardInterrupt:
        return 130  # what a shell says of Ctrl-C


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ollama-mcp",
        description="An MCP server for the language models that run on your machine, in Ollama.",
        epilog="Without a command it serves MCP on stdin and stdout. Settings are environment variables; "
        "`ollama-mcp doctor` shows those in force.",
    )
    parser.add_argument("--version", action="version", version=f"ollama-mcp {__version__}")
    parser.set_defaults(command=_serve)
    _add_flags(parser)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    serve = commands.add_parser("serve", help="serve MCP on stdin and stdout (the default), or over HTTP")
    serve.set_defaults(command=_serve)
    _add_flags(serve)
    doctor = commands.add_parser("doctor", help="say what works, what does not, and what to do about it")
    doctor.set_defaults(command=_doctor)
    _add_flags(doctor)
    demo = commands.add_parser(
        "demo", help="watch a real MCP client talk to a real model through this server"
    )
    demo.add_argument(
        "--embedded", action="store_true", help="use the embedded engine even if there is an Ollama"
    )
    demo.set_defaults(command=_demo)
    _add_setup(commands)
    _add_documents(commands)
    _add_conversations(commands)
    _add_embedded(commands)
    return parser


_VALUES = {
    "toolsets": (
        "NAMES",
        "groups of tools with commas between, such as chat,models; or all",
    ),
    "tools": ("NAMES", "single tools beside those"),
    "http": ("HOST:PORT", "serve Streamable HTTP there, at /mcp, instead of stdio"),
    "token-file": ("FILE", "file of bearer tokens; others than this machine need one"),
    "verifier": ("MODULE:FACTORY", "a TokenVerifier of your own (OAuth) instead of tokens"),
    "allow-hosts": ("NAMES", "names, with commas between, by which the server is called beside its own"),
    "allow-origins": ("ORIGINS", "origins, with commas between, whose pages may call"),
    "protocol": (
        "ERA",
        "auto, or legacy for a client that cannot be served otherwise: only versions before 2026-07-28",
    ),
}
_SWITCHES = {
    "read-only": "leave out every tool that changes something, whatever else is said",
    "sse": "serve the SSE transport of 2024, too, at /sse",
    "insecure-no-auth": "let everybody call who reaches the address",
}


def _add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags; each stands for a setting, and wins over its variable."""
    for name, (value, says) in _VALUES.items():
        parser.add_argument(f"--{name}", metavar=value, default=argparse.SUPPRESS, help=says)
    for name, says in _SWITCHES.items():
        parser.add_argument(
            f"--{name}", action="store_const", const="1", default=argparse.SUPPRESS, help=says
        )


def _flags(arguments: argparse.Namespace) -> dict[str, str]:
    """The flags as the settings that they stand for."""
    names = [name.replace("-", "_") for name in (*_VALUES, *_SWITCHES)]
    given = {name: getattr(arguments, name, None) for name in names}
    return {f"OLLAMA_MCP_{name.upper()}": value for name, value in given.items() if value is not None}


def _add_setup(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    setup = commands.add_parser("setup", help="put this server into the settings of your MCP clients")
    setup.add_argument(
        "clients", nargs="*", metavar="CLIENT", help="clients to change (default: those found)"
    )
    setup.add_argument(
        "--print", dest="shown", metavar="CLIENT", default="", help="print a client's entry only"
    )
    setup.add_argument("--remove", action="store_true", help="take the server out again")
    setup.add_argument(
        "--env", action="append", metavar="NAME=VALUE", default=[], help="a setting of the server"
    )
    setup.add_argument("--http", dest="url", metavar="URL", default="", help="address of a server over HTTP")
    setup.add_argument("--name", metavar="NAME", default="ollama", help="name of the server (default ollama)")
    setup.add_argument("--yes", action="store_true", help="write without a question")
    setup.set_defaults(command=_setup)


def _setup(arguments: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.cli.setup import Options, setup  # noqa: PLC0415

    given = arguments
    options = Options(given.clients, given.shown, given.remove, given.env, given.url, given.name, given.yes)
    return setup(settings, options)


def _add_documents(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    named = argparse.ArgumentParser(add_help=False)
    named.add_argument(
        "--collection", metavar="NAME", default="documents", help="name of the collection (default documents)"
    )
    index = commands.add_parser("index", parents=[named], help="index a folder, so that questions find it")
    index.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="folder, file or pattern; none: what has changed of last time",
    )
    index.set_defaults(command=_index)
    ask = commands.add_parser(
        "ask", parents=[named], help="answer a question from indexed documents, or with tools"
    )
    ask.add_argument("question", metavar="QUESTION", help="the question, in quotes")
    ask.add_argument("--model", metavar="NAME", default="", help="chat model (default: as for a tool)")
    ask.add_argument(
        "--tools", metavar="NAMES", action="append", dest="agent_tools",
        help="let the model call these tools of OLLAMA_MCP_UPSTREAM, such as 'fs__*,git__git_log'",
    )  # fmt: skip
    ask.add_argument(
        "--mcp", metavar="COMMAND", action="append", default=[],
        help="let it call the tools of this MCP server: 'python my_server.py', or an address",
    )  # fmt: skip
    ask.add_argument("--yes", action="store_true", help="call tools that change something without a question")
    ask.set_defaults(command=_ask)


def _add_conversations(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    parser = commands.add_parser("conversations", help="list, show, export and delete what models were told")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    texts = {
        "list": "list them, the newest first",
        "show": "print one as Markdown",
        "export": "write one to stdout, as Markdown or JSON",
        "delete": "delete one",
        "purge": "delete those of all callers that were not used for some days",
    }
    for action, text in texts.items():
        one = actions.add_parser(action, help=text)
        one.set_defaults(command=_conversations, action=action, name="", json=False, days=0.0)
        if action in {"show", "export", "delete"}:
            one.add_argument("name", metavar="NAME", help="name of the conversation")
        if action == "export":
            one.add_argument("--json", action="store_true", help="as JSON")
        if action == "purge":
            one.add_argument("--days", type=float, metavar="DAYS", help="days of no use (default 0: all)")


def _conversations(arguments: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.cli.conversation_commands import conversations  # noqa: PLC0415

    return conversations(
        settings, arguments.action, arguments.name, as_json=arguments.json, days=arguments.days
    )


def _index(arguments: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.cli.document_commands import index  # noqa: PLC0415

    return index(settings, arguments.paths, arguments.collection)


def _ask(arguments: argparse.Namespace, settings: Settings) -> int:
    if arguments.mcp or arguments.agent_tools is not None:
        from ollama_mcp.cli.agent_command import ask_agent  # noqa: PLC0415

        tools = [name for names in arguments.agent_tools or () for name in names.replace(",", " ").split()]
        task, model = arguments.question, arguments.model
        return ask_agent(settings, task, tools, arguments.mcp, model, yes=arguments.yes)
    from ollama_mcp.cli.document_commands import ask  # noqa: PLC0415

    return ask(settings, arguments.question, arguments.collection, arguments.model)


def _add_embedded(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:  # pyright: ignore[reportPrivateUsage]
    embedded = commands.add_parser("embedded", help="the small engine for machines without Ollama")
    actions = embedded.add_subparsers(title="actions", metavar="COMMAND", required=True)
    fetch = actions.add_parser("fetch", help="download its two small models into the cache")
    fetch.set_defaults(command=_embedded_fetch)
    serve = actions.add_parser("serve", help="serve Ollama's API on loopback until Ctrl-C")
    serve.add_argument("--port", type=int, default=11435, help="port to listen on (default 11435; 0: any)")
    serve.set_defaults(command=_embedded_serve)


def _serve(_: argparse.Namespace, settings: Settings) -> int:
    gc.disable()  # what is loaded now is not garbage, and to find that out is a seventh of the start
    from ollama_mcp.transports.standard_streams import claim_stdio  # noqa: PLC0415 - each command imports its own

    # Before the SDK is imported: what it brings may print.
    wires = claim_stdio() if settings.http.bind is None else None
    from ollama_mcp.cli.serve import serve  # noqa: PLC0415

    return serve(settings, wires)


def _doctor(_: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.cli.doctor import doctor  # noqa: PLC0415

    return doctor(settings)


def _demo(arguments: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.cli.demo import demo  # noqa: PLC0415

    return demo(settings, embedded=arguments.embedded)


def _embedded_fetch(_: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.cli.embedded import fetch  # noqa: PLC0415

    return fetch(settings)


def _embedded_serve(arguments: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.cli.embedded import serve  # noqa: PLC0415

    return serve(settings, arguments.port)
