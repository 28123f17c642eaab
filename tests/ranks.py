"""Several processes of one run of `torch.distributed`, for a test."""

import os
import sys
from typing import NoReturn

import torch
from torch import distributed, multiprocessing

WORLD = 2


def run_ranks(process, folder, *arguments):
    """What `process(rank, *arguments)` gives in each of `WORLD` processes, by rank.

    Args:
        process: A function of a module. It gives what `torch.load` reads with `weights_only`.
        folder: An empty one, for what the processes say to each other and to the test.
    """
    multiprocessing.spawn(_rank, args=(process, str(folder), arguments), nprocs=WORLD)
    return [torch.load(f"{folder}/{rank}.pt", weights_only=True) for rank in range(WORLD)]


def _rank(rank, process, folder, arguments):
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", WORLD)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=WORLD)
    torch.save(process(rank, *arguments), f"{folder}/{rank}.pt")
    distributed.destroy_process_group()
    leave(rank, folder)


def leave(rank, folder) -> NoReturn:
    """End a process when all have done their work, without taking the interpreter down.

    The first step of any optimizer imports a part of PyTorch that holds on to the process group.
    Its threads then outlive `destroy_process_group`. One that lets go of a tensor while Python
    shuts down aborts the process: rarely, and on a busy machine. And who leaves first may cut off
    the last exchange of the other.
    """
    store = distributed.FileStore(f"{folder}/done", WORLD)
    store.set(str(rank), "")
    store.wait([str(each) for each in range(WORLD)])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
