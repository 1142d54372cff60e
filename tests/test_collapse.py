import pytest

from zfaudio.collapse import collapse_warning, has_collapsed


@pytest.mark.parametrize(
    ("kl", "weight", "collapsed"),
    [(0.01, 0.2, False), (0.01, 0.5, True), (0.01, 1.0, True), (0.05, 1.0, False), (float("nan"), 1.0, False)],
)
def test_a_low_kl_is_collapse_once_the_kl_weight_tells(kl, weight, collapsed):
    assert has_collapsed(kl, weight) is collapsed


def test_the_warning_is_one_line_with_what_to_try():
    warning = collapse_warning(0.0123)
    assert "\n" not in warning
    assert "0.012 nats a frame" in warning
    for setting in ("objective.kl_weight_start", "objective.aux_weight_end"):
        assert setting in warning
