"""The HTTP side door: health, and links that play finished media. Holds no logic of its own."""
