"""The command line: one file a command — parse, call, print. Data goes to stdout, talk to stderr."""
