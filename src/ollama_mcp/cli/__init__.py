"""The command `ollama-mcp`: argv to settings to what runs. The only ring that prints."""

from __future__ import annotations

import argparse
import gc
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from ollama_mcp import __version__
from ollama_mcp.cli.output import die_with_the_reader, start_log, write_any_text
from ollama_mcp.cli.parser import COMMON, MainParser, Parser
from ollama_mcp.settings import Settings, SettingsError, load, with_default_store

Command = Callable[[argparse.Namespace, Settings], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status: 0 done, 1 it did not work, 2 bad usage or settings."""
    arguments = _parser().parse_args(argv)
    command: Command = arguments.command
    if command is not _serve:  # it imports more, and enables it then
        gc.enable()
    flags = _flags(arguments)
    try:
        settings = load(flags=flags)
        settings = with_default_store(settings, is_made=command is _index)
        if command not in {_serve, _doctor}:  # these two have a way of their own
            start_log(settings)
    except (SettingsError, ValueError) as error:
        problems = error.problems if isinstance(error, SettingsError) else [str(error)]
        problems = [_in_words_of_flags(problem, flags) for problem in problems]
        if command is _doctor:
            from ollama_mcp.cli.doctor import report_wrong_settings  # noqa: PLC0415

            return report_wrong_settings(problems, as_json=arguments.json)
        for problem in problems:
            print(f"ollama-mcp: {problem}", file=sys.stderr)
        can_say_so = command is _serve and isinstance(error, SettingsError) and not error.stops
        return _serve_problems(problems) if can_say_so else 2
    is_ours = argv is None  # who calls us from Python keeps the signals
    if is_ours and command not in {_serve, _embedded_serve}:
        die_with_the_reader()
        write_any_text()
    try:
        if is_ours and signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # from here on it is ours to end well
        return command(arguments, settings)
    except KeyboardInterrupt:
        return 130  # what a shell says of Ctrl-C
    finally:
        if is_ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one, while Python ends, is no traceback


def _in_words_of_flags(problem: str, flags: Mapping[str, str]) -> str:
    """Return a problem with the flags that were given in place of their variables.

    >>> _in_words_of_flags("OLLAMA_MCP_HTTP: 'x' is not allowed", {"OLLAMA_MCP_HTTP": "x"})
    "--http: 'x' is not allowed"
    """
    for variable in flags:
        flag = "--" + variable.removeprefix("OLLAMA_MCP_").lower().replace("_", "-")
        problem = re.sub(rf"\b{variable}\b", flag, problem)
    return problem


def _parser() -> argparse.ArgumentParser:
    parser = MainParser(
        prog="ollama-mcp",
        description="An MCP server for the language models that run on your machine, in Ollama. "
        "Without a command it serves MCP on stdin and stdout.",
        epilog="Every setting is an environment variable, too: docs/settings.md has them all, and "
        "`ollama-mcp doctor` shows those that you have set.",
    )
    parser.add_argument("-V", "--version", action="version", version=f"ollama-mcp {__version__}")
    parser.set_defaults(command=_serve)
    _add_flags(parser, COMMON)
    _add_flags(parser, _VALUES, _SWITCHES)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", parser_class=Parser)
    common = Parser(add_help=False)
    _add_flags(common, COMMON)

    def add(name: str, command: Command, text: str, example: str = "") -> argparse.ArgumentParser:
        """Add a command; its description is also its line in the help of all."""
        found = commands.add_parser(
            name, parents=[common], description=text, formatter_class=argparse.RawDescriptionHelpFormatter,
            epilog=f"Example: {example}" if example else None,
        )  # fmt: skip
        found.set_defaults(command=command)
        return found

    serve = add("serve", _serve, "serve MCP on stdin and stdout (the default), or over HTTP",
                "ollama-mcp serve --http 127.0.0.1:8000")  # fmt: skip
    _add_flags(serve, _VALUES, _SWITCHES)
    setup = add("setup", _setup, "put this server into the settings of your MCP clients",
                "ollama-mcp setup vscode --env OLLAMA_MCP_CHAT_MODEL=qwen3:4b")  # fmt: skip
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
    doctor = add("doctor", _doctor, "say what works, what does not, and what to do about it")
    doctor.add_argument("--json", action="store_true", help="the report as JSON")
    _add_flags(doctor, _VALUES, _SWITCHES)
    demo = add("demo", _demo, "see in a minute what a client gets from a model through this server")
    demo.add_argument("--embedded", action="store_true", help="use the embedded engine, not an Ollama")
    demo.add_argument("--wire", action="store_true", help="show the messages of MCP")
    status = add("status", _status, "show the server, its loaded models and their memory")
    status.add_argument("--watch", action="store_true", help="again every two seconds, until Ctrl-C")
    status.add_argument("--json", action="store_true", help="as JSON")
    models = add("models", _models, "list the installed models, and what each can do")
    models.add_argument("--json", action="store_true", help="as JSON")
    pull = add("pull", _pull, "install models, or bring them up to date", "ollama-mcp pull qwen3:4b")
    pull.add_argument("names", nargs="+", metavar="MODEL", help="name, as on ollama.com/library")
    _add_embedded(add("embedded", _embedded_serve, "the small engine for machines without Ollama"), common)
    _add_documents(add)
    _add_conversations(
        add("conversations", _conversations, "list, show, export and delete what models were told"), common
    )
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


def _add_flags(
    parser: argparse.ArgumentParser,
    values: Mapping[str, tuple[str, str]],
    switches: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Add flags; each stands for a setting, and wins over its variable."""
    for name, (value, says) in values.items():
        parser.add_argument(f"--{name}", metavar=value, default=argparse.SUPPRESS, help=says)
    for name, says in switches.items():
        parser.add_argument(
            f"--{name}", action="store_const", const="1", default=argparse.SUPPRESS, help=says
        )


def _flags(arguments: argparse.Namespace) -> dict[str, str]:
    """The flags as the settings that they stand for."""
    names = [name.replace("-", "_") for name in (*COMMON, *_VALUES, *_SWITCHES)]
    given = {name: getattr(arguments, name, None) for name in names}
    prefix = {"ollama_host": ""}
    return {
        prefix.get(name, "OLLAMA_MCP_") + name.upper(): value
        for name, value in given.items()
        if value is not None
    }


def _setup(arguments: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.cli.setup import Options, setup  # noqa: PLC0415

    given = arguments
    # Said now, so that it wins over the address that a client's entry has.
    address = [f"OLLAMA_HOST={settings.backend.host.url}"] if "OLLAMA_HOST" in _flags(arguments) else []
    env = [*address, *given.env]
    options = Options(given.clients, given.shown, given.remove, env, given.url, given.name, given.yes)
    return setup(settings, options)


def _add_documents(add: Callable[..., argparse.ArgumentParser]) -> None:
    index = add("index", _index, "index a folder, so that questions find it", "ollama-mcp index ~/notes")
    index.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="folder, file or pattern; none: what has changed of last time",
    )
    ask = add("ask", _ask, "answer a question from indexed documents, or with tools",
              'ollama-mcp ask "What did we agree on?"')  # fmt: skip
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
    for parser in (index, ask):
        parser.add_argument(
            "--collection", metavar="NAME", default="documents",
            help="name of the collection (default documents)",
        )  # fmt: skip


def _add_conversations(parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    texts = {
        "list": "list them, the newest first",
        "show": "print one as Markdown",
        "export": "write one to stdout, as Markdown or JSON",
        "delete": "delete one",
        "purge": "delete those of all callers that were not used for some days",
    }
    for action, text in texts.items():
        one = actions.add_parser(action, parents=[common], help=text, description=text)
        one.set_defaults(action=action, name="", json=False, days=0.0)
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


def _add_embedded(embedded: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
    actions = embedded.add_subparsers(title="actions", metavar="COMMAND", required=True)
    texts = {
        "fetch": "download its two small models into the cache",
        "serve": "serve Ollama's API on loopback until Ctrl-C",
    }
    fetch, serve = (
        actions.add_parser(name, parents=[common], help=text, description=text)
        for name, text in texts.items()
    )
    fetch.set_defaults(command=_embedded_fetch)
    serve.add_argument("--port", type=int, default=11435, help="port to listen on (default 11435; 0: any)")
    serve.set_defaults(command=_embedded_serve)


def _serve(arguments: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.transports.standard_streams import claim_stdio  # noqa: PLC0415 - each command imports its own

    # Before the SDK is imported: what it brings may print.
    wires = claim_stdio() if settings.http.bind is None else None
    from ollama_mcp.cli.serve import serve  # noqa: PLC0415

    return serve(settings, wires, partial(_in_words_of_flags, flags=_flags(arguments)))


def _serve_problems(problems: list[str]) -> int:
    """Serve nothing but the problems on stdio; returns 2."""
    from ollama_mcp.transports.standard_streams import claim_stdio  # noqa: PLC0415

    wires = claim_stdio()
    from ollama_mcp.cli.serve import serve_problems  # noqa: PLC0415

    return serve_problems(problems, wires)


def _doctor(arguments: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.cli.doctor import doctor  # noqa: PLC0415

    return doctor(settings, as_json=arguments.json)


def _status(arguments: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.cli.model_commands import status  # noqa: PLC0415

    return status(settings, watches=arguments.watch, as_json=arguments.json)


def _models(arguments: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.cli.model_commands import models  # noqa: PLC0415

    return models(settings, as_json=arguments.json)


def _pull(arguments: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.cli.model_commands import pull  # noqa: PLC0415

    return pull(settings, arguments.names)


def _demo(arguments: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.cli.demo import demo  # noqa: PLC0415

    return demo(settings, embedded=arguments.embedded, shows_wire=arguments.wire)


def _embedded_fetch(_: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.cli.embedded import fetch  # noqa: PLC0415

    return fetch(settings)


def _embedded_serve(arguments: argparse.Namespace, settings: Settings) -> int:
    from ollama_mcp.cli.embedded import serve  # noqa: PLC0415

    return serve(settings, arguments.port)
