"""The supervisor over small programs: order, restart, stop, and cleaning up after a violent death."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped, unused-ignore]
import pytest

from infra.embedded.child import ProcessSpec
from infra.embedded.errors import DataDirInUse, ServerFailedToStart
from infra.embedded.ports import free_port
from infra.embedded.probes import http_ok, log_says, tcp_open
from infra.embedded.process import ProcessIdentity, wait_until
from infra.embedded.run_record import RunRecord
from infra.embedded.supervisor import Happening, Stopped, Supervisor, record_path, running_record
from tests.fixtures.patience import PATIENCE_S
from tests.fixtures.processes import running

SLEEPER = "import time; print('here', flush=True); time.sleep(600)"
SLOW_TO_END = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), sys.exit()));"
    f" {SLEEPER}"
)
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {SLEEPER}"


class Diary:
    """What the supervisor told, in order."""

    def __init__(self) -> None:
        self.lines: list[tuple[Happening, str]] = []
        self.details: list[str] = []

    def __call__(self, happening: Happening, name: str, detail: str) -> None:
        self.lines.append((happening, name))
        self.details.append(detail)

    def names(self, happening: Happening) -> list[str]:
        return [name for what, name in self.lines if what is happening]


def program(directory: Path, name: str, source: str = SLEEPER, **options: object) -> ProcessSpec:
    log = directory / f"{name}.log"
    settings: dict[str, object] = {"ready": log_says(log, "here"), "stop_timeout_s": 2.0, **options}
    return ProcessSpec(name=name, argv=lambda: [sys.executable, "-c", source], log=log, **settings)  # type: ignore[arg-type]


def until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        supervisor.check()
        time.sleep(0.02)


def test_stages_start_in_order_and_stop_in_reverse(tmp_path: Path) -> None:
    diary = Diary()

    with Supervisor(tmp_path, tell=diary) as supervisor:
        supervisor.start([program(tmp_path, "database")])
        supervisor.start([program(tmp_path, "api"), program(tmp_path, "worker")])
        pids = supervisor.pids

    assert diary.names(Happening.STARTING) == ["database", "api", "worker"]
    assert diary.names(Happening.STOPPED)[-1] == "database"
    assert not any(running(pid) for pid in pids.values())


def test_a_killed_process_is_started_again_under_a_new_pid(tmp_path: Path) -> None:
    diary = Diary()
    with Supervisor(tmp_path, tell=diary) as supervisor:
        supervisor.start([program(tmp_path, "api")])
        first = supervisor.pids["api"]

        os.kill(first, signal.SIGKILL)
        until(supervisor, lambda: len(diary.names(Happening.READY)) == 2)

        assert supervisor.pids["api"] != first
        assert "was killed by SIGKILL" in diary.details
        record = running_record(tmp_path)
        assert record is not None
        assert record.children["api"].pid == supervisor.pids["api"]


def test_grandchildren_of_a_killed_process_do_not_survive_it(tmp_path: Path) -> None:
    forking = "import os, time; os.fork(); print('here', flush=True); time.sleep(600)"
    diary = Diary()
    with Supervisor(tmp_path, tell=diary) as supervisor:
        supervisor.start([program(tmp_path, "worker", forking)])
        leader = supervisor.pids["worker"]
        assert wait_until(lambda: len(psutil.Process(leader).children()) == 1, timeout_s=PATIENCE_S)
        grandchild = ProcessIdentity.of(psutil.Process(leader).children()[0].pid)
        assert grandchild is not None

        os.kill(leader, signal.SIGKILL)
        until(supervisor, lambda: len(diary.names(Happening.READY)) == 2)

        assert wait_until(lambda: not grandchild.alive(), timeout_s=PATIENCE_S)


def test_what_ignores_sigterm_is_killed_after_its_timeout(tmp_path: Path) -> None:
    diary = Diary()
    with Supervisor(tmp_path, tell=diary) as supervisor:
        # Asked together; who is asked first and given less time is over before the one that takes a second to end.
        slow = program(tmp_path, "slow", SLOW_TO_END, stop_timeout_s=PATIENCE_S)
        supervisor.start([slow, program(tmp_path, "stubborn", STUBBORN, stop_timeout_s=0.3)])

    stopped = [
        (name, detail)
        for (what, name), detail in zip(diary.lines, diary.details, strict=True)
        if what is Happening.STOPPED
    ]
    assert stopped == [("stubborn", "killed, it did not end in time"), ("slow", "")]


def test_a_process_that_cannot_start_fails_with_its_name_reason_and_log(tmp_path: Path) -> None:
    broken = program(tmp_path, "api", "import sys; print('no module named shop'); sys.exit(3)")

    with Supervisor(tmp_path, tell=Diary()) as supervisor, pytest.raises(ServerFailedToStart) as failure:
        supervisor.start([broken])

    assert failure.value.name == "api"
    assert failure.value.reason == "ended with exit code 3"
    assert failure.value.log == tmp_path / "api.log"
    assert "no module named shop" in failure.value.tail


def test_a_task_runs_once_and_its_failure_stops_the_start(tmp_path: Path) -> None:
    diary = Diary()
    with Supervisor(tmp_path, tell=diary) as supervisor:
        supervisor.start([program(tmp_path, "migrations", "print('done')", once=True)])
        assert "migrations" not in supervisor.pids

        with pytest.raises(ServerFailedToStart, match="seed ended with exit code 1"):
            supervisor.start([program(tmp_path, "seed", "raise SystemExit(1)", once=True)])

    assert diary.names(Happening.STARTING) == ["migrations", "seed"]


def test_a_signal_during_start_ends_the_start(tmp_path: Path) -> None:
    never = program(tmp_path, "api", ready=lambda: False, before=lambda: os.kill(os.getpid(), signal.SIGTERM))

    with Supervisor(tmp_path, tell=Diary()) as supervisor, pytest.raises(Stopped):
        supervisor.start([never])


def test_probes_see_http_and_tcp(tmp_path: Path) -> None:
    port = free_port()
    server = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    assert not tcp_open(port)()
    with Supervisor(tmp_path, tell=Diary()) as supervisor:
        supervisor.start(
            [
                ProcessSpec(
                    name="web",
                    argv=lambda: server,
                    cwd=tmp_path,
                    log=tmp_path / "web.log",
                    ready=http_ok(f"http://127.0.0.1:{port}/"),
                )
            ]
        )
        assert wait_until(tcp_open(port), timeout_s=PATIENCE_S)
        assert not http_ok(f"http://127.0.0.1:{port}/nowhere")()
        kind = ("content-type", "text/html; charset=utf-8")
        assert wait_until(http_ok(f"http://127.0.0.1:{port}/", header=kind), timeout_s=PATIENCE_S)
        assert not http_ok(f"http://127.0.0.1:{port}/", header=("x-lianyu-stack", "another"))()


def test_two_supervisors_never_share_a_directory(tmp_path: Path) -> None:
    with Supervisor(tmp_path, tell=Diary()), pytest.raises(DataDirInUse), Supervisor(tmp_path, tell=Diary()):
        pass


def supervise_in_a_process(directory: Path) -> subprocess.Popen[str]:
    source = f"""
    import sys
    from pathlib import Path
    sys.path.insert(0, {str(Path(__file__).parents[3])!r})
    from tests.infra.embedded.test_supervisor import STUBBORN, Diary, program
    from infra.embedded.supervisor import Supervisor
    directory = Path({str(directory)!r})
    with Supervisor(directory, tell=Diary()) as supervisor:
        supervisor.start([program(directory, "polite"), program(directory, "stubborn", STUBBORN)])
        print("up", flush=True)
        supervisor.watch()
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)], stdout=subprocess.PIPE, text=True
    )


def test_the_next_supervisor_ends_what_a_killed_one_left(tmp_path: Path) -> None:
    first = supervise_in_a_process(tmp_path)
    assert first.stdout is not None
    assert first.stdout.readline() == "up\n"
    record = RunRecord.read(record_path(tmp_path))
    assert record is not None

    first.kill()
    first.wait()
    first.stdout.close()
    if sys.platform == "linux":  # the kernel passes SIGTERM on; the stubborn one stays
        assert wait_until(lambda: not record.children["polite"].alive(), timeout_s=PATIENCE_S)
    assert record.children["stubborn"].alive()
    assert running_record(tmp_path) is None

    diary = Diary()
    with Supervisor(tmp_path, tell=diary):
        assert not any(identity.alive() for identity in record.children.values())
    assert diary.names(Happening.LEFTOVER)[-1] == "stubborn"


def test_a_recorded_pid_that_now_belongs_to_another_process_is_left_alone(tmp_path: Path) -> None:
    bystander = subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        dead = ProcessIdentity(bystander.pid, 1_000_000_000.0)  # same pid, started in another decade
        RunRecord(supervisor=dead, children={"api": dead}).write(record_path(tmp_path))

        with Supervisor(tmp_path, tell=Diary()):
            assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_sigterm_stops_everything_and_removes_the_record(tmp_path: Path) -> None:
    process = supervise_in_a_process(tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    children = json.loads(record_path(tmp_path).read_text())["children"]

    process.send_signal(signal.SIGTERM)

    assert process.wait(timeout=PATIENCE_S) == 0
    process.stdout.close()
    assert not record_path(tmp_path).exists()
    assert not any(running(child["pid"]) for child in children.values())
