"""WaveNet (van den Oord et al., 2016): the dilated head by itself, without latents and without a network over frames.

    p(x_{t+1} | x_t) = prod_i p(x_{t+1,i} | the samples before it, as far as the dilated convolutions reach)

dilated_head.py has its equations.
"""

from zfaudio.config import WaveNetConfig
from zfaudio.models.sample_ar import SampleAR


class WaveNet(SampleAR):
    """`SampleAR` with the dilated head."""

    config_class = WaveNetConfig
    config: WaveNetConfig
