"""The broker's gRPC surface: decode, call the core, encode."""
