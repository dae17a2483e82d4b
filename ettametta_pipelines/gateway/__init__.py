"""The HTTP side door: health, media links, webhooks, and the operators' pages. Holds no logic of its own."""
