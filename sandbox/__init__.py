"""A stand-in for Supabase, so that Tenantry runs and is tested with no account."""
