"""The `farmy` command, one module per group of subcommands."""
