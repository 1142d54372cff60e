#!/usr/bin/env bash
# Z-forcing on Blizzard 2013 (Catherine Byers): from the recordings to a report.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

layout=auto
extra_options="layout"
extra_help="  --layout NAME              unsegmented (chapters as MP3), segmented (sentences as WAV), or auto, which takes
                             chapters if there are any and sentences otherwise (default: auto)
"
source "$here/../utils/recipe.sh"

if at_stage 0 "data directories"; then
    require_corpus "the folder of the Blizzard 2013 recordings"
    run "$python" -m data_prep.blizzard "$corpus" "$data" --layout "$layout" --nj "$nj"
fi

if at_stage 1 "shards"; then
    require "$data/train/wav.scp" 0
    run zfaudio shard "$data" "$shards" --nj "$nj"
fi

if at_stage 2 "training"; then
    train_model
fi

if at_stage 3 "evaluation"; then
    require_shards
    require_model
    run zfaudio evaluate "$exp" --shards "$shards" --split test --json "$exp/results/test.json"
fi

if at_stage 4 "speech"; then
    require_shards
    require_model
    run "$python" "$here/../utils/cut_recording.py" "$shards" "$exp/test-recording.wav" --seconds 3
    run zfaudio generate "$exp" --out "$exp/samples" --num 4 --seconds 3
    run zfaudio generate "$exp" --out "$exp/samples" --num 2 --seconds 3 --prompt "$exp/test-recording.wav"
    run zfaudio generate "$exp" --out "$exp/samples" --num 1 --reconstruct "$exp/test-recording.wav"
fi

if at_stage 5 "report"; then
    write_report
fi
