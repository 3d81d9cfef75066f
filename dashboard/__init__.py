"""The dashboard: server-rendered pages over the same actions as the JSON API."""

from __future__ import annotations

from quart import Blueprint

from .format import ago, show_size, static_url, without_scheme


def make_blueprint() -> Blueprint:
    """Return the blueprint that brings templates and static files; `pages.PAGES` are its routes."""
    blueprint = Blueprint(
        "dashboard", __name__, template_folder="templates", static_folder="static", static_url_path="/static"
    )
    blueprint.add_app_template_filter(without_scheme)
    blueprint.add_app_template_filter(show_size, "size")
    blueprint.add_app_template_global(ago)
    blueprint.add_app_template_global(static_url, "static")
    return blueprint
