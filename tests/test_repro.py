"""`make repro`: the same results on other machines, a worker that dies, what is refused, nothing left running."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import requests
from dvc.repo import Repo
from dvc.utils.serialize import dump_yaml
from test_end_to_end import DVC, LIMIT, Clone

from scripts import repro, stage
from scripts.repro import Stages, count_epochs, get_priority

COMMAND = (sys.executable, "scripts/repro.py")


@pytest.fixture
def clone(tmp_path) -> Clone:
    return Clone(tmp_path / "clone")


@pytest.fixture
def cluster(tmp_path, clone) -> Iterator[str]:
    """The address of a scheduler with two workers, each with a folder of its own, as a user would start them."""
    address = tmp_path / "scheduler.json"
    module, file = [sys.executable, "-m"], ["--scheduler-file", str(address)]
    quiet = ["--no-dashboard", "--host", "127.0.0.1"]
    commands = [[*module, "distributed.cli.dask_scheduler", *file, "--port", "0", *quiet]]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        worker = [*module, "distributed.cli.dask_worker", *file, "--nthreads", "1", *quiet]
        commands.append([*worker, "--local-directory", str(tmp_path / name)])
    started = [
        subprocess.Popen(command, env=clone.environment | get_credentials(), stderr=subprocess.DEVNULL)
        for command in commands
    ]
    wait_until(address.exists)
    yield json.loads(address.read_text())["address"]
    for process in reversed(started):
        process.terminate()
    for process in started:
        process.wait(LIMIT)


def get_credentials() -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture(params=["directory", "s3"])
def remote(request, tmp_path, clone) -> Iterator[None]:
    """A DVC remote, committed: a directory, or a bucket of moto's server."""
    clone.environment |= get_credentials()
    if request.param == "directory":
        clone.run(DVC, "remote", "add", "--default", "store", str(tmp_path / "remote"))
        clone.commit()
        yield
        return
    pytest.importorskip("dvc_s3")
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    url = "http://{}:{}".format(*server.get_host_and_port())
    requests.put(f"{url}/store").raise_for_status()  # makes the bucket
    clone.run(DVC, "remote", "add", "--default", "store", "s3://store/jena")
    clone.run(DVC, "remote", "modify", "store", "endpointurl", url)
    clone.commit()
    yield
    server.stop()


def wait_until(condition) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def list_running_stages(path: Path) -> list[psutil.Process]:
    """The processes of scripts/stage.py below `path`, and what they started."""
    result = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        if process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(path) and process.info["cmdline"]:
            result += [process] if {"scripts/stage.py", "stages.lib.command"} & set(process.info["cmdline"]) else []
    return result


def list_run_stages(output: str) -> list[str]:
    return re.findall(r"^(\S+): started on tcp://", output, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.cluster
def test_other_machines_give_the_same_bytes_though_one_dies(clone, remote, cluster, tmp_path):
    clone.repro()
    clone.repro("backtest/dvc.yaml")
    results, metrics = (
        clone.read_results(),
        {name: (clone.path / name).read_bytes() for name in clone.list_files("metrics")},
    )
    for path in (
        "dvc.lock",
        "backtest/dvc.lock",
        ".dvc/cache",
        *(f"data/{folder.name}" for folder in (clone.path / "data").iterdir()),
    ):
        file = clone.path / path
        if file.name != "README.md":
            shutil.rmtree(file) if file.is_dir() else file.unlink()
    clone.run("git", "clean", "--quiet", "--force", "-d", "metrics")

    process = clone.start(*COMMAND, "--scheduler", cluster)
    lines, killed = [], False
    for line in process.stdout:
        lines.append(line)
        if line.startswith("dense: ") and not killed:  # it trains
            (training,) = [
                stage for stage in list_running_stages(tmp_path) if stage.cmdline()[-2:] == ["train", "dense"]
            ]
            (dvc,) = [parent for parent in training.parents() if "scripts/stage.py" in parent.cmdline()]
            dvc.parent().kill()
            killed = True
    output = "".join(lines)
    assert process.wait(LIMIT) == 0, output
    assert clone.read_results() == results
    assert clone.list_changed() == set()

    # Every stage ran once, on one of the machines or, at both ends, here; but that of the worker that died.
    spread = (
        set(results) - {name for name in results if name.startswith(("report_", "index", "download"))} - {"check"}
    )
    assert sorted(list_run_stages(output)) == sorted([*spread, "train@dense"])
    assert "0 left" in output and "dashboard: http://" in output
    assert list_running_stages(tmp_path) == []

    # The backtest's folds, and its report at the end.
    assert len(list_run_stages(clone.run(*COMMAND, "backtest", "--scheduler", cluster))) == 6
    assert {name: (clone.path / name).read_bytes() for name in clone.list_files("metrics")} == metrics

    # Nothing has changed; then one model has, which must be committed.
    assert list_run_stages(clone.run(*COMMAND, "--scheduler", cluster)) == []
    clone.edit({"models": {"dense": {"learning_rate": 1e38}}})
    output = clone.run(*COMMAND, "--scheduler", cluster, code=1)
    assert output.splitlines()[-1].startswith("error: SCHEDULER: params.yaml: not committed")
    clone.commit()
    output = clone.run(*COMMAND, "--scheduler", cluster, code=1)
    assert set(list_run_stages(output)) == {"train@dense"}
    assert "error: train@dense failed: see above" in output
    assert "error: evaluate@dense: not run" in output
    assert "the loss is not a number" in output


@pytest.mark.slow
def test_an_interrupted_run_leaves_nothing_running(clone):
    clone.edit({"training": {"max_epochs": None}, "models": {"dense": {"epochs": 1_000_000}}})
    for sign in (signal.SIGINT, signal.SIGTERM):
        process, epochs = clone.start(*COMMAND, "forecast"), 0
        for line in process.stdout:
            epochs += bool(re.match(r"dense \d+/", line))
            if epochs == 2:
                break
        assert len(list_running_stages(clone.path)) >= 2
        started = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, sign)
        output, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 130
        assert output.splitlines()[-1] == "interrupted; all stages have stopped; run the command again to resume"
        assert list_running_stages(clone.path) == []
        assert psutil.wait_procs(started, LIMIT)[1] == []
        assert clone.read_results()  # dvc.lock is whole


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--jobs", "0"], "JOBS: expected a whole number from 1, found 0"),
        (["--jobs", "two"], "invalid int value: 'two'"),
    ],
)
def test_a_wrong_number_of_jobs_is_refused(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr("sys.argv", ["repro", *arguments])
    with pytest.raises(SystemExit, match="2"):
        repro.main()
    assert message in capsys.readouterr().err


def test_an_unknown_task_and_a_cluster_without_a_remote_are_refused(clone):
    output = clone.run(*COMMAND, "--scheduler", "tcp://127.0.0.1:9", code=None)
    assert "error: SCHEDULER: no DVC remote" in output
    with (
        Repo(str(clone.path)) as repo,
        pytest.raises(SystemExit, match=r"TASK: expected backtest, forecast, reviews, station"),
    ):
        repro.plan_stages(repo, "weather")


@pytest.fixture
def plugin(tmp_path) -> Iterator[Stages]:
    """The plugin of a worker, with a script in place of scripts/stage.py that ends at the stage `die`."""
    (tmp_path / "scripts").mkdir()
    script = """
import json, os, sys
for line in sys.stdin:
    name, *_ = json.loads(line)
    if name == "die":
        sys.exit(1)
    print(os.getpid())
    print("no newline", end="")
    print(f"{sys.argv[2]} exit code {int(name == 'fail')}", json.dumps(f"{name}: {{cmd: x}}"), flush=True)
"""
    (tmp_path / "scripts/stage.py").write_text(script)
    plugin = Stages(tmp_path)
    lines: list[str] = []
    plugin.setup(SimpleNamespace(address="here", lines=lines, log_event=lambda _, line: lines.append(line)))
    yield plugin
    plugin.teardown(plugin.worker)


def test_a_worker_runs_all_stages_in_one_process_and_replaces_it_if_it_dies(plugin):
    lines = plugin.worker.lines
    entry = {"dvc.lock": {"train@dense": {"cmd": "x"}}}
    assert plugin.run("train@dense", ["dvc.lock"], [], []) == entry
    process = lines[1]
    assert lines == ["train@dense: started", process, "no newline"]
    for name in ("fail", "die"):
        with pytest.raises(RuntimeError, match="see above"):
            plugin.run(name, ["dvc.lock"], [], [])
    assert lines[3:] == ["fail: started", process, "no newline", "die: started"]
    assert plugin.run("train@dense", ["dvc.lock"], [], []) == entry
    assert lines[-2] != process


def test_a_worker_that_stops_ends_its_process_and_starts_no_other(plugin):
    plugin.run("train@dense", ["dvc.lock"], [], [])
    plugin.teardown(plugin.worker)
    (process,) = plugin.processes.values()
    assert process.returncode == 0
    with pytest.raises(RuntimeError, match="the worker stops"):
        plugin.run("train@dense", ["dvc.lock"], [], [])


def test_a_download_that_fails_here_is_not_tried_by_other_machines(monkeypatch, capsys):
    class Stage(SimpleNamespace):
        __hash__ = object.__hash__

    names = ("download@jena", "parse@jena")
    lost, parse = (Stage(name=name, addressing=name, path_in_repo="dvc.yaml") for name in names)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(returncode=0, stdout=b""))
    monkeypatch.setattr(repro, "Repo", contextlib.nullcontext)
    monkeypatch.setattr(repro, "find_cluster_obstacle", lambda _: None)
    monkeypatch.setattr(repro, "plan_stages", lambda *_: {lost: [], parse: [lost]})
    monkeypatch.setattr(repro, "dvc", lambda _: 0)
    monkeypatch.setattr(repro, "run_dvc", lambda *_: 1)
    monkeypatch.setattr(repro, "connect_client", lambda *_: pytest.fail("nothing is left to run"))
    assert repro.repro("", 1, "tcp://127.0.0.1:9") == 1
    assert capsys.readouterr().err == (
        "error: download@jena failed: see above\nerror: parse@jena: not run, because a stage it depends on failed\n"
    )


def test_params_are_read_again_only_after_an_edit(tmp_path):
    calls, path = [], tmp_path / "params.yaml"

    def load_path(name: str, file_system: str) -> str:
        calls.append((name, file_system))
        return Path(name).read_text()

    load = stage.read_when_changed(load_path)
    path.write_text("x: 1")
    assert [load(str(path), "files") for _ in range(3)] == ["x: 1"] * 3
    path.write_text("x: 20")
    assert [load(str(path), "files") for _ in range(3)] == ["x: 20"] * 3
    assert calls == [(str(path), "files")] * 2


def test_what_machines_have_made_joins_what_is_there(tmp_path):
    stages = {"parse@jena": {"cmd": "old"}, "clean@jena": {"cmd": "kept"}}
    dump_yaml(tmp_path / "dvc.lock", {"schema": "2.0", "stages": stages})
    first = {"dvc.lock": {"parse@jena": {"cmd": "new"}}, "metrics/forecast/gru.json": "{}\n"}
    repro.merge_results(tmp_path, first, {"dvc.lock": {"normalize": {"cmd": "more"}}})
    assert repro.read_lock_entries(tmp_path, "dvc.lock") == {
        "parse@jena": {"cmd": "new"},
        "clean@jena": {"cmd": "kept"},
        "normalize": {"cmd": "more"},
    }
    assert (tmp_path / "metrics/forecast/gru.json").read_text() == "{}\n"


@pytest.mark.parametrize(
    ("core", "changed", "why"),
    [
        ({}, "", "no DVC remote"),
        ({"remote": "store"}, " M params.yaml\n?? stages/new.py\n", "params.yaml, stages/new.py: not committed"),
        ({"remote": "store"}, "", None),
    ],
)
def test_other_machines_need_a_remote_and_a_commit(monkeypatch, core, changed, why):
    monkeypatch.setattr(subprocess, "check_output", lambda *_, **__: changed)
    result = repro.find_cluster_obstacle(SimpleNamespace(config=SimpleNamespace(read=lambda _: {"core": core})))
    assert result is None if why is None else result.startswith(why)


def test_long_trainings_go_first_and_what_they_wait_for_before_them():
    models = {
        "short": {"task": "forecast", "epochs": 30},
        "long": {"task": "station", "epochs": 10},
        "ridge": {"task": "station", "epochs": 0},
    }
    tasks = {"forecast": {}, "station": {"max_epochs": None, "members": 2}}
    epochs = count_epochs({"models": models, "tasks": tasks, "training": {"max_epochs": 15}})
    assert epochs == {"short": 15, "long": 20, "ridge": 0}
    commands = ["./run train short", "./run backtest ridge 2012-01-01", "./run train long", "./run parse jena"]
    result = sorted(commands, key=lambda command: get_priority(SimpleNamespace(cmd=command), epochs), reverse=True)
    assert result == [
        "./run parse jena",
        "./run train long",
        "./run train short",
        "./run backtest ridge 2012-01-01",
    ]
