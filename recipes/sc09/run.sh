#!/usr/bin/env bash
# The ten digits of Speech Commands in 8-bit mu-law, as the benchmark SC09 has them: bits per sample, and words.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

source "$here/../utils/recipe.sh"

if at_stage 0 "digits in 8-bit mu-law and data directories"; then
    require_corpus "the folder of Speech Commands"
    run "$python" -m data_prep.sc09 "$corpus" "$data" --nj "$nj"
fi

if at_stage 1 "shards"; then
    require "$data/train/wav.scp" 0
    run zfaudio shard "$data" "$shards" --encoding mulaw --nj "$nj"
fi

if at_stage 2 "training"; then
    train_model
fi

if at_stage 3 "evaluation"; then
    evaluate_speech
fi

if at_stage 4 "speech"; then
    generate_words 128 1
fi

if at_stage 5 "report"; then
    write_report
fi
