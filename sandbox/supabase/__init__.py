"""The room that answers as Supabase: the Management API, and the Auth API of every project."""
