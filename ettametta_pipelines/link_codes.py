"""Letters of the short codes in our links, so that all who make one (`commerce`, `publishing`) spell alike."""

# No vowels, so that no word is spelt; nothing that looks like something else.
ALPHABET = "bcdfghjkmnpqrstvwxz23456789"
CODE_CHARS = 10
