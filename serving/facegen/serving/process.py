"""The life of the server's process: it serves until a signal, drains, and quits at the second."""

import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from facegen.serving.config import ServerConfig
from facegen.serving.server import Server

__all__ = ["run_server"]

_LOGGER = logging.getLogger(__name__)

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SIGNAL = "signal"
_DONE = "done"

# What happens: a signal, or what a thread's work came to.
Events = SimpleQueue[str | BaseException]


def run_server(config: ServerConfig) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal quits the process, with status 0.

    Call it in the main thread, where signals are handled.

    Raises:
        FacegenError: As `Server.listen` and `Server.load`.
    """
    events: Events = SimpleQueue()
    _listen_to_signals(events)
    server = Server(config)
    try:
        server.listen()
        # Modules stay to the end: looking for garbage among them would only make calls wait.
        gc.freeze()
        _run(server.load, events, useful=lambda: server.serving)
        gc.enable()
        events.get()  # the signal
        server.retire()
        if _signalled(events, config.drain_delay_s):
            _quit("a second signal")
        _run(lambda: _end(server), events)
    finally:
        server.close()


def _listen_to_signals(events: Events) -> None:
    """Put each signal to the events, whichever thread of the process the kernel gives it to.

    Python's own handlers run in the main thread when it wakes, but a signal that another thread
    takes does not wake it.
    """
    received, sent = socket.socketpair()
    sent.setblocking(False)
    signal.set_wakeup_fd(sent.detach())
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)

    def listen() -> None:
        while numbers := received.recv(16):
            for number in numbers:
                if number in _SIGNALS:
                    events.put(_SIGNAL)

    threading.Thread(target=listen, name="signals", daemon=True).start()


def _run(
    work: Callable[[], None], events: Events, *, useful: Callable[[], bool] = lambda: False
) -> None:
    """Do something in another thread, and wait for it; a signal quits the process.

    One that comes when the work is of use already, and all but done, is left in the events.
    """

    def run() -> None:
        try:
            work()
        except BaseException as error:  # raised again in the main thread
            events.put(error)
        else:
            events.put(_DONE)

    threading.Thread(target=run, name="life", daemon=True).start()
    event = events.get()
    if event == _SIGNAL and useful():
        event = events.get()
        events.put(_SIGNAL)
    if isinstance(event, BaseException):
        raise event
    if event == _SIGNAL:
        _quit("a signal")


def _end(server: Server) -> None:
    """Answer what has begun and close; what cannot be answered in time is not waited for."""
    if not server.finish():
        _quit("calls were cut off after the drain's time-out")
    server.close()


def _signalled(events: Events, timeout_s: float) -> bool:
    """Wait for a signal, or until the time is over."""
    try:
        events.get(timeout=timeout_s)
    except Empty:
        return False
    return True


def _quit(why: str) -> None:
    """End the process as it stands: threads at work cannot be stopped otherwise."""
    _LOGGER.warning("quitting at once reason=%s", why)
    logging.shutdown()
    os._exit(0)
