"""Tests of the revenue room."""
