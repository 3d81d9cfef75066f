"""`vclone explain URL`: what the edge would do with one request, stage by stage, without serving it.

The stages are the edge's own rules, run by `vclone_edge.explain`. That package sits above this one, so it is looked up
by name when the command runs.
"""

from __future__ import annotations
