from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.timit import timit
from zfaudio.errors import UserError

distributed = pytest.importorskip("distributed")


def lay_out(root: Path) -> Path:
    """Write sentences of five training speakers and one test speaker. One sentence is truncated."""
    for number in range(60):
        part, speaker, name = "TEST" if number < 10 else "TRAIN", f"FAA{'ABCDEF'[number // 10]}0", f"SX{number % 10}"
        path = root / "TIMIT" / part / "DR1" / speaker / f"{name}.WAV"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.random.default_rng(number).integers(-999, 999, 800).astype(np.int16)
        soundfile.write(path, samples, 16000, subtype="PCM_16", format="NIST")
    path.write_bytes(path.read_bytes()[:-2])
    return root


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_dask_workers_write_what_one_process_writes(tmp_path: Path) -> None:
    corpus = lay_out(tmp_path / "disc")
    timit(str(corpus), str(tmp_path / "alone"))
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
    ) as cluster:
        timit(str(corpus), str(tmp_path / "cluster"), dask=cluster.scheduler_address)
    assert files(tmp_path / "alone") == files(tmp_path / "cluster")
    assert (tmp_path / "cluster" / "rejects.txt").read_text().count("truncated") == 1


def test_two_processes_write_what_one_process_writes(tmp_path: Path) -> None:
    corpus = lay_out(tmp_path / "disc")
    timit(str(corpus), str(tmp_path / "one"))
    timit(str(corpus), str(tmp_path / "two"), nj=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.parametrize("address", ["nowhere", "tcp://127.0.0.1:9"])
def test_address_without_a_scheduler_is_named(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zfaudio.corpus.parallel.DASK_TIMEOUT", 0.5)
    with pytest.raises(UserError, match=f"--dask {address}: no scheduler"):
        timit(str(lay_out(tmp_path / "disc")), str(tmp_path / "out"), dask=address)
