"""Faults on purpose, with figures: `python -m tests.faults` from the root of a checkout.

    --inputs N    damaged inputs over all formats (default 10,000)
    --kills N     SIGKILLs each of shard, train and generate (default 50)
    --seed N      of all of it
    --only WORDS  mutations, kills, http, or names of formats

Prints what happened to each format and command. The exit status is 1 if there was a fault: a crash, a hang of more than
ten seconds, an exception that is not meant for the user, or something torn.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the modules that tests share

from tests.faults.formats import make_formats
from tests.faults.http_faults import LASTING, PASSING, http_faults
from tests.faults.kills import (
    finish,
    hashes,
    kill_until_done,
    torn_experiment,
    torn_samples,
    torn_shards,
)
from tests.faults.mutations import run_format


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        faults = 0
        if set(options.only) - {"kills", "http"} or not options.only:
            faults += mutations(Path(temporary), options.inputs, options.seed, options.only)
        if not options.only or "kills" in options.only:
            faults += kills(Path(temporary), options.kills, options.seed)
        if not options.only or "http" in options.only:
            began, problems = time.perf_counter(), http_faults(Path(temporary) / "http", options.seed)
            number = 2 * len(PASSING) + len(LASTING)
            seconds = time.perf_counter() - began
            print(f"http: a server fails in {number} ways, {len(problems)} faults, {seconds:.0f} s", flush=True)
            for line in problems[:20]:
                print(f"    {line}", flush=True)
            faults += len(problems)
    sys.exit(1 if faults else 0)


def mutations(folder: Path, inputs: int, seed: int, only: list[str]) -> int:
    """Damage every format; the number of faults."""
    formats = [one for one in make_formats(folder) if not only or "mutations" in only or one.name in only]
    print("format              inputs   read  refused  faults  slowest s      MB  good MB")
    faults = 0
    for one in formats:
        scratch = folder / "scratch" / one.name
        scratch.mkdir(parents=True)
        tally = run_format(one, inputs // len(formats), seed, scratch)
        counts = tally.outcomes
        print(
            f"{one.name:<18} {sum(counts.values()):>7} {counts['read']:>6} {counts['refused']:>8} {counts['fault']:>7} "
            f"{tally.slowest:>10.2f} {tally.most_megabytes:>7.0f} {tally.good_megabytes:>8.0f}",
            flush=True,
        )
        for line in tally.faults[:20]:
            print(f"    {line}", flush=True)
        faults += len(tally.faults)
    return faults


def kills(folder: Path, count: int, seed: int) -> int:
    """Kill shard, train and generate; the number of faults."""
    from speech import write_corpus

    rng = random.Random(seed)
    corpus, work = folder / "corpus", folder / "kills"
    write_corpus(corpus, speakers=12, recordings=6, seconds=4.0)

    def shard(out: str) -> list[str]:
        return ["shard", str(corpus), str(work / out), "--utterances-per-shard", "8"]

    def train(exp: str) -> list[str]:
        sizes = ["--model.hidden_size", "64", "--model.latent_size", "8", "--model.embedding_size", "16"]
        steps = ["--train.max_steps", "400", "--train.save_every", "1", "--train.validate_every", "20"]
        resume = ["--resume"] if torn_free_checkpoint(work / exp) else []
        places = ["--data.shards", str(work / "whole"), "--exp", str(work / exp), "--train.device", "cpu"]
        return ["train", *places, *sizes, "--model.mlp_size", "16", "--train.batch_size", "4", *steps, *resume]

    def generate(out: str) -> list[str]:
        return ["generate", str(work / "trained"), "--out", str(work / out), "--num", "12", "--seconds", "1"]

    faults = 0
    for name, words, check, pattern, places, seconds in (
        ("shard", shard, torn_shards, "*.tar", ("whole", "killed"), 4.0),
        ("train", train, torn_experiment, "", ("trained", "trained-killed"), 12.0),
        ("generate", generate, torn_samples, "[!.]*.wav", ("spoken", "spoken-killed"), 12.0),
    ):
        began = time.perf_counter()
        whole, killed = places
        problems = finish(words(whole))
        number, torn = kill_until_done(lambda: words(killed), lambda: check(work / killed), count, rng, seconds)  # noqa: B023
        problems += torn + finish(words(killed)) + check(work / killed)
        same = (
            same_weights(work / whole, work / killed)
            if name == "train"
            else hashes(work / whole, pattern) == hashes(work / killed, pattern)
        )
        if not same:
            problems.append("the end differs from that of an undisturbed run")
        print(f"{name}: {number} kills, {len(problems)} faults, {time.perf_counter() - began:.0f} s", flush=True)
        for line in problems[:20]:
            print(f"    {line}", flush=True)
        faults += len(problems)
    return faults


def torn_free_checkpoint(exp: Path) -> bool:
    """Whether there is a checkpoint to resume from."""
    from zfaudio.errors import UserError
    from zfaudio.experiment.checkpoint import find_checkpoint

    try:
        find_checkpoint(exp / "last")
    except UserError:
        return False
    return True


def same_weights(one: Path, other: Path) -> bool:
    from safetensors.numpy import load_file

    from zfaudio.experiment.checkpoint import find_checkpoint

    ours, theirs = (load_file(find_checkpoint(exp / "last") / "model.safetensors") for exp in (one, other))
    return ours.keys() == theirs.keys() and all((ours[name] == theirs[name]).all() for name in ours)


if __name__ == "__main__":
    main()
