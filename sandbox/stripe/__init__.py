"""The room that answers as Stripe: its API, its hosted pages and its signed webhooks."""
