#!/usr/bin/env bash
# Z-forcing on synthetic speech from espeak-ng: from nothing to a report in ten minutes on two cores.
# The corpus has the layout of TIMIT and is prepared like TIMIT.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

minutes=20
extra_options="minutes"
extra_help="  --minutes N                minutes of speech to make if there is no corpus yet (default: 20)
"
source "$here/../utils/recipe.sh"

corpus=${corpus:-$data/corpus}
if at_stage 0 "corpus and data directories"; then
    [ -d "$corpus/TIMIT" ] || run "$python" -m data_prep.demo "$corpus" --minutes "$minutes" --nj "$nj"
    echo "(TIMIT has 630 speakers. Most of them are missing from this corpus, which is not an error.)"
    run "$python" -m data_prep.timit "$corpus" "$data" --valid-fraction 0.08 --nj "$nj"
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
    generate_speech
fi

if at_stage 5 "report"; then
    write_report
fi
