#!/usr/bin/env bash
# Z-forcing on any folder of audio: from the recordings to a report.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

speaker_pattern='' lists='' sample_rate=16000
extra_options="speaker_pattern lists sample_rate"
extra_help="  --speaker-pattern REGEX    how to find the speaker in a file's path below the corpus, for example
                             '^(?P<speaker>[^/]+)/' (default: the name of the file's folder)
  --lists DIR                folder with train.txt, valid.txt and test.txt, which list the files of each split
  --sample-rate HZ           rate to which recordings are resampled (default: 16000)
"
source "$here/../utils/recipe.sh"

if at_stage 0 "data directories"; then
    require_corpus "a folder of audio"
    run "$python" -m data_prep.folder "$corpus" "$data" \
        --folder.speaker-pattern "$speaker_pattern" --folder.lists "$lists" --nj "$nj"
fi

if at_stage 1 "shards"; then
    require "$data/train/wav.scp" 0
    run zfaudio shard "$data" "$shards" --sample-rate "$sample_rate" --nj "$nj"
fi

if at_stage 2 "training"; then
    require_conf
    require "$shards/manifest.json" 1
    run zfaudio train --config "$conf" --data.shards "$shards" --exp "$exp" \
        $(resume_option "$exp" "${training_options[*]}") "${training_options[@]}"
fi

if at_stage 3 "evaluation"; then
    require "$shards/manifest.json" 1
    require_model
    run zfaudio evaluate "$exp" --shards "$shards" --split test --json "$exp/results/test.json"
fi

if at_stage 4 "speech"; then
    require "$shards/manifest.json" 1
    require_model
    run "$python" "$here/../utils/cut_recording.py" "$shards" "$exp/test-recording.wav" --seconds 3
    run zfaudio generate "$exp" --out "$exp/samples" --num 4 --seconds 3
    run zfaudio generate "$exp" --out "$exp/samples" --num 2 --seconds 3 --prompt "$exp/test-recording.wav"
    run zfaudio generate "$exp" --out "$exp/samples" --num 1 --reconstruct "$exp/test-recording.wav"
fi

if at_stage 5 "report"; then
    require_model
    run zfaudio report "$exp"
    "$python" "$here/../utils/show_result.py" "$exp"
fi
