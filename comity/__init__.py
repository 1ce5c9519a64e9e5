"""The words that broker, node, command line and auditors share. Nothing here does I/O."""
