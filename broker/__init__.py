"""The broker program: decides, records, and asks the nodes that may be asked."""
