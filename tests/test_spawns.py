"""Every process is started as `core.system.child` says, but for the programs named here."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {
    str(path.relative_to(ROOT)): path.read_text()
    for package in ("app", "core", "models", "worker")
    for path in (ROOT / package).rglob("*.py")
}
# By file and function: programs that are no Python, and processes that go on as what they are.
OTHERS = {
    ("app/cli/doctor.py", "_gpus"): "nvidia-smi",
    ("app/cli/doctor.py", "check_broker"): "valkey-server --version",
    ("core/system/tether.py", "main"): "becomes the command that it was given",
    ("core/system/tether.py", "_run_while_open"): "runs the command that it was given",
    ("core/system/optional_packages.py", "require_torch"): "names this Python in a message",
    ("core/system/command_names.py", "install"): "names this Python in a hint",
    ("core/system/command_names.py", "program"): "names this Python in a hint",
    ("worker/process/guard.py", "main"): "forks the work",
    ("worker/process/forkserver.py", "serve"): "forks a guard",
}
# These may see what their starter sees; every other process reads what strangers sent.
TRUSTED = {
    "app/cli/doctor.py": "looks for packages",
    "app/demo/main_job.py": "the service itself",
    "app/supervisor/up.py": "the processes of the service",
    "models/training/distributed.py": "ranks, which a trainer without secrets starts",
}
SUBPROCESS = {"Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}
OS = {"fork", "forkpty", "popen", "system", "startfile", "posix_spawn", "posix_spawnp"}
ASYNCIO = {"create_subprocess_exec", "create_subprocess_shell", "subprocess_exec"}
POOLS = {"ProcessPoolExecutor", "DataLoader", "Process", "get_context", "set_start_method"}


def starts(call: ast.Call) -> bool:
    """Tell whether a call starts a process, or would replace this one."""
    name = ast.unparse(call.func).split(".")
    last, module = name[-1], name[-2] if len(name) > 1 else ""
    return (
        (module == "subprocess" and last in SUBPROCESS)
        or last == "Popen"
        or (module == "os" and (last in OS or last.startswith(("exec", "spawn"))))
        or last in ASYNCIO
        or (module in {"pty", "multiprocessing", "mp"})
        or (last in POOLS and module in {"futures", "multiprocessing", "data", "mp"})
    )


def is_childs(call: ast.Call) -> bool:
    """Tell whether command and environment are those of one `core.system.child.Child`."""
    command = next((ast.unparse(one).lstrip("*") for one in call.args), "")
    env = next((ast.unparse(one.value) for one in call.keywords if one.arg == "env"), "")
    child = command.removesuffix(".command")
    return command == f"{child}.command" and env == f"{child}.env" and child.isidentifier()


def unsafe(source: str) -> Iterator[tuple[str, str]]:
    """Yield function and code of what starts a process otherwise than `core.system.child` says."""
    tree = ast.parse(source)
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]

    def function(line: int) -> str:
        around = [n for n in functions if n.lineno <= line <= (n.end_lineno or 0)]
        return max(around, key=lambda n: n.lineno).name if around else ""

    for node in ast.walk(tree):
        foreign = (isinstance(node, ast.Call) and starts(node) and not is_childs(node)) or (
            isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable"
        )
        if isinstance(node, ast.ImportFrom) and node.module in {"subprocess", "os", "pty"}:
            foreign = bool({alias.name for alias in node.names} & (SUBPROCESS | OS | {"spawn"}))
        if isinstance(node, ast.Import | ast.ImportFrom):
            foreign |= "multiprocessing" in ast.unparse(node)
        if foreign and isinstance(node, ast.expr | ast.stmt):
            yield function(node.lineno), ast.unparse(node)


@pytest.mark.parametrize("path", sorted(SOURCES.keys() - {"core/system/child.py"}))
def test_python_is_started_as_core_child_says(path: str) -> None:
    assert [(f, code) for f, code in unsafe(SOURCES[path]) if (path, f) not in OTHERS] == []


def test_each_exception_is_needed() -> None:
    found = {(path, function) for path, source in SOURCES.items() for function, _ in unsafe(source)}
    assert found - {("core/system/child.py", "python")} == OTHERS.keys()


@pytest.mark.parametrize(
    "line",
    [
        "subprocess.run([sys.executable, '-m', 'core.store.migrate'])",
        "subprocess.Popen(['python3', '-m', 'core.store.migrate'])",
        "subprocess.Popen(child.command)",
        "subprocess.Popen(child.command, env=other.env)",
        "subprocess.Popen(child.command, env=os.environ)",
        "await asyncio.create_subprocess_exec(*words, env=child.env)",
        "os.execv(program, words)",
        "os.posix_spawn(program, words, {})",
        "multiprocessing.Process(target=work).start()",
        "import torch.multiprocessing as mp",
        "from multiprocessing import Pool",
        "from subprocess import run",
        "concurrent.futures.ProcessPoolExecutor()",
        "torch.utils.data.DataLoader(images, num_workers=2)",
        "words = [sys.executable]",
    ],
)
def test_any_other_way_is_found(line: str) -> None:
    assert list(unsafe(f"async def work():\n    {line}\n"))


def test_only_the_service_itself_sees_secrets() -> None:
    calls = {
        path
        for path, source in SOURCES.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "python"
    }
    assert calls - {"core/system/child.py"} == TRUSTED.keys()
