#!/usr/bin/env bash
# Every model and frame likelihood on one open corpus, trained and scored the same way, in one table.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

rows=all seeds="0 1" jobs=1 lists=$here/lists
own_options="rows seeds jobs lists"
own_help="  --rows 'NAME ...'          files of conf/ to train and compare (default: all); what they share is --conf
  --seeds 'N ...'            each row is trained once a seed (default: 0 1)
  --jobs N                   runs side by side, one thread each on a CPU (default: 1)
  --lists DIR                train.txt, valid.txt and test.txt: names of recordings (default: those of this recipe)
"
source "$here/../utils/recipe.sh"

[ "$rows" != all ] || rows=$(cd "$here/conf" && ls ./*.yaml | sed 's|^./||; s|\.yaml$||; /^default$/d' | xargs)
runs=$(for row in $rows; do for seed in $seeds; do echo "$row $seed"; done; done)

for_each_run() { # for_each_run FUNCTION: FUNCTION ROW SEED of every run, $jobs of them at once
    export here exp shards conf
    export -f "$1" run quoted
    xargs -P "$jobs" -L 1 bash -c 'set -euo pipefail; '"$1"' "$@"' "$1" <<<"$runs" ||
        die "a run failed; what it printed is in its log.txt under $exp"
}

experiments() { # the folders of all runs
    while read -r row seed; do echo "$exp/$row-$seed"; done <<<"$runs"
}

if at_stage 0 "data directories"; then
    need_corpus "a clone of Picovoice/speech-to-intent-benchmark"
    run "$python" -m data_prep.intents "$corpus" "$data" --lists "$lists" --nj "$nj"
fi

if at_stage 1 "shards"; then
    need "$data/train/wav.scp" 0
    run zfaudio shard "$data" "$shards" --nj "$nj"
fi

train_run() { # goes on where it was stopped; a run that is complete does nothing
    local own=$exp/$1-$2 resume=()
    mkdir -p "$own"
    [ ! -e "$own/last" ] || resume=(--resume)
    run zfaudio train --config "$conf" --config "$here/conf/$1.yaml" --data.shards "$shards" \
        --train.seed "$2" --exp "$own" "${resume[@]}" $training >>"$own/log.txt" 2>&1
    echo "$1, seed $2: $(grep validation "$own/log.txt" | tail -n 1)"
}

if at_stage 2 "training"; then
    need_conf
    need "$shards/manifest.json" 1
    [ "$jobs" = 1 ] || export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    export training=${training_options[*]} # an array cannot be exported
    for_each_run train_run
fi

score_run() {
    local own=$exp/$1-$2
    # One draw of the latents: its noise averages out over 42,000 frames.
    run zfaudio evaluate "$own" --shards "$shards" --split test --draws 1 --json "$own/results/test.json" \
        >>"$own/log.txt" 2>&1
    # The head by itself has neither latents nor a state to do without.
    [ "$1" = sample-ar ] || run zfaudio latents "$own" --shards "$shards" >>"$own/log.txt" 2>&1
    echo "$1, seed $2: $(grep 'average log-likelihood' "$own/log.txt" | tail -n 1)"
}

if at_stage 3 "evaluation"; then
    need "$shards/manifest.json" 1
    for_each_run score_run
fi

speak_run() {
    local own=$exp/$1-$2
    run zfaudio generate "$own" --out "$own/samples" --num 16 --seconds 4 >>"$own/log.txt" 2>&1
    run zfaudio quality "$own" >>"$own/log.txt" 2>&1
    echo "$1, seed $2: 16 samples"
}

if at_stage 4 "speech"; then
    need "$shards/manifest.json" 1
    for_each_run speak_run
fi

if at_stage 5 "comparison"; then
    run zfaudio compare $(experiments) --group-seeds --csv "$exp/comparison.csv"
fi
