"""vclone's plugin API: what a plugin may import, and all that it may.

Names are loaded at first use: `import vclone_core.errors`, as the CLI does it, loads neither pluggy nor structlog.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vclone_core import buildsessions, errors, models
    from vclone_core.hookspecs import hookimpl
    from vclone_core.log import get_log
    from vclone_core.protocols import (
        AuthProvider,
        AuthProviderConfig,
        AuthProviderFactory,
        BuildRunner,
        BuildRunnerFactory,
        BuildSession,
        CertificateIssuer,
        CertificateIssuerFactory,
        ExitStatus,
        Held,
        Identity,
        IssuedCertificate,
        IssuerConfig,
        ObjectBody,
        ObjectInfo,
        ObjectStore,
        ObjectStoreFactory,
        OnOutput,
        RunnerConfig,
        Span,
        StoreConfig,
    )
    from vclone_core.rules.addresses import tell_special
    from vclone_core.rules.objectkeys import check_object_key, check_object_prefix

__all__ = [
    "AuthProvider",
    "AuthProviderConfig",
    "AuthProviderFactory",
    "BuildRunner",
    "BuildRunnerFactory",
    "BuildSession",
    "CertificateIssuer",
    "CertificateIssuerFactory",
    "ExitStatus",
    "Held",
    "Identity",
    "IssuedCertificate",
    "IssuerConfig",
    "ObjectBody",
    "ObjectInfo",
    "ObjectStore",
    "ObjectStoreFactory",
    "OnOutput",
    "RunnerConfig",
    "Span",
    "StoreConfig",
    "buildsessions",
    "check_object_key",
    "check_object_prefix",
    "errors",
    "get_log",
    "hookimpl",
    "models",
    "tell_special",
]

# Where a name lives that is not one of `protocols`; an empty string stands for a module of that name.
_HOMES = {
    "buildsessions": "",
    "check_object_key": "rules.objectkeys",
    "check_object_prefix": "rules.objectkeys",
    "errors": "",
    "get_log": "log",
    "hookimpl": "hookspecs",
    "models": "",
    "tell_special": "rules.addresses",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOMES.get(name, "protocols")
    module = import_module(f"{__name__}.{home or name}")
    value = getattr(module, name) if home else module
    globals()[name] = value
    return value
