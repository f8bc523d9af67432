"""The page on many hosts is a program: it runs on two processes as well."""

from pathlib import Path

from launch import Processes

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/howto/many_hosts.md"


def test_the_page_on_many_hosts_runs_on_two_processes(folder, monkeypatch):
    monkeypatch.setenv("CHECKPOINTS", str(folder / "of_the_page"))
    processes = Processes(folder / "page", [HERE / "page.py", PAGE], 2, 2, 240)
    codes = processes.wait()
    assert codes == [0, 0], processes.said()
    assert {path.name for path in (folder / "of_the_page").iterdir()} == {"3"}
