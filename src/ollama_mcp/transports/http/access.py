"""Who may call over HTTP, under which names, and how much at once: what `http_app` needs to know of it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.settings import AuthSettings

from ollama_mcp.settings import Http, Settings
from ollama_mcp.settings.limits import USUAL
from ollama_mcp.settings.listening import AllowedHost, Authority, Names, is_loopback, parse_authority
from ollama_mcp.transports.http.tokens import StaticTokens, auth_settings_of, load_verifier


@dataclass(frozen=True)
class Access:
    """What is let in.

    Attributes:
        names: By which names the server may be called, and from which pages.
        verifier: Tells whose token it is; None: nobody needs one.
        auth: What the verifier's issuer is, for clients that ask it for a token; None without one.
        connections: Open requests, connections, and sessions, at most.
        body: Bytes of the largest request.
        insecure: Whether others than this machine may call without a token.
    """

    names: Names = field(default_factory=Names)
    verifier: TokenVerifier | None = None
    auth: AuthSettings | None = None
    connections: int = Http.connections
    body: int = USUAL.line
    insecure: bool = False

    def told(self, http: Http) -> str:
        """Who may call, for people."""
        if http.verifier:
            return f"those whom {http.verifier} knows"
        owners = list(dict.fromkeys(name or "one without a name" for name, _ in http.tokens))
        if http.tokens:
            return "those with a token" + (f" ({', '.join(owners)})" if any(dict(http.tokens)) else "")
        return "EVERYBODY who reaches it" if self.insecure else "this machine"


def access_of(settings: Settings) -> Access:
    """What an operator's settings let in.

    Raises:
        ValueError: They are contrary to one another, or the verifier cannot be made.
    """
    http = settings.http
    verifier = _verifier(http)
    auth = auth_settings_of(verifier) if verifier is not None else None
    if http.insecure_no_auth and verifier is not None:
        raise ValueError("OLLAMA_MCP_INSECURE_NO_AUTH is contrary to tokens: leave one of them out")
    return Access(
        names=Names(_bound(http), (*http.allow_hosts, *_own_hosts(auth)), http.allow_origins),
        verifier=verifier,
        auth=auth,
        connections=http.connections,
        body=settings.limits.line,
        insecure=http.insecure_no_auth,
    )


def refuse_strangers(access: Access) -> None:
    """See that no other machine is let in by its name, through a proxy or a page of its own, without a token.

    Raises:
        ValueError: One is, and nothing is said of tokens.
    """
    if access.verifier is not None or access.insecure:
        return
    own = {host.name for host in _own_hosts(access.auth)}
    for allowed in (*access.names.hosts, *access.names.origins):
        if allowed.name not in own and not Authority(allowed.name).is_this_machine:
            raise ValueError(
                f"{allowed} is allowed to call, which is not this machine (OLLAMA_MCP_ALLOW_HOSTS, "
                f"OLLAMA_MCP_ALLOW_ORIGINS): {_LET_IN}"
            )


_LET_IN = (
    "set OLLAMA_MCP_TOKEN or --token-file (`openssl rand -hex 32` writes a token), or --verifier; "
    "--insecure-no-auth lets everybody who reaches it use your models, and what else you switched on"
)


def _verifier(http: Http) -> TokenVerifier | None:
    if http.verifier and http.tokens:
        raise ValueError("a verifier (OLLAMA_MCP_VERIFIER, --verifier) is contrary to tokens: leave one out")
    if http.verifier:
        return load_verifier(http.verifier)
    return StaticTokens(http.tokens) if http.tokens else None


def _own_hosts(auth: AuthSettings | None) -> list[AllowedHost]:
    """Names that need not be allowed: this machine's, and that of the resource whose tokens are taken.

    A stranger's page cannot have the machine's name, unless the stranger rules its network's names.
    """
    own = parse_authority(socket.gethostname())
    found = [AllowedHost(own.name)] if own is not None and own.port is None else []
    if auth is not None and auth.resource_server_url is not None and auth.resource_server_url.host:
        found.append(AllowedHost(auth.resource_server_url.host.lower()))
    return found


def _bound(http: Http) -> str:
    """The name that was bound; "" for all addresses, which is no name to be called by."""
    name = http.bind[0] if http.bind else Names.bound
    try:
        return "" if ipaddress.ip_address(name).is_unspecified else name
    except ValueError:
        return name


def refuse_exposure(access: Access, addresses: Iterable[str]) -> None:
    """See that nobody but this machine calls without a token, unless the operator wants that.

    Raises:
        ValueError: An address can be reached by others, and nothing is said of tokens.
    """
    refuse_strangers(access)
    open_to_others = [address for address in addresses if not is_loopback(address)]
    if open_to_others and access.verifier is None and not access.insecure:
        raise ValueError(
            f"others than this machine can reach {open_to_others[0]}: listen on 127.0.0.1, or {_LET_IN}"
        )
