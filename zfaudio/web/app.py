"""Build the page: tabs with controls, players and pictures, around the functions of `play`."""

import asyncio
import functools
import html
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from zfaudio.errors import UserError
from zfaudio.text import printable
from zfaudio.web import play
from zfaudio.web.computing import compute
from zfaudio.web.experiments import Experiments
from zfaudio.web.uploads import MOST_BYTES, MOST_SECONDS

LONGEST = 20.0  # seconds of speech to generate
LARGEST_SEED = 2**53 - 1  # the largest integer that a browser holds exactly
WAITING = 20  # requests in the queue

# One model computes at a time, whatever button asks.
ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1}

MIXTURES = [f"{round(100 * index / (play.MIXTURES - 1))} %" for index in range(play.MIXTURES)]
FIRST_HEARD = play.MIXTURES // 2  # the mixture in the middle

STYLE = """
.gradio-container { max-width: 72rem !important; }
.gradio-container > .main { padding: 1rem clamp(0.75rem, 3vw, 2rem) !important; }
figure { margin: 0; }
figure img { width: 100%; }
figcaption { font-size: 0.9rem; text-align: center; }
@media (max-width: 480px) {
  .tab-container button { padding: 0 0.4rem !important; font-size: 0.85rem !important; }
}
"""

Outputs = list[Any]


def build_page(experiments: Experiments) -> gr.Blocks:
    """The page, which still has to be served.

    Args:
        experiments: what one can choose between.
    """
    page: gr.Blocks
    with gr.Blocks(title="zfaudio", analytics_enabled=False, delete_cache=(3600, 3600)) as page:
        page.queue(max_size=WAITING)
        gr.Markdown("# zfaudio")
        name = gr.Dropdown(experiments.names, label="Experiment", filterable=False, visible=len(experiments.names) > 1)
        about = gr.Markdown(describe_model(experiments.model(experiments.names[0])))
        has_latents = bool(experiments.model(experiments.names[0]).checkpoint.model.latent_size)
        with gr.Tabs(selected="sample") as tabs:
            with gr.Tab("Sample", id="sample"):
                sampled = add_sample(experiments, name)
            with gr.Tab("Continue", id="continue"):
                continued = add_continuation(experiments, name)
            with gr.Tab("Reconstruct", id="reconstruct", interactive=has_latents) as reconstruct:
                reconstructed = add_reconstruction(experiments, name)
            with gr.Tab("Interpolate", id="interpolate", interactive=has_latents) as interpolate:
                interpolated = add_interpolation(experiments, name)
        made = [*sampled, *continued, *reconstructed, *interpolated]

        @answering
        def choose(name: str) -> Outputs:
            model = experiments.model(name)
            has_latents = bool(model.checkpoint.model.latent_size)
            tab = gr.Tab(interactive=has_latents)
            selected = gr.skip() if has_latents else gr.Tabs(selected="sample")
            return [describe_model(model), selected, tab, tab, *[None] * len(made)]

        name.input(choose, name, [about, tabs, reconstruct, interpolate, *made], api_name="choose", **ONE_AT_A_TIME)
    return page


def describe_model(model: play.SpeechModel) -> str:
    """The line below the choice of an experiment, in Markdown."""
    text = printable(repr(model)).removeprefix("TrainedModel(").removesuffix(")")
    if not model.checkpoint.model.latent_size:
        text += ". It has no latents, so there is nothing to reconstruct or interpolate from."
    return html.escape(text)


def answering(function: Callable[..., Outputs]) -> Callable[..., Coroutine[Any, Any, Outputs]]:
    """The function as one that gradio can call, with its UserErrors and warnings shown on the page as messages."""

    def call(*arguments: Any) -> tuple[Outputs, list[str]]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            outputs = function(*arguments)
        return outputs, [str(warning.message) for warning in caught if warning.category is UserWarning]

    @functools.wraps(function)
    async def answer(*arguments: Any) -> Outputs:
        try:
            outputs, remarks = await asyncio.wrap_future(compute(call, *arguments))
        except UserError as error:
            raise gr.Error(html.escape(printable(str(error))), print_exception=False) from None
        for remark in remarks:
            gr.Warning(html.escape(printable(remark)))
        return outputs

    return answer


def add_sample(experiments: Experiments, name: gr.Dropdown) -> Outputs:
    """The tab on which the model speaks. Returns what the button fills."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            seconds, temperature, seed = add_seconds(), add_temperature(), add_seed()
            button = gr.Button("Sample", variant="primary")
        with gr.Column(scale=2, min_width=280):
            outputs = add_player("Sample")

    @answering
    def sample(name: str, seconds: float, temperature: float, seed: int | None) -> Outputs:
        return shown(play.sample(experiments.model(name), seconds, temperature, checked(seed)))

    button.click(
        sample,
        [name, seconds, temperature, seed],
        outputs,
        show_progress_on=outputs[0],
        api_name="sample",
        **ONE_AT_A_TIME,
    )
    return outputs


def add_continuation(experiments: Experiments, name: gr.Dropdown) -> Outputs:
    """The tab on which the model goes on where a recording ends. Returns what the button fills."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            recording = add_upload("Recording")
            seconds, temperature, seed = add_seconds(), add_temperature(), add_seed()
            button = gr.Button("Continue", variant="primary")
        with gr.Column(scale=2, min_width=280):
            outputs = add_player("Recording and continuation")

    @answering
    def continue_recording(
        name: str, path: str | None, seconds: float, temperature: float, seed: int | None
    ) -> Outputs:
        return shown(play.continue_upload(experiments.model(name), path, seconds, temperature, checked(seed)))

    inputs = [name, recording, seconds, temperature, seed]
    button.click(continue_recording, inputs, outputs, show_progress_on=outputs[0], api_name="continue", **ONE_AT_A_TIME)
    return outputs


def add_reconstruction(experiments: Experiments, name: gr.Dropdown) -> Outputs:
    """The tab on which the model repeats a recording from its latents. Returns what the button fills."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            recording = add_upload("Recording")
            temperature, seed = add_temperature(), add_seed()
            button = gr.Button("Reconstruct", variant="primary")
        with gr.Column(scale=2, min_width=280):
            outputs = [*add_player("Reconstruction"), gr.HTML(padding=False)]

    @answering
    def reconstruct(name: str, path: str | None, temperature: float, seed: int | None) -> Outputs:
        made, given = play.reconstruct_upload(experiments.model(name), path, temperature, checked(seed))
        return [*shown(made), given.picture]

    inputs = [name, recording, temperature, seed]
    button.click(reconstruct, inputs, outputs, show_progress_on=outputs[0], api_name="reconstruct", **ONE_AT_A_TIME)
    return outputs


def add_interpolation(experiments: Experiments, name: gr.Dropdown) -> Outputs:
    """The tab on which the model goes from one recording to another. Returns what the button fills."""
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            gr.Markdown("Without a recording, an end is a sample of the model.")
            first, last = add_upload("From"), add_upload("To")
            temperature, seed = add_temperature(), add_seed()
            button = gr.Button("Interpolate", variant="primary")
        with gr.Column(scale=2, min_width=280):
            mixtures = gr.State()
            share = gr.Radio(MIXTURES, label="Share of the second", value=MIXTURES[FIRST_HEARD])
            player = add_player("Mixture")

    @answering
    def interpolate(
        name: str, first: str | None, last: str | None, share: str, temperature: float, seed: int | None
    ) -> Outputs:
        model = experiments.model(name)
        waveforms = play.interpolate_uploads(model, first, last, temperature, checked(seed))
        return [waveforms, *mixture(model, waveforms, share)]

    @answering
    def hear_another(name: str, waveforms: NDArray[np.int16] | None, share: str) -> Outputs:
        return [None, None] if waveforms is None else mixture(experiments.model(name), waveforms, share)

    inputs = [name, first, last, share, temperature, seed]
    button.click(
        interpolate, inputs, [mixtures, *player], show_progress_on=player[0], api_name="interpolate", **ONE_AT_A_TIME
    )
    share.input(
        hear_another, [name, mixtures, share], player, show_progress_on=player[0], api_name="mixture", **ONE_AT_A_TIME
    )
    return [mixtures, *player]


def mixture(model: play.SpeechModel, waveforms: NDArray[np.int16], share: str) -> Outputs:
    """What a player shows of the mixture with this share of the second."""
    return shown(play.show(model, waveforms[MIXTURES.index(share)], f"{share} of the second"))


def shown(played: play.Played) -> Outputs:
    """The values of the components of `add_player`."""
    return [(played.rate, played.waveform), played.picture]


def checked(seed: int | None) -> int:
    """The seed; its field may be empty."""
    if seed is None:
        raise UserError("the seed is empty; give a whole number, 0 or more")
    return seed


def add_player(label: str) -> Outputs:
    """An audio player and the picture below it."""
    return [gr.Audio(label=label, interactive=False, format="wav", buttons=["download"]), gr.HTML(padding=False)]


def add_upload(label: str) -> gr.Audio:
    """A place for a file or a recording with the microphone. It arrives as it was sent, without ffmpeg."""
    label = f"{label} (up to {MOST_SECONDS} s, {MOST_BYTES >> 20} MB)"
    return gr.Audio(label=label, sources=["upload", "microphone"], type="filepath", buttons=[])


def add_seconds() -> gr.Slider:
    """The length of generated speech."""
    return gr.Slider(0.5, LONGEST, value=3, step=0.5, label="Length in seconds")


def add_temperature() -> gr.Slider:
    """How freely latents and frames are drawn."""
    return gr.Slider(0, 1.5, value=1, step=0.05, label="Temperature")


def add_seed() -> gr.Number:
    """The seed of all draws."""
    return gr.Number(0, label="Seed", precision=0, minimum=0, maximum=LARGEST_SEED)
