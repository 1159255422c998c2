"""Drives hachi run from wasi-testsuite's own runner:

    ./run-tests --runtime-adapter .../conformance/wasi/adapter.py

HACHI is the command to run; it is "hachi" unless the environment says otherwise.
"""

import os
import shlex
import subprocess

HACHI = shlex.split(os.environ.get("HACHI", "hachi"))


def get_name():
    return "hachi"


def get_version():
    said = subprocess.run(HACHI[:1] + ["version"], capture_output=True, text=True, check=True)
    return said.stdout.split()[1]


def get_wasi_versions():
    return ["wasm32-wasip1"]


def get_wasi_worlds():
    return ["wasi:cli/command"]


def compute_argv(test_path, args_env_dirs, proposals, wasi_world, wasi_version):
    # The suite gives a program one directory as its root, or several as (host, guest).
    args, env, dirs = args_env_dirs
    if not isinstance(dirs, list):
        dirs = [(dirs, "/")] if dirs else []
    argv = HACHI + ["run"]
    for name, value in env.items():
        argv += ["-e", f"{name}={value}"]
    for host, guest in dirs:
        argv += ["-v", f"{host}:{guest}"]
    return argv + [str(test_path)] + args
