"""Where things lie in the object store. The only place that spells a key."""

from __future__ import annotations


def blob_key(project_id: str, sha256: str) -> str:
    """Return the key of one file's bytes. Blobs are shared within a project and never across projects."""
    return f"{project_id}/blobs/{sha256}"


def manifest_key(project_id: str, deployment_id: str) -> str:
    """Return the key of a deployment's manifest; written last, so that what has one is whole."""
    return f"{project_id}/{deployment_id}/manifest.json"


def source_key(project_id: str, deployment_id: str) -> str:
    """Return the key of the file list of an uploaded source; its bytes are blobs of the project."""
    return f"{project_id}/{deployment_id}/source.json"


def cache_key(project_id: str, key: str) -> str:
    """Return the key of one archive of a build cache."""
    return f"{project_id}/cache/{key}"
