# What every recipe's run.sh shares: its options, the order of stages, and words for what is missing.
# A run.sh sets `here` (its folder), own_options and own_help (of options that only it has), and their defaults,
# then sources this with its command line.

repo=$(cd "$here/../.." && pwd)

die() { # die MESSAGE
    echo "$(basename "$here")/run.sh: error: $1" >&2
    exit 1
}

usage() {
    sed -n '2,/^set/s/^# //p' "$0" # the comment at the top of run.sh
    cat <<EOF

usage: $0 [OPTIONS] [-- TRAINING OPTIONS]

  --stage N, --stop-stage N  first and last stage: 0 data directories, 1 shards, 2 training, 3 evaluation,
                             4 speech, 5 report (default: 0 and 5)
  --corpus DIR               the corpus
  --data DIR                 for the data directories, and the shards in DIR/shards (default: $here/data)
  --exp DIR                  for the experiment: checkpoints, results, samples, report (default: $here/exp)
  --conf FILE                settings of training (default: $here/conf/default.yaml)
  --nj N                     processes that prepare data (default: one a core)
${own_help-}
Training options are those of \`zfaudio train\`, as in: -- --train.max_steps 1000 --model.hidden_size 256
EOF
}

quoted() { # quoted WORDS...: as one could type them again
    local word words=()
    for word; do
        [[ $word =~ ^[A-Za-z0-9_.,:=/+-]+$ ]] || word=${word@Q}
        words+=("$word")
    done
    echo "${words[*]}"
}

at_stage() { # at_stage N TITLE: whether stage N is to be run; announces it
    ((stage <= $1 && $1 <= stop_stage)) || return 1
    printf '\n== stage %s: %s\n' "$1" "$2"
}

need() { # need PATH STAGE: stops where an earlier stage has not made PATH
    [ -e "$1" ] || die "$1 is missing; stage $2 makes it (--stage $2)"
}

need_model() {
    [ -e "$exp/best" ] || [ -e "$exp/last" ] || die "$exp holds no checkpoint; stage 2 trains one (--stage 2)"
}

need_corpus() { # need_corpus WHAT: stops where --corpus is no folder
    [ -n "$corpus" ] || die "stage 0 needs --corpus DIR, $1"
    [ -d "$corpus" ] || die "--corpus $corpus: no such folder; give $1"
}

need_conf() {
    [ -f "$conf" ] || die "--conf $conf: no such file; $here/conf has $(cd "$here/conf" && echo *.yaml)"
}

run() { # run COMMAND...: shows it, then runs it
    echo "+ $(quoted "$@")"
    "$@"
}

resume() { # the option that continues a run that was stopped
    [ ! -e "$exp/last" ] || echo --resume
}

stage=0 stop_stage=5 corpus='' data=$here/data exp=$here/exp conf=$here/conf/default.yaml nj=$(nproc)
options=" stage stop_stage corpus data exp conf nj ${own_options-} "
command_line=$(quoted "recipes/$(basename "$here")/run.sh" "$@")
training_options=()
while (($#)); do
    case $1 in
        -h | --help) usage && exit ;;
        --) training_options=("${@:2}") && break ;;
        --*=*) set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
    esac
    name=${1#--} name=${name//-/_}
    [[ $1 == --* && $options == *" $name "* ]] || die "no option $1; --help lists the options"
    (($# > 1)) || die "$1 needs a value"
    printf -v "$name" %s "$2"
    shift 2
done
[[ $stage =~ ^[0-5]$ && $stop_stage =~ ^[0-5]$ ]] || die "--stage and --stop-stage are numbers from 0 to 5"
((stage <= stop_stage)) || die "--stage $stage comes after --stop-stage $stop_stage"

# Absolute, so that a checkpoint finds its shards from anywhere.
for name in corpus data exp conf; do
    [ -z "${!name}" ] || printf -v "$name" %s "$(realpath -m -- "${!name}")"
done
shards=$data/shards

command -v zfaudio >/dev/null || PATH=$repo/.venv/bin:$PATH
command -v zfaudio >/dev/null || die "zfaudio is not installed; pip install -e $repo"
python=$(sed -n '1s/^#!//p' "$(command -v zfaudio)") # the one that zfaudio was installed for
[ -x "$python" ] || python=python3
export PYTHONPATH=$repo${PYTHONPATH:+:$PYTHONPATH}

# The report shows it. Training, scoring and generation note their own command lines.
mkdir -p "$exp"
echo "$command_line" >>"$exp/commands.txt"
