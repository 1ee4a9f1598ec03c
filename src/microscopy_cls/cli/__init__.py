"""The command line: parse, load the config, one library call, print, exit code."""
