#!/usr/bin/env bash
# Z-forcing on spoken digits of six voices, at 8 kHz. A small classifier listens to what was generated.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

source "$here/../utils/recipe.sh"

if at_stage 0 "strings of digits and data directories"; then
    require_corpus "a clone of Jakobovski/free-spoken-digit-dataset"
    run "$python" -m data_prep.digits "$corpus" "$data" --nj "$nj"
fi

if at_stage 1 "shards"; then
    require "$data/train/wav.scp" 0
    run zfaudio shard "$data" "$shards" --sample-rate 8000 --frame-size 100 --nj "$nj"
fi

if at_stage 2 "training"; then
    train_model
fi

if at_stage 3 "evaluation"; then
    evaluate_speech
fi

if at_stage 4 "speech"; then
    generate_words 32 4
fi

if at_stage 5 "report"; then
    write_report
fi
