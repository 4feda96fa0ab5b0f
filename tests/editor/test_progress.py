"""What a long call's callbacks are by default, and how many stages report to one."""

from monoglot.editor.progress import NOBODY, in_megabytes, silent, stages


def test_stages_report_to_one_callback_under_their_titles() -> None:
    heard: list[tuple[str, int, int]] = []
    stage = stages(lambda what, done, whole: heard.append((what, done, whole)))
    with stage("detect", "tokens") as progress:
        progress("en", 1, 2)
        progress("", 2, 2)
    with stage("bake", "MB") as progress:
        in_megabytes(progress)(2_500_000, 10_000_000)
    assert heard == [("detect en", 1, 2), ("detect", 2, 2), ("bake", 2, 10)]


def test_by_default_nothing_is_heard() -> None:
    assert stages(None) is silent
    with NOBODY.stage("detect", "tokens") as progress:
        progress("en", 1, 2)
    NOBODY.told("a line")
