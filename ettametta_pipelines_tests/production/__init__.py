"""The servers of a production installation on this machine's loopback, and the whole line on them."""
