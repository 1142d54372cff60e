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
nj_help="without effect here: one process prepares the data"
shards_stage=0
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
    train_model
fi

if at_stage 3 "evaluation"; then
    require_shards
    require_model
    evaluate_sequences 1
fi

if at_stage 4 "images"; then
    require_shards
    require_model
    generate_sequences
fi

if at_stage 5 "report"; then
    write_report
fi
