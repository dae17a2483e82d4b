"""Publishing: finished renditions become posts on the accounts' channels, each exactly once."""
