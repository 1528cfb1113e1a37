"""Runs a command on a terminal of its own: what it writes there comes out of stdout, what comes into stdin is typed.

`terminal.py [--background] COMMAND ...`: with --background the terminal's keys are for somebody else.
"""

import fcntl
import os
import pty
import selectors
import signal
import struct
import sys
import termios

background = sys.argv[1] == "--background"
command = sys.argv[2:] if background else sys.argv[1:]



def pass_signals_to(process):
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda number, frame: os.kill(process, number))


def wait_for(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


child, terminal = pty.fork()
if child == 0:
    if background and (job := os.fork()):
        pass_signals_to(job)
        os._exit(wait_for(job))
    if background:
        # A process group of its own: the one in the foreground stays the other's.
        os.setpgid(0, 0)
    os.execvp(command[0], command)
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
pass_signals_to(child)

waiting = selectors.DefaultSelector()
waiting.register(terminal, selectors.EVENT_READ)
waiting.register(sys.stdin.fileno(), selectors.EVENT_READ)
while True:
    for key, _ in waiting.select():
        try:
            read = os.read(key.fd, 65536)
        except OSError:
            # Nobody has the terminal open any more.
            read = b""
        if key.fd == terminal:
            if not read:
                sys.exit(wait_for(child))
            os.write(sys.stdout.fileno(), read)
        elif read:
            os.write(terminal, read)
        else:
            waiting.unregister(key.fd)
