#!/usr/bin/env bash
# Z-forcing on any folder of audio: from the recordings to a report.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

speaker_pattern='' lists='' sample_rate=16000
own_options="speaker_pattern lists sample_rate"
own_help="  --speaker-pattern REGEX    finds the speaker in a file's path below the corpus, as in '^(?P<speaker>[^/]+)/'
                             (default: the speaker is the name of the file's folder)
  --lists DIR                train.txt, valid.txt and test.txt in it name the files of each part
  --sample-rate HZ           the rate that recordings are brought to (default: 16000)
"
source "$here/../utils/recipe.sh"

if at_stage 0 "data directories"; then
    need_corpus "a folder of audio"
    run "$python" -m data_prep.folder "$corpus" "$data" --folder.speaker-pattern "$speaker_pattern" --folder.lists "$lists" --nj "$nj"
fi

if at_stage 1 "shards"; then
    need "$data/train/wav.scp" 0
    run zfaudio shard "$data" "$shards" --sample-rate "$sample_rate" --nj "$nj"
fi

if at_stage 2 "training"; then
    need_conf
    need "$shards/manifest.json" 1
    run zfaudio train --config "$conf" --data.shards "$shards" --exp "$exp" $(resume) "${training_options[@]}"
fi

if at_stage 3 "evaluation"; then
    need "$shards/manifest.json" 1
    need_model
    run zfaudio evaluate "$exp" --shards "$shards" --split test --json "$exp/results/test.json"
fi

if at_stage 4 "speech"; then
    need "$shards/manifest.json" 1
    need_model
    run "$python" "$here/../utils/cut_recording.py" "$shards" "$exp/test-recording.wav" --seconds 3
    run zfaudio generate "$exp" --out "$exp/samples" --num 4 --seconds 3
    run zfaudio generate "$exp" --out "$exp/samples" --num 2 --seconds 3 --prompt "$exp/test-recording.wav"
    run zfaudio generate "$exp" --out "$exp/samples" --num 1 --reconstruct "$exp/test-recording.wav"
fi

if at_stage 5 "report"; then
    need_model
    run zfaudio report "$exp"
    "$python" "$here/../utils/show_result.py" "$exp"
fi
