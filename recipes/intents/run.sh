#!/usr/bin/env bash
# All models and frame likelihoods on one open corpus, trained and scored in the same way, in one table.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

rows=all seeds="0 1" jobs=1 lists=$here/lists
extra_options="rows seeds jobs lists"
extra_help="  --rows 'NAME ...'          files of conf/ to train and compare; each changes settings of --conf (default: all)
  --seeds 'N ...'            seeds; each row is trained once for each seed (default: 0 1)
  --jobs N                   number of runs at the same time, with one thread each on a CPU (default: 1)
  --lists DIR                folder with train.txt, valid.txt and test.txt, which list the recordings of each split
                             (default: the lists of this recipe)
"
source "$here/../utils/recipe.sh"

[ "$rows" != all ] || rows=$(cd "$here/conf" && ls ./*.yaml | sed 's|^./||; s|\.yaml$||; /^default$/d' | xargs)
runs=$(for row in $rows; do for seed in $seeds; do echo "$row $seed"; done; done)

for_each_run() { # for_each_run FUNCTION: calls FUNCTION ROW SEED for each run, $jobs at the same time
    export here repo python exp shards conf
    export -f "$1" run quoted resume_option holds_checkpoint
    xargs -P "$jobs" -L 1 bash -c 'set -euo pipefail; '"$1"' "$@"' "$1" <<<"$runs" ||
        die "a run failed; see its log.txt under $exp"
}

experiments() { # prints the folders of all runs
    while read -r row seed; do echo "$exp/$row-$seed"; done <<<"$runs"
}

if at_stage 0 "data directories"; then
    require_corpus "a clone of Picovoice/speech-to-intent-benchmark"
    run "$python" -m data_prep.intents "$corpus" "$data" --lists "$lists" --nj "$nj"
fi

if at_stage 1 "shards"; then
    require "$data/train/wav.scp" 0
    run zfaudio shard "$data" "$shards" --nj "$nj"
fi

train_run() { # train_run ROW SEED: continues a stopped run; does nothing if the run is complete
    local folder=$exp/$1-$2
    mkdir -p "$folder"
    run zfaudio train --config "$conf" --config "$here/conf/$1.yaml" --data.shards "$shards" \
        --train.seed "$2" --exp "$folder" $(resume_option "$folder" "$training") $training >>"$folder/log.txt" 2>&1
    echo "$1, seed $2: $(grep validation "$folder/log.txt" | tail -n 1)"
}

if at_stage 2 "training"; then
    require_conf
    require_shards
    [ "$jobs" = 1 ] || export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    export training=${training_options[*]} # an array cannot be exported
    for_each_run train_run
fi

score_run() { # score_run ROW SEED
    local folder=$exp/$1-$2
    # One draw of the latents is enough: its noise averages out over 42,000 frames.
    run zfaudio evaluate "$folder" --shards "$shards" --split test --draws 1 --json "$folder/results/test.json" \
        >>"$folder/log.txt" 2>&1
    # sample-ar has neither latents nor a state, so there is nothing to measure.
    [ "$1" = sample-ar ] || run zfaudio latents "$folder" --shards "$shards" >>"$folder/log.txt" 2>&1
    echo "$1, seed $2: $(grep 'average log-likelihood' "$folder/log.txt" | tail -n 1)"
}

if at_stage 3 "evaluation"; then
    require_shards
    for_each_run score_run
fi

speak_run() { # speak_run ROW SEED
    local folder=$exp/$1-$2
    run zfaudio generate "$folder" --out "$folder/samples" --num 16 --seconds 4 >>"$folder/log.txt" 2>&1
    run zfaudio quality "$folder" --shards "$shards" >>"$folder/log.txt" 2>&1
    echo "$1, seed $2: 16 samples"
}

if at_stage 4 "speech"; then
    require_shards
    for_each_run speak_run
fi

if at_stage 5 "comparison"; then
    run zfaudio compare $(experiments) --group-seeds --csv "$exp/comparison.csv"
fi
