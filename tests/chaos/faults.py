"""The faults that a storm injects, by name. Each says how often it really happened."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import psutil

from tests.chaos.stages import HOLD, OUT_OF_MEMORY
from tests.chaos.world import node_processes, wait_until
from tests.integration import faulty_proxy

if TYPE_CHECKING:
    from tests.chaos.storm import Storm

# By name of the fault; several where one injection breaks several replies.
Landed = Counter[str]
_SETTLE_SECONDS = 120.0
_S3_WEATHER_SECONDS = 4.0
_IN_USE = 4


def driver_killed(storm: Storm, chance: random.Random) -> bool:
    return _kill(storm.driver.pid)


def decode_worker_killed(storm: Storm, chance: random.Random) -> bool:
    return _kill_a_worker(storm, "decode")


def model_replica_killed(storm: Storm, chance: random.Random) -> bool:
    return _kill_a_worker(storm, "answer")


def model_out_of_memory(storm: Storm, chance: random.Random) -> bool:
    trap = storm.folder / OUT_OF_MEMORY
    trap.touch()
    fell = wait_until(lambda: not trap.exists() or storm.driver.poll() is not None, 20)
    landed = fell and not trap.exists()
    trap.unlink(missing_ok=True)
    return landed


def decode_child_killed(storm: Storm, chance: random.Random) -> bool:
    """The child of the worker that met a video last."""
    for note in reversed(storm.journal()):
        with suppress(psutil.NoSuchProcess):
            if note.stage == "decode":
                for child in psutil.Process(note.pid).children():
                    if "sfray.video.sandbox.child" in " ".join(child.cmdline()):
                        return _kill(child.pid)
    return False


def node_killed(storm: Storm, chance: random.Random) -> bool:
    with _held(storm):
        storm.world.kill(_node_at_work(storm, chance))
        storm.world.heal()
    return True


def node_frozen(storm: Storm, chance: random.Random) -> bool:
    """All of a node stands still until the cluster has given it up, then goes on."""
    world, node = storm.world, _node_at_work(storm, chance)
    frozen = node_processes(node)
    for process in frozen:
        with suppress(psutil.NoSuchProcess):
            process.suspend()
    with _held(storm):
        given_up = wait_until(lambda: not world.is_alive(node), _SETTLE_SECONDS)
        world.nodes.remove(node)
        world.heal()
    for process in frozen:
        with suppress(psutil.NoSuchProcess):
            process.resume()
    time.sleep(2)  # for what it still wants to say
    world.nodes.append(node)
    world.kill(node)
    return given_up


def node_partitioned(storm: Storm, chance: random.Random) -> bool:
    """A node's network is cut until the cluster has given it up, then mended."""
    world = storm.world
    if world.far is None:
        return False
    (node,) = world.far_nodes
    with _held(storm):
        world.far.cut()
        try:
            given_up = wait_until(lambda: not world.is_alive(node), _SETTLE_SECONDS)
        finally:
            world.far.mend()
        time.sleep(2)  # for what it still wants to say
        world.kill(node)
        world.heal()
    return given_up


def second_driver(storm: Storm, chance: random.Random) -> bool:
    """One of two is told that the output is in use: the first too, if it has only just begun."""
    drivers = [storm.driver, storm.start_driver()]
    with _held(storm):
        wait_until(lambda: any(driver.poll() is not None for driver in drivers), _SETTLE_SECONDS)
    ended = next((driver for driver in drivers if driver.poll() is not None), drivers[1])
    drivers.remove(ended)
    (storm.driver,) = drivers
    if ended.poll() is None:
        ended.kill()
    code = ended.wait()
    storm.exit_codes.append(code)
    return code == _IN_USE


def writer_stopped(storm: Storm, chance: random.Random) -> bool:
    """Stopped past its lease, succeeded by another driver, and woken again: it has to end."""
    stopped = storm.driver
    num_runs = storm.num_runs_begun()
    stopped.suspend()
    with _held(storm):
        storm.driver = storm.start_driver()
        succeeded = wait_until(
            lambda: storm.num_runs_begun() > num_runs or storm.driver.poll() is not None, 90
        )
        stopped.resume()
        code = stopped.wait(timeout=180)
    storm.exit_codes.append(code)
    return succeeded and code == _IN_USE


def clock_back(storm: Storm, chance: random.Random) -> bool:
    """The driver's clock, by libfaketime. By so much Ray's own waits take longer."""
    storm.clock_offset_seconds -= chance.randint(5, 30)
    storm.write_clock()
    return storm.driver.poll() is None


def disk_full(storm: Storm, chance: random.Random) -> bool:
    assert storm.world.disk is not None
    filler = storm.world.disk / "filler"
    try:
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        ended = wait_until(lambda: storm.driver.poll() is not None, _SETTLE_SECONDS)
    finally:
        filler.unlink()
    return ended and storm.driver.returncode not in (0, 3)


def s3_weather(storm: Storm, chance: random.Random) -> Landed:
    """A few seconds in which every other reply is broken in one of all ways."""
    proxy = storm.world.proxy
    before = len(proxy.happened)
    proxy.choose = faulty_proxy.Storm(chance.randrange(2**32), rate=0.5)
    wait_until(lambda: storm.driver.poll() is not None, _S3_WEATHER_SECONDS)
    proxy.choose = lambda _method, _path: None
    return Counter(f"s3_{fault}" for fault, _, _ in proxy.happened[before:])


Fault = Callable[["Storm", random.Random], bool | Landed]
ANYWHERE: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        *(driver_killed, decode_worker_killed, model_replica_killed, model_out_of_memory),
        *(node_killed, node_frozen, node_partitioned, decode_child_killed),
        *(second_driver, clock_back),
    )
}
LOCAL: dict[str, Fault] = {"disk_full": disk_full}
S3: dict[str, Fault] = {"s3_weather": s3_weather, "writer_stopped": writer_stopped}
POISON = "poison"
FAULTS = ANYWHERE | LOCAL | S3
KINDS = (*FAULTS, POISON)


@contextmanager
def _held(storm: Storm) -> Iterator[None]:
    """What takes long to inject is not to outlast the job."""
    hold = storm.folder / HOLD
    hold.touch()
    try:
        yield
    finally:
        hold.unlink()


def _kill(pid: int) -> bool:
    try:
        psutil.Process(pid).send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return False
    return True


def _kill_a_worker(storm: Storm, stage: str) -> bool:
    """The one that met a video last and still lives."""
    return any(_kill(note.pid) for note in reversed(storm.journal()) if note.stage == stage)


def _node_at_work(storm: Storm, chance: random.Random) -> Any:
    nodes = {node.node_id: node for node in storm.world.nodes}
    at_work = [nodes[n.node_id] for n in storm.journal()[-10:] if n.node_id in nodes]
    return at_work[-1] if at_work else chance.choice(storm.world.nodes)
