"""Read formats of plate readers, one file each."""
