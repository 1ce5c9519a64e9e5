"""What several broker processes share: replay, presence, quotas. Never the decision log."""
