#!/usr/bin/env bash
# Z-forcing on Blizzard 2013 (Catherine Byers): from the recordings to a report.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

layout=auto
extra_options="layout"
extra_help="  --layout NAME              unsegmented (chapters as MP3), segmented (sentences as WAV), or auto, which takes
                             chapters if there are any and sentences otherwise (default: auto)
"
source "$here/../utils/recipe.sh"

if at_stage 0 "data directories"; then
    require_corpus "the folder of the Blizzard 2013 recordings"
    run "$python" -m data_prep.blizzard "$corpus" "$data" --layout "$layout" --nj "$nj"
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
