"""Billing: which plan an account has, what it entitles to, and the videos it has used of it."""
