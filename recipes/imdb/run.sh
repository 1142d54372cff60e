#!/usr/bin/env bash
# Z-forcing on words: sentences of film reviews, or of any other text.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

sentences=auto importance_samples=50
extra_options="sentences importance_samples"
extra_help="  --sentences WHERE          where sentences end: punctuation, or lines for text that has a sentence a line
                             (default: auto, which is lines if there is one file a split, and punctuation otherwise)
  --importance-samples K     number of draws of the importance-weighted bound in stage 3 (default: 50)
"
stages_help="0: shards (there is no stage 1),
                             2: training, 3: evaluation, 4: sentences, 5: report"
data_help="shards, in DIR/shards"
source "$here/../utils/recipe.sh"

if at_stage 0 "shards"; then
    require_corpus "a folder of text in the layout of aclImdb, or of any text files"
    run "$python" -m data_prep.text "$corpus" "$shards" --sentences "$sentences"
fi

if at_stage 2 "training"; then
    require_conf
    require "$shards/manifest.json" 0
    run zfaudio train --config "$conf" --data.shards "$shards" --exp "$exp" \
        $(resume_option "$exp" "${training_options[*]}") "${training_options[@]}"
fi

if at_stage 3 "evaluation"; then
    require "$shards/manifest.json" 0
    require_model
    run "$python" -m data_prep.ngrams "$shards" --split test
    if has_latents "$exp"; then
        run zfaudio evaluate "$exp" --shards "$shards" --split test --json "$exp/results/elbo.json"
    fi
    run zfaudio evaluate "$exp" --shards "$shards" --split test --importance-samples "$importance_samples" \
        --json "$exp/results/test.json"
fi

if at_stage 4 "sentences"; then
    require "$shards/manifest.json" 0
    require_model
    written=(--out "$exp/samples" --shards "$shards")
    run zfaudio generate "$exp" --out "$exp/samples" --num 100
    run zfaudio generate "$exp" "${written[@]}" --num 32 --prompt test
    if has_latents "$exp"; then
        run zfaudio generate "$exp" "${written[@]}" --num 32 --reconstruct test
        run zfaudio interpolate "$exp" "${written[@]}" --first test:0 --last test:1
    fi
fi

if at_stage 5 "report"; then
    require_model
    run zfaudio report "$exp" --shards "$shards"
    "$python" "$here/../utils/show_result.py" "$exp"
fi
