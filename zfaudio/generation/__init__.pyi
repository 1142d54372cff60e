from .recordings import read_recording as read_recording
from .samples import Sample as Sample
from .samples import read_sample_list as read_sample_list
from .samples import write_sample_list as write_sample_list
from .sampling import GeneratedWaveform as GeneratedWaveform
from .sampling import Temperatures as Temperatures
from .sampling import reconstruct_speech as reconstruct_speech
from .sampling import sample_speech as sample_speech
