#!/usr/bin/env bash
# Z-forcing on TIMIT: from the LDC93S1 disc to a report.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

protocol=paper
extra_options="protocol"
extra_help="  --protocol NAME            paper: all sentences, with 5 % of the training sentences for validation;
                             kaldi: no SA sentences, 50 development speakers and the core test set (default: paper)
"
source "$here/../utils/recipe.sh"

if at_stage 0 "data directories"; then
    require_corpus "the folder of the LDC93S1 disc"
    run "$python" -m data_prep.timit "$corpus" "$data" --protocol "$protocol" --nj "$nj"
fi

if at_stage 1 "shards"; then
    require "$data/train/wav.scp" 0
    run zfaudio shard "$data" "$shards" --nj "$nj"
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
