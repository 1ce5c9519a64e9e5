"""Detection stores, one file each."""
