#!/usr/bin/env bash
# Z-forcing on speech that espeak-ng speaks for it: from nothing to a report in ten minutes on two cores.
# The corpus is laid out as TIMIT is, and prepared as TIMIT is.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

minutes=20
own_options="minutes"
own_help="  --minutes N                speech to make, where the corpus is not there yet (default: 20)
"
source "$here/../utils/recipe.sh"

corpus=${corpus:-$data/corpus}
if at_stage 0 "corpus and data directories"; then
    [ -d "$corpus/TIMIT" ] || run "$python" -m data_prep.demo "$corpus" --minutes "$minutes" --nj "$nj"
    echo "(TIMIT has 630 speakers: that most of them are missing here is no fault)"
    run "$python" -m data_prep.timit "$corpus" "$data" --valid-fraction 0.08 --nj "$nj"
fi

if at_stage 1 "shards"; then
    need "$data/train/wav.scp" 0
    run zfaudio shard "$data" "$shards" --nj "$nj"
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
    # Frames are drawn sample by sample: less of that noise lets the voice be heard.
    speech=(--out "$exp/samples" --observation-temperature 0.3)
    run "$python" "$here/../utils/cut_recording.py" "$shards" "$exp/test-recording.wav" --seconds 3
    run zfaudio generate "$exp" "${speech[@]}" --num 4 --seconds 3
    run zfaudio generate "$exp" "${speech[@]}" --num 2 --seconds 3 --prompt "$exp/test-recording.wav"
    run zfaudio generate "$exp" "${speech[@]}" --num 1 --reconstruct "$exp/test-recording.wav"
fi

if at_stage 5 "report"; then
    need_model
    run zfaudio report "$exp"
    "$python" "$here/../utils/show_result.py" "$exp"
fi
