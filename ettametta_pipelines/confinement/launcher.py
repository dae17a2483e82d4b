"""First thing that runs in a confined child: takes rights away from itself, then becomes the real program.

Started by path as `python -I -S launcher.py SPEC PROGRAM ARGS...`, so it imports the standard library only. Doing this
here instead of in a fork hook keeps threads of the parent out of it. `confinement/running.py` is the only caller.
"""

import ctypes
import json
import os
import resource
import signal
import stat
import struct
import sys

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWNET = 0x40000000
CLONE_NEWUSER = 0x10000000

# Landlock (landlock(7)): numbers are the same on every architecture. What a set of rules handles is forbidden but for
# what its rules allow; a kernel knows more rights with each version of the interface.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
ASK_VERSION, PATH_BENEATH = 1, 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1, 2, 4, 8, 1 << 14
READ = EXECUTE | READ_FILE | READ_DIR
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
# First version -> what it can forbid. Device controls (version 5) stay free: hardware encoders live by them.
FILE_RIGHTS = ((1, (1 << 13) - 1), (2, 1 << 13), (3, TRUNCATE))
NETWORK_SINCE, BIND_AND_CONNECT_TCP = 4, 3
SCOPE_SINCE, FOREIGN_SOCKETS_AND_SIGNALS = 6, 3


def limit_resources(limits: dict[str, int]) -> None:
    """Set hard and soft limits by their `RLIMIT_` name; a limit already lower stays."""
    for name, wanted in limits.items():
        which = getattr(resource, name)
        hard = resource.getrlimit(which)[1]
        value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(which, (value, value))


def leave_network() -> str:
    """Linux: no network interface where the kernel lets us; why it did not, "" where it did.

    The network namespace is a second wall (the first are protocol and format whitelists), so a kernel that refuses
    it is no reason not to run.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET if os.geteuid() == 0 else CLONE_NEWNET | CLONE_NEWUSER) == 0:
        return ""
    return os.strerror(ctypes.get_errno())


def die_with_parent(parent: int) -> None:
    """Linux: no new rights, and death with the parent. After `leave_network`: changed credentials clear the signal."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent is gone")


def leave_files(readable: list[str], usable: list[str], workdir: str) -> str:
    """Linux: no file but those under `readable`, devices in `usable` and all below `workdir`; no TCP either.

    Why not, where the kernel has no Landlock, else "". Needs no privilege, so it stands in containers that refuse
    a network namespace.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ASK_VERSION)
    if version < 1:
        return os.strerror(ctypes.get_errno())
    handled = sum(rights for since, rights in FILE_RIGHTS if version >= since)
    asked = [handled]
    asked += [BIND_AND_CONNECT_TCP] if version >= NETWORK_SINCE else []
    asked += [FOREIGN_SOCKETS_AND_SIGNALS] if version >= SCOPE_SINCE else []
    attributes = struct.pack(f"={len(asked)}Q", *asked)
    rules = libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    if rules < 0:
        return os.strerror(ctypes.get_errno())
    allowed = [(path, READ) for path in readable] + [(path, READ | WRITE_FILE) for path in usable]
    for path, rights in [*allowed, *([(workdir, handled)] if workdir != "/" else [])]:
        try:
            below = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not stat.S_ISDIR(os.fstat(below).st_mode):
            rights &= OF_FILES
        libc.syscall(ADD_RULE, rules, PATH_BENEATH, struct.pack("=Qi", rights & handled, below), 0)
        os.close(below)
    failed = libc.syscall(RESTRICT_SELF, rules, 0)
    said = os.strerror(ctypes.get_errno()) if failed else ""
    os.close(rules)
    return said


def main() -> None:
    spec = json.loads(sys.argv[1])
    limit_resources(spec["limits"])
    if sys.platform == "linux":
        missing = {"network": leave_network()}
        die_with_parent(spec["parent"])
        missing["files"] = leave_files(spec["readable"], spec["usable"], os.getcwd())
        if spec["tell_walls"]:
            os.write(1, json.dumps(missing).encode() + b"\n")
    os.execve(sys.argv[2], sys.argv[2:], {})


if __name__ == "__main__":
    main()
