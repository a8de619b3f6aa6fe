"""Who may call what, and how much."""

import logging
from collections.abc import Callable, Sequence

from facegen.serving.call_context import CallContext
from facegen.serving.config import ServerConfig
from facegen.serving.errors import ForbiddenError, UnauthenticatedError
from facegen.serving.security.limits import ClientLimits
from facegen.serving.security.peers import Peer, certificate_name, host_of, is_loopback
from facegen.serving.security.tokens import Scope, Token, Tokens

__all__ = ["Admission", "Gate", "require_admin"]

_LOGGER = logging.getLogger(__name__)

_KSERVE = "/inference.GRPCInferenceService/"
# What a supervisor asks, which has no token: no more than that the port answers already tells.
_OPEN = frozenset(
    {
        "/grpc.health.v1.Health/Check",
        "/grpc.health.v1.Health/Watch",
        "/grpc.health.v1.Health/List",
        _KSERVE + "ServerLive",
        _KSERVE + "ServerReady",
    }
)
_ADMIN = frozenset({Scope.ADMIN})
_INFER = frozenset({Scope.INFER})
_EITHER = _ADMIN | _INFER
# The scopes of which a caller needs one. TraceSetting and LogSettings ask `require_admin`
# themselves when they are to change something.
_SCOPES: dict[str, frozenset[Scope]] = {
    _KSERVE + method: scopes
    for scopes, methods in (
        (
            _ADMIN,
            "RepositoryModelLoad RepositoryModelUnload SystemSharedMemoryRegister "
            "SystemSharedMemoryUnregister CudaSharedMemoryRegister CudaSharedMemoryUnregister",
        ),
        (
            _EITHER,
            "RepositoryIndex TraceSetting LogSettings SystemSharedMemoryStatus "
            "CudaSharedMemoryStatus ServerMetadata ModelReady ModelMetadata ModelConfig "
            "ModelStatistics",
        ),
    )
    for method in methods.split()
}


class Admission:
    """A call that was let in.

    Attributes:
        client: Whose it is, for fairness between clients: the name of its token or certificate,
            else its connection.
        admin: Whether the caller may load, unload and change settings.
    """

    __slots__ = ("admin", "client")

    def __init__(self, client: str, *, admin: bool) -> None:
        self.client = client
        self.admin = admin

    def release(self) -> None:
        """Note, once, that the call is over."""


class _LimitedAdmission(Admission):
    """A call of a client whose calls are limited."""

    __slots__ = ("_key", "_limits")

    def __init__(self, client: str, *, admin: bool, limits: ClientLimits, key: str) -> None:
        super().__init__(client, admin=admin)
        self._limits = limits
        self._key = key

    def release(self) -> None:
        self._limits.end(self._key)


class Gate:
    """Lets calls in, or refuses them: credentials, scopes, limits of each client.

    With tokens configured every call but health needs one. A client is limited by the name of its
    token, else of its certificate, else by its address, so that more connections gain it nothing.
    Without a name the scheduler is fair between connections: one address may be a proxy's.

    Args:
        config: Which tokens, and which limits; nothing configured lets everybody in.

    Raises:
        ServerError: The file of tokens cannot be used.
    """

    def __init__(self, config: ServerConfig) -> None:
        self._tokens = None if config.tokens is None else Tokens(config.tokens)
        self._allow_admin = config.allow_admin
        self._has_certificates = config.tls_client_ca is not None
        self._limits: ClientLimits | None = None
        if config.max_client_rate or config.max_client_calls:
            self._limits = ClientLimits(rate=config.max_client_rate, calls=config.max_client_calls)
        _warn_of_open_doors(config)

    def admit(
        self,
        method: str,
        metadata: Sequence[tuple[str, str | bytes]],
        peer: Callable[[], Peer],
    ) -> Admission:
        """Let a call in; `release` of what is given must follow.

        Args:
            method: Its full name, `/package.Service/Method`.
            metadata: What came with it.
            peer: Tells who is at the other end.

        Raises:
            UnauthenticatedError: A token is needed, and no valid one came.
            ForbiddenError: The caller may not call this method.
            RateLimitError: The client has used up one of its limits. Retry later.
        """
        if method in _OPEN:
            return Admission("", admin=False)
        scopes = _SCOPES.get(method, _INFER)
        token = None if self._tokens is None else _token(self._tokens, metadata)
        admin = self._allow_admin or (token is not None and Scope.ADMIN in token.scopes)
        if scopes is _ADMIN:
            _check_admin(admin)
        elif token is not None and not token.scopes & scopes:
            raise ForbiddenError(
                f'the token of "{token.name}" does not have the scope "infer"',
                "call with one that has it, or add it in the file of --tokens",
            )
        name = self._name(token, peer)
        client = name or peer().peer()
        if scopes is _ADMIN:
            _LOGGER.info("admin call method=%s client=%s", method, client)
        if self._limits is None:
            return Admission(client, admin=admin)
        key = name or host_of(client)
        self._limits.begin(key)
        return _LimitedAdmission(client, admin=admin, limits=self._limits, key=key)

    def _name(self, token: Token | None, peer: Callable[[], Peer]) -> str:
        if token is not None:
            return token.name
        return certificate_name(peer()) if self._has_certificates else ""


def require_admin(context: CallContext) -> None:
    """Refuse a call that is to change something unless its caller may.

    Raises:
        ForbiddenError: The caller may not.
    """
    _check_admin(context.admin)


def _warn_of_open_doors(config: ServerConfig) -> None:
    """Log what strangers could do whom the configuration lets reach the port."""
    if is_loopback(config.address):
        return
    if config.tokens is not None and config.tls_certificate is None:
        _LOGGER.warning(
            "tokens can be read on their way here: give --tls-certificate, or let a proxy encrypt"
        )
    if config.allow_admin and config.tokens is None and config.tls_client_ca is None:
        _LOGGER.warning("everybody may load and unload models: --allow-admin without --tokens")


def _check_admin(admin: bool) -> None:
    if not admin:
        raise ForbiddenError(
            "this server does not let you load, unload or change settings",
            'call with a token of the scope "admin", or start the server with --allow-admin '
            "(without --tokens, everybody then may)",
        )


def _token(tokens: Tokens, metadata: Sequence[tuple[str, str | bytes]]) -> Token:
    """Find the token of a call; what is wrong with it is not told."""
    for key, value in metadata:
        if key == "authorization":
            scheme, _, secret = str(value).partition(" ")
            token = tokens.find(secret.strip()) if scheme.lower() == "bearer" else None
            if token is not None:
                return token
            break
    raise UnauthenticatedError(
        "this server needs a valid token",
        "send one of its own in the metadata as authorization: Bearer TOKEN",
    )
