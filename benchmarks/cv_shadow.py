"""Training shadow models side by side against one by one: seconds per model, as ratios of one run.

    python benchmarks/cv_shadow.py                    # small networks on a CPU; ResNet-18 at 224 pixels on a GPU
    python benchmarks/cv_shadow.py --models 8 --steps 100 --repeats 3

`one by one` trains the models in turn in this process, with one thread on a CPU; `all threads` is the same with as many
as there are cores; `vmap` stacks the models in one forward (torch.func), with all threads; `processes` gives each core
a single-threaded process, start-up left out of the time. All train the same batches; the weights of two models are
compared after a step (later, batch norm amplifies rounding).
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from cv.data.batches import Batch, plan_batches, stack_plans
from cv.methods import face_method
from cv.network.stack import NetworkSpec, Stack, new_network
from cv.settings import Optimisation
from cv.training.loop import Faces, train

PEOPLE = 40
OPTIMISATION = Optimisation(lr=0.01)


def work(setting: dict, models: list[int]) -> Stack:
    """Trains `models` in one stack for `steps` steps on noise; returns it."""
    device, spec = setting["device"], NetworkSpec(setting["architecture"], PEOPLE)
    generator = torch.Generator().manual_seed(0)
    count = setting["batch_size"] * setting["steps"]
    pixels = torch.randint(
        256, (min(count, 2048), 3, setting["size"], setting["size"]), dtype=torch.uint8, generator=generator
    )
    faces = Faces(pixels.to(device), (torch.arange(len(pixels)) % PEOPLE).to(device))
    stack = Stack(spec, [new_network(spec, model).state_dict() for model in models], device)
    batches = stack_plans([plan(setting, len(pixels), model) for model in models], device)
    setting["started"] = time.perf_counter()
    train(stack, face_method("finetune"), faces, batches, OPTIMISATION)
    if device != "cpu":
        torch.cuda.synchronize()
    return stack


def plan(setting: dict, photos: int, model: int) -> list[Batch]:
    rows, labels = torch.arange(photos), torch.arange(photos) % PEOPLE
    epochs = -(-setting["steps"] * setting["batch_size"] // photos)
    method = face_method("finetune")
    steps = plan_batches(
        method, {"retain": rows}, labels, epochs=epochs, batch_size=setting["batch_size"], seed=0, model=model
    )
    return steps[: setting["steps"]]


def seconds(setting: dict, models: list[int]) -> tuple[float, Stack]:
    """Training time alone, without building data and networks."""
    stack = work(setting, models)
    return time.perf_counter() - setting["started"], stack


def in_process(setting: dict, model: int) -> float:
    """One model's training time in a process of one thread."""
    torch.set_num_threads(1)
    return seconds(dict(setting), [model])[0]


def warm(setting: dict) -> None:
    """What every process does before the clock starts: imports, a first step, and a wait until all have one."""
    in_process(setting | {"steps": 1}, 0)
    time.sleep(1)


def by_processes(setting: dict, models: int, cores: int) -> float:
    """Wall time over `cores` single-threaded processes."""
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        list(pool.map(warm, [setting] * cores))
        start = time.perf_counter()
        list(pool.map(in_process, [setting] * models, range(models)))
        return time.perf_counter() - start


def one_by_one(setting: dict, models: int) -> tuple[float, list[Stack]]:
    done = [seconds(setting, [model]) for model in range(models)]
    return sum(took for took, _ in done), [stack for _, stack in done]


def measure(repeats: int, run: Callable[[], float]) -> float:
    return statistics.median(run() for _ in range(repeats))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    gpu = torch.cuda.is_available()
    parser.add_argument("--models", type=int, default=32 if gpu else 4)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--size", type=int, default=224 if gpu else 32)
    parser.add_argument("--architecture", default="resnet-18" if gpu else "resnet-mini")
    parser.add_argument("--models-per-batch", type=int, default=None, help="models in one vmap; default: all")
    options = parser.parse_args()
    setting = {"device": "cuda" if gpu else "cpu", "steps": options.steps, "batch_size": options.batch_size}
    setting |= {"size": options.size, "architecture": options.architecture}
    size, cores = options.models_per_batch or options.models, len(os.sched_getaffinity(0))
    groups = [list(range(i, min(i + size, options.models))) for i in range(0, options.models, size)]
    _, alone = one_by_one(setting | {"steps": 1}, 2)  # also warms up
    _, together = seconds(setting | {"steps": 1}, [0, 1])
    apart = max(
        (together.network(m)[name] - alone[m].network(0)[name]).abs().max().item()
        for m in (0, 1)
        for name in together.parameters
    )
    times = {}
    if not gpu:
        torch.set_num_threads(1)
    times["one by one"] = measure(options.repeats, lambda: one_by_one(setting, options.models)[0])
    if not gpu:
        torch.set_num_threads(cores)
        times["all threads"] = measure(options.repeats, lambda: one_by_one(setting, options.models)[0])
    times[f"vmap of {size}"] = measure(options.repeats, lambda: sum(seconds(setting, group)[0] for group in groups))
    if not gpu:
        times["processes"] = measure(options.repeats, lambda: by_processes(setting, options.models, cores))
    device = torch.cuda.get_device_name() if gpu else f"{cores} CPU cores"
    print(
        f"{options.models} x {options.architecture}, {options.size} px, {options.steps} steps of "
        f"{options.batch_size}, {device}"
    )
    for name, took in times.items():
        print(f"{name:12} {took / options.models:7.2f} s a model   {times['one by one'] / took:5.2f} x")
    print(f"largest difference of a weight after a step, vmap against one by one: {apart:.1e}")


if __name__ == "__main__":
    main()
