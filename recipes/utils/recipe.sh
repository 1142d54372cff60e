# Shared by the run.sh of all recipes: options, stages and error messages.
#
# A run.sh sets `here` (its folder), extra_options, extra_switches (options without a value) and extra_help (for the
# options that only it has) and the defaults of these options; stages_help, data_help, nj_help and shards_stage if its
# stages or folders are not those of speech. A switch `list` calls its function list_names instead of the stages. Then it
# sources this file, which parses the command line.

repo=$(cd "$here/../.." && pwd)

die() { # die MESSAGE: prints an error and exits
    echo "$(basename "$here")/run.sh: error: $1" >&2
    exit 1
}

usage() {
    sed -n '2,/^set/s/^# //p' "$0" # the comment at the top of run.sh
    cat <<END

usage: $0 [OPTIONS] [-- TRAINING OPTIONS]

  --stage N, --stop-stage N  first and last stage to run (default: 0 and 5). ${stages_help-0: data directories, 1: shards,
                             2: training, 3: evaluation, 4: speech, 5: report}
  --corpus DIR               folder of the corpus
  --data DIR                 folder for the ${data_help-data directories, with the shards in DIR/shards} (default: $here/data)
  --exp DIR                  folder for the experiment: checkpoints, results, samples and report (default: $here/exp)
  --conf FILE                settings of the model and of training (default: $here/conf/default.yaml)
  --nj N                     ${nj_help-number of processes that prepare data (default: one per core)}
${extra_help-}
Training options are those of \`zfaudio train\`, for example: -- --train.max_steps 1000 --model.hidden_size 256
A run that was stopped is continued. To start over, which deletes its checkpoints: -- --overwrite
END
}

quoted() { # quoted WORD...: prints the words, quoted so that they can be typed again
    local word words=()
    for word; do
        [[ $word =~ ^[A-Za-z0-9_.,:=/+-]+$ ]] || word=${word@Q}
        words+=("$word")
    done
    echo "${words[*]}"
}

run() { # run COMMAND...: prints a command and runs it
    echo "+ $(quoted "$@")"
    "$@"
}

at_stage() { # at_stage N TITLE: prints the title and succeeds if stage N is to be run
    ((stage <= $1 && $1 <= stop_stage)) || return 1
    printf '\n== stage %s: %s\n' "$1" "$2"
}

require() { # require PATH STAGE: exits if a path is missing that an earlier stage makes
    [ -e "$1" ] || die "$1 is missing; stage $2 makes it (--stage $2)"
}

holds_checkpoint() { # holds_checkpoint EXP: succeeds if there is a checkpoint in an experiment
    "$python" "$repo/recipes/utils/holds_checkpoint.py" "$1"
}

require_model() { # exits if there is no checkpoint
    holds_checkpoint "$exp" || die "$exp holds no checkpoint; stage 2 trains one (--stage 2)"
}

has_latents() { # has_latents EXP: succeeds if the model of an experiment has latents
    "$python" "$repo/recipes/utils/has_latents.py" "$1"
}

require_corpus() { # require_corpus DESCRIPTION: exits if --corpus is not a folder
    [ -n "$corpus" ] || die "stage 0 needs --corpus DIR, $1"
    [ -d "$corpus" ] || die "--corpus $corpus: no such folder; give $1"
}

require_conf() { # exits if --conf is not a file
    [ -f "$conf" ] || die "--conf $conf: no such file; $here/conf has $(cd "$here/conf" && echo *.yaml)"
}

resume_option() { # resume_option EXP OPTIONS: prints --resume if training was started before, unless it is to start over
    [[ " $2 " == *" --overwrite"* ]] || ! holds_checkpoint "$1" || echo --resume
}

require_shards() { # exits if there are no shards
    require "$shards/manifest.json" "${shards_stage-1}"
}

train_model() { # trains on the shards, or continues a training that was stopped
    require_conf
    require_shards
    run zfaudio train --config "$conf" --data.shards "$shards" --exp "$exp" \
        $(resume_option "$exp" "${training_options[*]}") "${training_options[@]}"
}

evaluate_speech() { # scores test recordings
    require_shards
    require_model
    run zfaudio evaluate "$exp" --shards "$shards" --split test --json "$exp/results/test.json"
}

generate_speech() { # samples speech, and continues and reconstructs three seconds of a test recording
    require_shards
    require_model
    run "$python" "$repo/recipes/utils/cut_recording.py" "$shards" "$exp/test-recording.wav" --seconds 3
    run zfaudio generate "$exp" --out "$exp/samples" --num 4 --seconds 3
    run zfaudio generate "$exp" --out "$exp/samples" --num 2 --seconds 3 --prompt "$exp/test-recording.wav"
    run zfaudio generate "$exp" --out "$exp/samples" --num 1 --reconstruct "$exp/test-recording.wav"
}

generate_words() { # generate_words NUM SECONDS: samples speech, to which a classifier of the corpus's words listens
    require_shards
    require_model
    run zfaudio generate "$exp" --out "$exp/samples" --num "$1" --seconds "$2"
    run zfaudio quality "$exp" --shards "$shards" --words "$data"
}

evaluate_sequences() { # evaluate_sequences DRAWS: scores test pictures or sentences, with latents also by the ELBO
    if has_latents "$exp"; then
        run zfaudio evaluate "$exp" --shards "$shards" --split test --draws "$1" --json "$exp/results/elbo.json"
    fi
    run zfaudio evaluate "$exp" --shards "$shards" --split test --importance-samples "$importance_samples" \
        --json "$exp/results/test.json"
}

generate_sequences() { # draws pictures or sentences, and those that real ones become
    local out=(--out "$exp/samples" --shards "$shards")
    run zfaudio generate "$exp" --out "$exp/samples" --num 100
    run zfaudio generate "$exp" "${out[@]}" --num 32 --prompt test
    if has_latents "$exp"; then
        run zfaudio generate "$exp" "${out[@]}" --num 32 --reconstruct test
        run zfaudio interpolate "$exp" "${out[@]}" --first test:0 --last test:1
    fi
}

write_report() { # writes the report, and prints the result
    require_model
    run zfaudio report "$exp" --shards "$shards"
    "$python" "$repo/recipes/utils/show_result.py" "$exp"
}

stage=0 stop_stage=5 corpus='' data=$here/data exp=$here/exp conf=$here/conf/default.yaml nj=$(nproc)
options=" stage stop_stage corpus data exp conf nj ${extra_options-} "
switches=" ${extra_switches-} "
command_line=$(quoted "recipes/$(basename "$here")/run.sh" "$@")
training_options=()
while (($#)); do
    case $1 in
        -h | --help) usage && exit ;;
        --) training_options=("${@:2}") && break ;;
        --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    esac
    option=${1#--} option=${option//-/_}
    if [[ $1 == --* && $switches == *" $option "* ]]; then
        printf -v "$option" %s true
        shift
        continue
    fi
    [[ $1 == --* && $options == *" $option "* ]] || die "no option $1; --help lists the options"
    (($# > 1)) || die "$1 needs a value"
    printf -v "$option" %s "$2"
    shift 2
done
[[ $stage =~ ^[0-5]$ && $stop_stage =~ ^[0-5]$ ]] || die "--stage and --stop-stage must be numbers from 0 to 5"
((stage <= stop_stage)) || die "--stage $stage comes after --stop-stage $stop_stage"

# Paths are made absolute because a checkpoint stores the path of its shards.
for option in corpus data exp conf; do
    [ -z "${!option}" ] || printf -v "$option" %s "$(realpath -m -- "${!option}")"
done
shards=$data/shards

command -v zfaudio >/dev/null || PATH=$repo/.venv/bin:$PATH
command -v zfaudio >/dev/null || die "zfaudio is not installed; run: pip install -e $repo"
python=$(sed -n '1s/^#!//p' "$(command -v zfaudio)") # the Python that zfaudio was installed for
[ -x "$python" ] || python=python3
export PYTHONPATH=$repo${PYTHONPATH:+:$PYTHONPATH} # data_prep is not installed; it is imported from the checkout

! declare -F list_names >/dev/null || [ -z "$list" ] || { list_names && exit; }

# The report shows this command line. The zfaudio commands add theirs.
mkdir -p "$exp"
echo "$command_line" >>"$exp/commands.txt"
