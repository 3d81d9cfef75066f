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
from vclone_core.rules.objectkeys import check_object_key, check_object_prefix

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
    "check_object_key",
    "check_object_prefix",
    "errors",
    "get_log",
    "hookimpl",
    "models",
]
