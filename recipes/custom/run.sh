#!/usr/bin/env bash
# Z-forcing on any folder of audio: from the recordings to a report.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

speaker_pattern='' lists='' sample_rate=16000 channel='' train='' valid='' test='' allow_pipes=''
extra_options="speaker_pattern lists sample_rate channel train valid test"
extra_switches="allow_pipes"
extra_help="  --speaker-pattern REGEX    how to find the speaker in a file's path below the corpus, for example
                             '^(?P<speaker>[^/]+)/' (default: the name of the file's folder)
  --lists DIR                folder with train.txt, valid.txt and test.txt, which list the files of each split
  --train NAME, --valid NAME, --test NAME
                             folders of --corpus that are the splits (default: the recordings are split), or without
                             --corpus, data directories of --data (default: train, valid or dev, and test or eval)
  --sample-rate HZ           rate to which recordings are resampled (default: 16000)
  --channel N                channel of recordings with several, counted from 0 (default: the mean of all)
  --allow-pipes              run entries of wav.scp that are commands
"
source "$here/../utils/recipe.sh"

parts=()
for split in train valid test; do
    [ -z "${!split}" ] || parts+=("--$split" "${!split}")
done

if at_stage 0 "data directories"; then
    require_corpus "a folder of audio"
    run "$python" -m data_prep.folder "$corpus" "$data" \
        --folder.speaker-pattern "$speaker_pattern" --folder.lists "$lists" --nj "$nj" "${parts[@]}"
fi

if at_stage 1 "shards"; then
    [ -z "$corpus" ] || { parts=() && train=; } # stage 0 writes train, valid and test
    require "$data/${train:-train}/wav.scp" 0
    run zfaudio shard "$data" "$shards" --sample-rate "$sample_rate" --nj "$nj" "${parts[@]}" \
        ${channel:+--channel "$channel"} ${allow_pipes:+--allow-pipes}
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
