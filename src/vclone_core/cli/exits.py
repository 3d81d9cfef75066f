"""The exit codes of `vclone`. They are a promise: scripts branch on them."""

from __future__ import annotations

from typing import Final

EXIT_CODES: Final[dict[str, str]] = {
    "0": "done",
    "1": "something went wrong inside the platform; its operator finds it in the log",
    "2": "what was asked can't be used: a wrong option, argument, field or setting",
    "3": "there is no such thing, or it isn't yours",
    "4": "nobody is signed in, or it isn't allowed",
    "5": "it can't be done in the state that things are in",
    "6": "a limit was reached; try again later",
    "7": "a part of the platform doesn't answer; try again shortly",
    "20": "the build failed, by what was built; each step has its own:",
    "21 to 29": "clone and detect",
    "30 to 39": "install",
    "40 to 49": "build and its output",
    "60 to 69": "upload",
    "70": "a mistake in vclone itself, shown with a traceback",
    "71 to 79": "publish",
    "80": "every worker that started the build was lost",
    "130": "ended by Ctrl-C, or by a reader of its output that left",
}
