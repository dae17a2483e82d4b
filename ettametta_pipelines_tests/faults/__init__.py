"""Crash points crossed with server faults: the real worker process is killed, and the sandbox says what was posted."""
