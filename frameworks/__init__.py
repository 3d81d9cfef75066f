"""Framework definitions: one TOML file each, data only."""
