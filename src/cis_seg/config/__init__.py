"""The options of every command: schema, validation, and the command line."""
