"""The node's gRPC surfaces: attached to brokers, and listening for its own cameras only."""
