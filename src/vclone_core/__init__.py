"""vclone's plugin API: what a plugin may import, and all that it may."""

from vclone_core import errors, models
from vclone_core.hookspecs import hookimpl
from vclone_core.log import get_log
from vclone_core.protocols import (
    BuildRunner,
    BuildRunnerFactory,
    BuildSession,
    ExitStatus,
    ObjectBody,
    ObjectInfo,
    ObjectStore,
    ObjectStoreFactory,
    OnOutput,
    RunnerConfig,
    Span,
    StoreConfig,
)

__all__ = [
    "BuildRunner",
    "BuildRunnerFactory",
    "BuildSession",
    "ExitStatus",
    "ObjectBody",
    "ObjectInfo",
    "ObjectStore",
    "ObjectStoreFactory",
    "OnOutput",
    "RunnerConfig",
    "Span",
    "StoreConfig",
    "errors",
    "get_log",
    "hookimpl",
    "models",
]
