"""A stand-in for the providers Tenantry works with, so that it runs and is tested with no account."""
