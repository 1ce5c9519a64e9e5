"""The `comity` command for agencies, investigators and auditors."""
