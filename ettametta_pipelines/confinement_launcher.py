"""First thing that runs in a confined child: takes rights away from itself, then becomes the real program.

Started by path as `python -I -S confinement_launcher.py SPEC PROGRAM ARGS...`, so it imports the standard library
only. Doing this here instead of in a fork hook keeps threads of the parent out of it. `confinement.py` is the only
caller.
"""

import ctypes
import json
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000


def limit_resources(limits: dict[str, int]) -> None:
    """Set hard and soft limits by their `RLIMIT_` name; a limit already lower stays."""
    for name, wanted in limits.items():
        which = getattr(resource, name)
        hard = resource.getrlimit(which)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(which, (value, value))


def leave_network_and_parent(parent: int) -> None:
    """Linux: no network interface where the kernel lets us, no new rights, and death with the parent.

    The network namespace is a second wall (the first are protocol and format whitelists), so a kernel that refuses
    it is no reason not to run.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.unshare(CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWNET | CLONE_NEWUSER)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # After unshare: changed credentials clear the death signal.
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent is gone")


def main() -> None:
    spec = json.loads(sys.argv[1])
    limit_resources(spec["limits"])
    if sys.platform == "linux":
        leave_network_and_parent(spec["parent"])
    os.execve(sys.argv[2], sys.argv[2:], {})


if __name__ == "__main__":
    main()
