"""The one Accelerator of a process that shares its work: it owns their group, and copies and shards of a model."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from accelerate import Accelerator, DistributedType
from accelerate.utils import DistributedDataParallelKwargs, FullyShardedDataParallelPlugin, InitProcessGroupKwargs
from torch.distributed.fsdp import MixedPrecisionPolicy

OWN = ("ACCELERATE_DEBUG_MODE", "ACCELERATE_CPU_AFFINITY")  # variables that Accelerate itself may act on


class Sharding(NamedTuple):
    """How the weights of a model that trains are cut into shards."""

    block: str  # the class of the modules whose weights are gathered one at a time, when they run
    in_16_bits: bool  # they are gathered in bf16 then, and gradients are still summed in float32


def make_accelerator(device: torch.device, sharding: Sharding | None) -> Accelerator:
    """Join the other processes, whose numbers the environment has. To be called once."""
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.set_device(device)
    with _settled(device):
        plugin = _fsdp_plugin(sharding) if sharding else None
        made = Accelerator(
            cpu=not on_gpu,
            mixed_precision="no",  # autocast is restok's: docs/reproducing.md
            dynamo_backend="no",
            fsdp_plugin=plugin,
            kwargs_handlers=[
                # gloo beside nccl: what is said between processes about the host shall not wait for the GPU
                InitProcessGroupKwargs(backend="cpu:gloo,cuda:nccl" if on_gpu else "gloo"),
                # buffers are constants, or follow from the weights, and are not sent around
                DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True),
            ],
        )
    if plugin is not None and not on_gpu:  # it shards on GPUs only, though nothing that it does then needs one
        made.state.fsdp_plugin, made.state.distributed_type = plugin, DistributedType.FSDP
    return made


@contextmanager
def _settled(device: torch.device) -> Iterator[None]:
    """Inside the block, the environment says what is settled, and after it what it said before.

    What `accelerate launch` asks for has gone into the settings, and shall not act a second time.
    """
    before = dict(os.environ)
    for name in before:
        if name.startswith(("ACCELERATE_", "FSDP_")) and name not in OWN:
            del os.environ[name]
    os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
    if device.type == "cuda":  # the number by which a copy finds its GPU; a task of SLURM may see but one
        os.environ["LOCAL_RANK"] = str(device.index)
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # else Accelerate chooses, and warns
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _fsdp_plugin(sharding: Sharding) -> FullyShardedDataParallelPlugin:
    in_bf16 = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    return FullyShardedDataParallelPlugin(
        fsdp_version=2,
        reshard_after_forward=True,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=[sharding.block],
        cpu_ram_efficient_loading=False,
        state_dict_type="FULL_STATE_DICT",
        mixed_precision_policy=in_bf16 if sharding.in_16_bits else None,
    )
