"""`zfaudio serve`: a page in the browser on which to play with trained models."""

import contextlib
import errno
import importlib.util
import logging
import os
import socket
import tempfile
from types import FrameType
from typing import TYPE_CHECKING

from zfaudio.device import DeviceName
from zfaudio.errors import UserError

if TYPE_CHECKING:
    from starlette.applications import Starlette

STOPPING_SECONDS = 1  # that open connections get


def serve(experiments: list[str], *, host: str = "127.0.0.1", port: int = 7860, device: DeviceName = "auto") -> None:
    """Serve a page on which models of speech sample, continue, reconstruct and interpolate. Ctrl-C stops it.

    The page shows the waveform, the spectrogram and the log-likelihood of each frame of what was made or uploaded. It
    needs gradio: pip install 'zfaudio[web]'.

    Args:
        experiments: experiments, of which the best checkpoint is taken, or checkpoints. The page switches between
            them, and one at a time is in memory.
        host: address to listen on. The default is reached from this machine only; 0.0.0.0 from everywhere.
        port: port to listen on.
        device: where to compute; auto takes a GPU if there is one.

    Raises:
        UserError: gradio is missing, an experiment cannot be read or is of pictures or sentences, or the port is in
            use.
    """
    if not experiments:
        raise UserError("name at least one experiment")
    if importlib.util.find_spec("gradio") is None:
        raise UserError("the page needs gradio: pip install 'zfaudio[web]'")
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(listen(host, port))
        # Uploads and what was made lie here, and go when the page does.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="zfaudio-serve-"))
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        run(build_app(experiments, device), listening, host)


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises UserError if the port is in use, or cannot be listened on for another reason."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OverflowError:
        raise UserError(f"--port {port}: must be 0 to 65535; with 0 the system chooses") from None
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(f"--port {port}: in use on {host}; choose another one") from None
        raise UserError(f"--host {host} --port {port}: cannot listen there ({error.strerror})") from None


def build_app(experiments: list[str], device: DeviceName) -> "Starlette":
    """The page as an application that a server can run. It loads nothing from other hosts."""
    import gradio as gr
    from fastapi import FastAPI

    from zfaudio.web.app import STYLE, build_page
    from zfaudio.web.experiments import Experiments
    from zfaudio.web.own_host import OwnHostOnly
    from zfaudio.web.uploads import MOST_BYTES

    page = build_page(Experiments(experiments, device))
    app: Starlette = gr.mount_gradio_app(
        FastAPI(openapi_url=None),
        page,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=MOST_BYTES,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=gr.themes.Default(
            primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
        ),
        css=STYLE,
    )
    app.add_middleware(OwnHostOnly)
    return app


def run(app: "Starlette", listening: socket.socket, host: str) -> None:
    """Answer requests until Ctrl-C or SIGTERM."""
    import uvicorn

    class Server(uvicorn.Server):
        """Says nothing of pages that are still open when it stops, and ends as usual, so that files are deleted."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            logging.getLogger("uvicorn.error").disabled = True
            self.force_exit = self.should_exit  # the second time
            self.should_exit = True

    port = listening.getsockname()[1]
    print(f"http://{f'[{host}]' if ':' in host else host}:{port} in a browser; Ctrl-C stops", flush=True)
    server = Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=STOPPING_SECONDS))
    server.run(sockets=[listening])
