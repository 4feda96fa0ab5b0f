"""The far side of a server: runs a module of a runtime's own environment, and ends it when its host is gone.

    PYTHON -I serve.py FD MODULE ARGUMENT…

FD is the reading end of a pipe: once the host is gone, however it ended, nobody holds the other end.
"""

import os
import runpy
import signal
import sys
import threading


def end_with(fd: int) -> None:
    """End this process and all that it started, once the pipe is closed."""
    os.read(fd, 1)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    fd, module = int(sys.argv[1]), sys.argv[2]
    threading.Thread(target=end_with, args=(fd,), daemon=True).start()
    sys.argv = sys.argv[2:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
