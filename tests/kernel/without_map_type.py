"""`python without_map_type.py TYPE COMMAND`: runs a command whose kernel refuses maps of this type, and nothing else.

A filter cannot look into the attribute of bpf(2), so it asks us (SECCOMP_RET_USER_NOTIF, seccomp_unotify(2)), and we look into the
memory of the process.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import sys

from seccomp_filter import ASK, Rule, listen, number

from purebpf.formats.abi import Cmd
from purebpf.kernel.sys import ioctl_request

RECEIVE, SEND = ioctl_request(0xC0502100), ioctl_request(0xC0182101)  # SECCOMP_IOCTL_NOTIF_…
CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE


def become(command: list[str], theirs: socket.socket) -> None:
    listener = listen(number("seccomp"), Rule(number("bpf"), Cmd.MAP_CREATE, ASK))
    socket.send_fds(theirs, [b"x"], [listener])
    os.close(listener)
    os.execvp(command[0], command)


def answer(listener: int, refused: int) -> None:
    """struct seccomp_notif, whose data begins at 16, and struct seccomp_notif_resp."""
    asked = bytearray(80)
    fcntl.ioctl(listener, RECEIVE, asked)
    id, pid = struct.unpack_from("=QI", asked)
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(struct.unpack_from("=Q", asked, 40)[0])  # the call's second argument
        type = int.from_bytes(memory.read(4), sys.byteorder)
    error, flags = (-22, 0) if type == refused else (0, CONTINUE)
    fcntl.ioctl(listener, SEND, struct.pack("=QqiI", id, 0, error, flags))


def main(refused: int, command: list[str]) -> int:
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        become(command, theirs)
    theirs.close()
    (listener,) = socket.recv_fds(ours, 1, 1)[1]
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while poll.poll()[0][1] & select.POLLIN:
        answer(listener, refused)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
