"""Certificates, keys, the signed directory and signed envelopes."""
