"""One module per subcommand of ``adaptis``."""
