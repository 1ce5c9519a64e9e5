"""What the command says when it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.__main__ import main


@pytest.mark.parametrize(
    "name", ["a\x07b", "a\x1b]0;x\x07b", "a\u202eb", "a\rb"], ids=["bell", "title", "rtl", "return"]
)
def test_an_error_puts_no_control_character_of_a_files_name_on_the_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    file = tmp_path / f"{name}.csv"
    file.write_text("nothing\n")
    monkeypatch.setattr("sys.argv", ["comity", "audit", "import", str(file)])
    monkeypatch.setattr("setproctitle.setproctitle", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == 1
    assert "NOT_AN_EXPORT" in said
    assert said.rstrip("\n").isprintable()
