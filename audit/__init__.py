"""The tamper-evident decision log: entries, Merkle tree, store, verification."""
