"""How tests start restok: in a process of its own, or in two on a CPU by `accelerate launch` and its config file."""

import sys
from pathlib import Path
from typing import Any

import yaml

RESTOK = (sys.executable, "-m", "restok_cli")
TWO = {  # as `accelerate config` writes it
    "compute_environment": "LOCAL_MACHINE",
    "distributed_type": "MULTI_GPU",
    "downcast_bf16": "no",
    "enable_cpu_affinity": False,
    "machine_rank": 0,
    "main_process_port": 0,
    "main_training_function": "main",
    "mixed_precision": "no",
    "num_machines": 1,
    "num_processes": 2,
    "rdzv_backend": "static",
    "same_network": True,
    "use_cpu": False,
}
SHARDED = {
    "distributed_type": "FSDP",
    "fsdp_config": {
        "fsdp_activation_checkpointing": False,
        "fsdp_auto_wrap_policy": "TRANSFORMER_BASED_WRAP",
        "fsdp_cpu_ram_efficient_loading": True,
        "fsdp_offload_params": False,
        "fsdp_reshard_after_forward": True,
        "fsdp_state_dict_type": "FULL_STATE_DICT",
        "fsdp_version": 2,
    },
}


def accelerate(folder: Path, **changes: Any) -> tuple[str, ...]:
    """What stands between `python` and `-m restok_cli`, or a script; the config file is written into `folder`."""
    file = folder / "accelerate.yaml"
    file.write_text(yaml.safe_dump(TWO | changes), encoding="utf-8")
    return "-m", "accelerate.commands.launch", "--config_file", str(file)
