"""`python -m vclone_core.cli`: how `vclone up` starts the processes that are the same program."""

from vclone_core.cli import main

main()
