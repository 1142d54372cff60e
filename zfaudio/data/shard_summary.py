"""What `zfaudio shard` says about the corpus: sizes, samples at full scale, channels that cancel out, equal audio."""

from collections.abc import Sequence
from pathlib import Path

from zfaudio.corpus.splits import describe_speakers
from zfaudio.data.manifest import Manifest
from zfaudio.data.shard_writer import ShardRecord
from zfaudio.files import write_text
from zfaudio.text import printable

# Utterances with the same audio: (split, id) of each.
Group = list[tuple[str, str]]


def find_duplicates(records: Sequence[ShardRecord]) -> list[Group]:
    """Find the utterances whose samples are the same, however they are named. Those of several splits come first."""
    groups: dict[str, Group] = {}
    for record in records:
        for id, digest in record.digests.items():
            groups.setdefault(digest, []).append((record.split, id))
    found = [sorted(group) for group in groups.values() if len(group) > 1]
    return sorted(found, key=lambda group: (not in_several_splits(group), group))


def in_several_splits(group: Group) -> bool:
    """Return whether the utterances are not all of one split."""
    return len({split for split, _ in group}) > 1


def write_duplicates(path: Path, groups: Sequence[Group]) -> None:
    """Write a line for each group, with a split and an id for each of its utterances. No file if there are none."""
    if not groups:
        path.unlink(missing_ok=True)
        return
    lines = ("\t".join(f"{split} {printable(id)}" for split, id in group) + "\n" for group in groups)
    write_text(path, "".join(lines))


def summarize(
    out: Path, manifest: Manifest, records: Sequence[ShardRecord], rejected: int, duplicates: Sequence[Group]
) -> str:
    """Describe in a few lines what was made."""
    lines, waveform = [], manifest.waveform
    for name, split in manifest.splits.items():
        minutes = split.frames * manifest.frame_size / waveform.sample_rate / 60
        lines.append(
            f"{name}: {split.utterances} utterances, {describe_speakers(split.speakers, split.utterances)}, "
            f"{split.frames} frames, "
            f"{minutes:.1f} minutes, {len(split.shards)} shards"
        )
    lines.append(f"training samples: mean {waveform.mean:.4g}, deviation {waveform.deviation:.4g}")
    clipped = sum(record.clipped_samples for record in records)
    samples = sum(record.frames for record in records) * manifest.frame_size
    lines.append(f"at full scale: {clipped} of {samples} samples ({100 * clipped / samples:.2g} %)")
    weak = [id for record in records for id in record.weak_mixes]
    if weak:
        lines.append(
            f"warning: in {len(weak)} utterances the channels cancel each other out, so their mean is far weaker than "
            f"they are ({min(weak)}{', ...' if len(weak) > 1 else ''}); --channel 0 uses the first channel"
        )
    across = [group for group in duplicates if in_several_splits(group)]
    if across:
        (first, id), (second, other) = across[0][0], next(each for each in across[0] if each[0] != across[0][0][0])
        lines.append(
            f"warning: {sum(map(len, across))} utterances have the same audio as one of another split ({id} of {first} "
            f"is {other} of {second}); listed in {out / 'duplicates.txt'}"
        )
    within = [group for group in duplicates if not in_several_splits(group)]
    if within:
        count = sum(map(len, within))
        lines.append(f"same audio within a split: {count} utterances, listed in {out / 'duplicates.txt'}")
    lines.append(f"rejected: {rejected}" + (f", listed in {out / 'rejects.txt'}" if rejected else ""))
    lines.append(f"written: {out / 'manifest.json'}")
    return "\n".join(lines)
