#!/usr/bin/env bash
# Z-forcing on a corpus that lhotse knows by name (--list): from the recordings to a report.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

name='' list='' sample_rate=16000
extra_options="name sample_rate"
extra_switches="list"
extra_help="  --name NAME                the corpus, such as ljspeech
  --list                     print the names, with license and size, and exit
  --sample-rate HZ           rate to which recordings are resampled (default: 16000)
"
list_names() {
    "$python" -m data_prep.corpus --list
}
source "$here/../utils/recipe.sh"

if at_stage 0 "manifests of lhotse"; then
    [ -n "$name" ] || die "stage 0 needs --name NAME; --list prints the names"
    require_corpus "the unpacked corpus"
    run "$python" -m data_prep.corpus "$name" "$corpus" "$data" --nj "$nj"
fi

if at_stage 1 "shards"; then
    require "$data/train/recordings.jsonl.gz" 0
    run zfaudio shard "$data" "$shards" --sample-rate "$sample_rate" --nj "$nj"
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
