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
        GitApps,
        GitHost,
        GitHostFactory,
        Held,
        HostAnswer,
        HostClient,
        Identity,
        IssuedCertificate,
        IssuerConfig,
        MadeApp,
        ObjectBody,
        ObjectInfo,
        ObjectStore,
        ObjectStoreFactory,
        OnOutput,
        RunnerConfig,
        Span,
        StoreConfig,
    )
    from vclone_core.rules import webhooks
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
    "GitApps",
    "GitHost",
    "GitHostFactory",
    "Held",
    "HostAnswer",
    "HostClient",
    "Identity",
    "IssuedCertificate",
    "IssuerConfig",
    "MadeApp",
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
    "webhooks",
]

# Where a name lives that is not one of `protocols`, and the names that are modules.
_HOMES = {
    "check_object_key": "rules.objectkeys",
    "check_object_prefix": "rules.objectkeys",
    "get_log": "log",
    "hookimpl": "hookspecs",
    "tell_special": "rules.addresses",
}
_MODULES = {"buildsessions": "buildsessions", "errors": "errors", "models": "models", "webhooks": "rules.webhooks"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _MODULES:
        value: Any = import_module(f"{__name__}.{_MODULES[name]}")
    else:
        value = getattr(import_module(f"{__name__}.{_HOMES.get(name, 'protocols')}"), name)
    globals()[name] = value
    return value
