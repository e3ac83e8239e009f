"""The process that workers are forked from: it has imported what builders import, so a worker begins at once.

`workers` starts it with a socket as standard input.  A request is one message: the module of a builder, and the
descriptors of what its worker reads (standard input), says (output), and logs (error), and of a socket of its own.
Through that comes a descriptor of the process (pidfd) when the worker has been forked, and its status when it has
ended.

Nothing of a build reaches it: it imports modules and forks, and the forked process reads what is to be done.  All of
them die with it, and it ends with whoever started it, or when nobody has wanted a worker for a while.
"""

from __future__ import annotations

import array
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import traceback
from typing import NoReturn

from pipeline import launch, worker

#: Seconds after which it ends when it has nothing to do.
_IDLE = 10.0
#: New objects after which garbage is looked for, in workers too: inventories are many and no garbage.
_OBJECTS = 100_000
#: Bytes of a request.
_MOST = 4096


def main() -> int:
    """Fork workers until nobody is there who could want one."""
    gc.set_threshold(_OBJECTS)
    server = socket.socket(fileno=os.dup(0))
    ended: dict[int, tuple[int, socket.socket]] = {}  # by descriptor: process and who waits for its end
    with contextlib.closing(server):
        while True:
            ready = select.select([server.fileno(), *ended], [], [], None if ended else _IDLE)[0]
            if not ready:
                return 0
            for descriptor in ready:
                if descriptor in ended:
                    _tell_end(descriptor, *ended.pop(descriptor))
                elif not _serve(server, ended):
                    return 0


def _tell_end(descriptor: int, pid: int, waiting: socket.socket) -> None:
    os.close(descriptor)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.closing(waiting), contextlib.suppress(OSError):  # nobody waits any more
        waiting.send(str(status).encode())


def _serve(server: socket.socket, ended: dict[int, tuple[int, socket.socket]]) -> bool:
    """Fork one worker; false where nobody will ask again."""
    module, descriptors, _, _ = socket.recv_fds(server, _MOST, 4)
    if not module:
        return False
    if len(descriptors) != 4:  # this process may have no more; who asked sees that nobody answers
        _close(descriptors)
        return True
    given, said, logged, answer = descriptors
    with contextlib.suppress(Exception):  # the worker meets the same, and tells it
        importlib.import_module(module.decode())
    gc.freeze()
    try:
        pid = os.fork()
    except OSError:  # the builds that run here go on
        traceback.print_exc()
        _close(descriptors)
        return True
    if pid == 0:
        for number, descriptor in enumerate((given, said, logged)):
            os.dup2(descriptor, number)
        for descriptor in (*descriptors, *ended):
            os.close(descriptor)
        for _, waiting in ended.values():
            waiting.close()
        server.close()
        _be_worker()
    for descriptor in (given, said, logged):
        os.close(descriptor)
    waiting = socket.socket(fileno=answer)
    descriptor = os.pidfd_open(pid)
    ended[descriptor] = pid, waiting
    try:
        waiting.sendmsg([b"."], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))])
    except OSError:  # nobody waits any more, and another one may be at work in the same folder
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    return True


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _be_worker() -> NoReturn:
    """In a process of its own: go where the first line of what is given says, and work there."""
    try:
        wanted = json.loads(sys.stdin.buffer.readline())
        os.environ.clear()
        os.environ.update(wanted["environment"])
        launch.call(wanted["plan"], lambda: _work(wanted["memory"]))
    except BaseException:  # whatever it is: this process must not go on as another one of those
        traceback.print_exc()
    finally:
        os._exit(1)


def _work(memory: int) -> NoReturn:
    status = 1
    try:
        status = worker.main(memory)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
