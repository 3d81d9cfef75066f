"""What the files of a repository say about its build, put over the project's settings, and who said what.

`vercel.json` goes before `netlify.toml`, and both before the project's settings, as on the platforms they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from vclone_core.models import ProjectSettings

BY_PROJECT: Final = "project settings"


@dataclass(frozen=True, slots=True)
class FileSettings:
    """Fields of `ProjectSettings` that one file sets, and the file's name."""

    name: str
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EffectiveSettings:
    """The settings of one build; `origins` names the file that a field comes from, where it is a file."""

    settings: ProjectSettings
    origins: Mapping[str, str] = field(default_factory=dict)

    def tell(self, field_name: str) -> str:
        """Return who says what this field holds."""
        return self.origins.get(field_name, BY_PROJECT)


def apply_files(settings: ProjectSettings, *files: FileSettings) -> EffectiveSettings:
    """Return the settings of a build; an earlier file beats a later one, and any file the project."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for file in reversed(files):
        values |= file.values
        origins |= dict.fromkeys(file.values, file.name)
    return EffectiveSettings(replace(settings, **values), origins)
