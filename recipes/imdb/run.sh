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
nj_help="without effect here: one process prepares the data"
shards_stage=0
source "$here/../utils/recipe.sh"

if at_stage 0 "shards"; then
    require_corpus "a folder of text in the layout of aclImdb, or of any text files"
    run "$python" -m data_prep.text "$corpus" "$shards" --sentences "$sentences"
fi

if at_stage 2 "training"; then
    train_model
fi

if at_stage 3 "evaluation"; then
    require_shards
    require_model
    run "$python" -m data_prep.ngrams "$shards" --split test
    evaluate_sequences 4
fi

if at_stage 4 "sentences"; then
    require_shards
    require_model
    generate_sequences
fi

if at_stage 5 "report"; then
    write_report
fi
