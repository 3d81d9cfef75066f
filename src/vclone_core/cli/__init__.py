"""The `vclone` command."""
