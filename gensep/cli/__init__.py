"""The command line: options as dataclasses, TOML files, and the record of how a result was made."""
