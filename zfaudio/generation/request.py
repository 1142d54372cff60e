"""What to generate."""

from dataclasses import dataclass

from zfaudio.generation.samples import Kind, Sample
from zfaudio.generation.sampling import Temperatures


@dataclass(frozen=True)
class Request:
    """What to generate."""

    kind: Kind
    num: int
    temperatures: Temperatures
    seed: int
    source: str = ""  # what is continued or reconstructed
    command: str = ""

    def sample(self, step: int) -> Sample:
        """What samples.json says of all files that answer the request, made by the checkpoint of a step."""
        return Sample(
            self.kind,
            seed=self.seed,
            latent_temperature=self.temperatures.latent,
            observation_temperature=self.temperatures.observation,
            source=self.source,
            checkpoint_step=step,
            command=self.command,
        )
