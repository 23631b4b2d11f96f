"""What a terminal shows while something goes on."""

import pytest

from api.cli.output import progress


@pytest.mark.parametrize(("by_share", "shown", "not_shown"), [(True, "50%", "2001"), (False, "2001/4002", "50%")])
def test_offsets_are_shown_by_their_share_as_they_are_no_messages(
    by_share: bool, shown: str, not_shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    with progress(by_share=by_share) as bars:
        assert not bars.disable
        bars.add_task("claimed 1,999 messages", total=4002, completed=2001)
        with bars.console.capture() as captured:
            bars.console.print(bars.make_tasks_table(bars.tasks), no_wrap=True)
    assert "claimed 1,999 messages" in captured.get()
    assert shown in captured.get()
    assert not_shown not in captured.get()
