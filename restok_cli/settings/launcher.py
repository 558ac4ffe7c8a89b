"""Requests of `accelerate launch` to a command, by its own options or a config file: each is done, or refused.

It tells the processes that it starts by the environment (ACCELERATE_…, FSDP_…), where what nobody asked for looks like
its defaults: those ask for nothing.
"""

import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from restok_cli.console import note
from restok_cli.errors import UsageError
from restok_cli.processes import world_size

LAUNCHER = "accelerate launch"
YES = ("true", "1", "yes", "y", "on", "t")
NO_FSDP = "take distributed_type: MULTI_GPU"


class Rule(NamedTuple):
    """Of a variable: its key in a config file, what restok does in any case, and the way out of all else."""

    key: str
    done: tuple[str, ...]
    remedy: str


NO = ("", "no", "false", "0")
RULES = {
    "ACCELERATE_MIXED_PRECISION": Rule("mixed_precision", ("", "no", "bf16", "fp16"), "take bf16, fp16 or no"),
    "ACCELERATE_USE_DEEPSPEED": Rule("distributed_type: DEEPSPEED", NO, "take MULTI_GPU, or FSDP for train-har"),
    "ACCELERATE_USE_MEGATRON_LM": Rule("distributed_type: MEGATRON_LM", NO, "take MULTI_GPU, or FSDP for train-har"),
    "ACCELERATE_USE_SAGEMAKER": Rule("compute_environment: AMAZON_SAGEMAKER", NO, "take LOCAL_MACHINE"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": Rule("parallelism_config", NO, "leave it out"),
    "ACCELERATE_DOWNCAST_BF16": Rule("downcast_bf16", NO, "it is for TPUs; leave it out"),
    "ACCELERATE_USE_IPEX": Rule("ipex", NO, "take false"),
    "ACCELERATE_TORCH_DEVICE": Rule("ACCELERATE_TORCH_DEVICE", ("",), "give --device"),
    "ACCELERATE_DYNAMO_BACKEND": Rule("dynamo_backend", ("", "no", "inductor"), "take INDUCTOR or NO"),
}
DYNAMO_RULES = {  # blocks are compiled one by one, with or without `regional_compilation`
    "ACCELERATE_DYNAMO_MODE": Rule("dynamo_mode", ("", "default"), "take default"),
    "ACCELERATE_DYNAMO_USE_FULLGRAPH": Rule("dynamo_use_fullgraph", NO, "take false"),
    "ACCELERATE_DYNAMO_USE_DYNAMIC": Rule("dynamo_use_dynamic", NO, "take false"),
}
FSDP_RULES = {  # cpu_ram_efficient_loading is for models of Transformers, by Accelerate's own words
    "FSDP_VERSION": Rule("fsdp_version", ("2",), "take 2"),
    "FSDP_SHARDING_STRATEGY": Rule("fsdp_sharding_strategy", ("", "full_shard", "1"), "take FULL_SHARD"),
    "FSDP_RESHARD_AFTER_FORWARD": Rule("fsdp_reshard_after_forward", ("", *YES), "take true"),
    "FSDP_OFFLOAD_PARAMS": Rule("fsdp_offload_params", NO, "take false"),
    "FSDP_AUTO_WRAP_POLICY": Rule(
        "fsdp_auto_wrap_policy", ("", "transformer_based_wrap"), "take TRANSFORMER_BASED_WRAP"
    ),
    "FSDP_TRANSFORMER_CLS_TO_WRAP": Rule("fsdp_transformer_layer_cls_to_wrap", ("", "harblock"), "take HarBlock"),
    "FSDP_STATE_DICT_TYPE": Rule("fsdp_state_dict_type", ("", "full_state_dict"), "take FULL_STATE_DICT"),
    "FSDP_BACKWARD_PREFETCH": Rule("fsdp_backward_prefetch", ("", "backward_pre"), "it is of FSDP 1; leave it out"),
    "FSDP_FORWARD_PREFETCH": Rule("fsdp_forward_prefetch", NO, "it is of FSDP 1; leave it out"),
    "FSDP_USE_ORIG_PARAMS": Rule("fsdp_use_orig_params", ("", *YES), "it is of FSDP 1; leave it out"),
    "FSDP_SYNC_MODULE_STATES": Rule("fsdp_sync_module_states", ("", *YES), "it is of FSDP 1; leave it out"),
    "FSDP_IGNORED_MODULES": Rule("fsdp_ignored_modules", ("",), "leave it out"),
    "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": Rule("fsdp_activation_checkpointing_offload", NO, "take false"),
}


class Asked(NamedTuple):
    """Requests of `accelerate launch`, as far as restok has a choice."""

    precision: Literal["bf16", "fp16"] | None
    compiled: bool
    sharded: bool
    recomputed: bool  # results in a sharded model, in the backward pass
    on_cpu: bool
    accumulated: int | None  # micro-batches of each process in a step


def asked() -> Asked:
    """The requests to this process. Raises UsageError for what restok does not do."""
    wrong = _broken(RULES)
    compiled = _said("ACCELERATE_DYNAMO_BACKEND") == "inductor"
    sharded = _said("ACCELERATE_USE_FSDP") in YES
    wrong += _broken(DYNAMO_RULES) if compiled else []
    wrong += _broken(FSDP_RULES) if sharded else []
    steps = _said("ACCELERATE_GRADIENT_ACCUMULATION_STEPS")
    if steps and not (steps.isdecimal() and int(steps)):
        wrong.append(f"gradient_accumulation_steps: {steps} (take a number from 1 on)")
    if wrong:
        raise UsageError(f"{LAUNCHER} asks for what restok does not do: {'; '.join(wrong)}")
    precision = _said("ACCELERATE_MIXED_PRECISION")
    return Asked(
        precision=precision if precision in ("bf16", "fp16") else None,
        compiled=compiled,
        sharded=sharded,
        recomputed=sharded and _said("FSDP_ACTIVATION_CHECKPOINTING") in YES,
        on_cpu=_said("ACCELERATE_USE_CPU") in YES,
        accumulated=int(steps) if steps else None,
    )


def _said(variable: str) -> str:
    return os.environ.get(variable, "").strip().lower()


def _broken(rules: Mapping[str, Rule]) -> list[str]:
    return [
        f"{rule.key}: {os.environ.get(variable, '').strip() or 'not set'} ({rule.remedy})"
        for variable, rule in rules.items()
        if _said(variable) not in rule.done
    ]


def settings_asked(kind: str, batch_size: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The requests as dotted keys of a run's config, and where each is stated.

    `batch_size` is the one that the other settings give. Raises UsageError for what restok, or this trainer, does not
    do.
    """
    wanted = asked()
    if wanted.sharded and kind != "har":
        raise UsageError(f"{LAUNCHER} asks for distributed_type: FSDP, which train-har alone does; {NO_FSDP}")
    found: dict[str, tuple[str, Any]] = {}
    if wanted.precision:
        found["compute.precision"] = f"mixed_precision: {wanted.precision}", wanted.precision
    if wanted.compiled:
        found["compute.compile"] = "dynamo_backend: INDUCTOR", True
    if wanted.sharded:
        found["compute.sharding"] = "distributed_type: FSDP", "fsdp"
    if wanted.recomputed:
        found["compute.memory"] = "fsdp_activation_checkpointing: true", "small"
    if wanted.accumulated and isinstance(batch_size, int):
        key, parts = f"gradient_accumulation_steps: {wanted.accumulated}", wanted.accumulated * world_size()
        if batch_size % parts:
            raise UsageError(
                f"{LAUNCHER} ({key}): a batch of {batch_size} cannot be cut into {parts} micro-batches; make the batch"
                f" size a multiple of {parts}"
            )
        found["schedule.micro_batch_size"] = key, batch_size // parts
    places = {key: f"{LAUNCHER} ({place})" for key, (place, _) in found.items()}
    return {key: value for key, (_, value) in found.items()}, places


def say_precision(setting: str, precision: str, remedy: str) -> None:
    """Say that 16 bits are computed in where the launcher said `no`, which it also says unasked."""
    if _said("ACCELERATE_MIXED_PRECISION") == "no" and precision != "float32":
        note(
            f"{LAUNCHER}: mixed_precision: no is its default and asks for nothing: {setting} = {precision}; for "
            f"float32, {remedy}"
        )


def apply_to_options(command: str, options: dict[str, Any], explicit: set[str]) -> None:
    """Put what is asked for into the options of a command that computes, those in `explicit` being given by the user.

    A training command takes but the device: its config has the rest (`settings_asked`). Says where one process has to
    do what several were asked for. Raises UsageError for what the command does not do, and for contradictions.
    """
    wanted, trains = asked(), "assignments" in options
    if wanted.on_cpu:
        _put(options, explicit, "device", "cpu", "use_cpu: true")
    if not trains:
        for is_asked, key, remedy in (
            (wanted.sharded, "distributed_type: FSDP", NO_FSDP),
            (wanted.accumulated not in (None, 1), "gradient_accumulation_steps", "leave it out"),
            (wanted.precision and "dtype" not in options, f"mixed_precision: {wanted.precision}", "take no"),
            (wanted.precision == "fp16", "mixed_precision: fp16", "take bf16 or no"),
            (wanted.compiled and "compile_" not in options, "dynamo_backend: INDUCTOR", "take NO"),
        ):
            if is_asked:
                raise UsageError(f"{LAUNCHER} asks for {key}, which {command} does not do; {remedy}")
        if wanted.precision:
            _put(options, explicit, "dtype", wanted.precision, f"mixed_precision: {wanted.precision}")
        if wanted.compiled:
            _put(options, explicit, "compile_", "on", "dynamo_backend: INDUCTOR")
    several = "num_processes" in options and options["num_processes"] == 1 and world_size() == 1
    if several and os.environ.get("ACCELERATE_USE_CPU") and os.environ.get("MASTER_PORT"):
        note(
            f"{LAUNCHER} has started one process, though it was asked for several (MASTER_PORT is set): with use_cpu: "
            "true, or any distributed_type but MULTI_GPU and FSDP, it starts no more; on CPUs too, take "
            "distributed_type: MULTI_GPU and use_cpu: false, or --num-processes"
        )


def _put(options: dict[str, Any], explicit: set[str], name: str, value: str, key: str) -> None:
    if name in explicit and options[name] not in (value, "auto"):
        option = f"--{name.rstrip('_')} {options[name]}"
        raise UsageError(f"{option}, but {LAUNCHER} asks for {key}; give what fits, or leave it out")
    options[name] = value
