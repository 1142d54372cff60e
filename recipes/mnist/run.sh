#!/usr/bin/env bash
# Z-forcing on handwritten digits: MNIST, binarized, pixel by pixel or row by row.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

layout='' fixed='' importance_samples=10
extra_options="layout fixed importance_samples"
extra_help="  --layout NAME              pixels: 784 frames of a pixel, or rows: 28 frames of a row
                             (default: rows if the name of --conf begins with rows, and pixels otherwise)
  --fixed DIR                folder of Larochelle's binarized_mnist_{train,valid,test}.amat, to use these images
  --importance-samples K     number of draws of the importance-weighted bound in stage 3 (default: 10)
"
stages_help="0: shards (there is no stage 1),
                             2: training, 3: evaluation, 4: images, 5: report"
data_help="shards, in DIR/pixels or DIR/rows"
source "$here/../utils/recipe.sh"

if [ -z "$layout" ]; then
    [[ $(basename "$conf") == rows* ]] && layout=rows || layout=pixels
fi
[[ $layout == pixels || $layout == rows ]] || die "--layout $layout: must be pixels or rows"
shards=$data/$layout

if at_stage 0 "shards"; then
    require_corpus "the folder of MNIST's train-images-idx3-ubyte.gz and its three other files"
    run "$python" -m data_prep.mnist "$corpus" "$shards" --layout "$layout" ${fixed:+--fixed "$fixed"}
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
    if has_latents "$exp"; then
        run zfaudio evaluate "$exp" --shards "$shards" --split test --draws 1 --json "$exp/results/elbo.json"
    fi
    run zfaudio evaluate "$exp" --shards "$shards" --split test --importance-samples "$importance_samples" \
        --json "$exp/results/test.json"
fi

if at_stage 4 "images"; then
    require "$shards/manifest.json" 0
    require_model
    images=(--out "$exp/samples" --shards "$shards")
    run zfaudio generate "$exp" --out "$exp/samples" --num 100
    run zfaudio generate "$exp" "${images[@]}" --num 32 --prompt test
    if has_latents "$exp"; then
        run zfaudio generate "$exp" "${images[@]}" --num 32 --reconstruct test
        run zfaudio interpolate "$exp" "${images[@]}" --first test:0 --last test:1
    fi
fi

if at_stage 5 "report"; then
    require_model
    run zfaudio report "$exp" --shards "$shards"
    "$python" "$here/../utils/show_result.py" "$exp"
fi
