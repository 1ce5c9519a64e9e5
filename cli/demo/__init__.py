"""The sample federation, run as real processes on one machine."""
