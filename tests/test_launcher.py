"""Requests of `accelerate launch`: done between preset and config file, or refused by name."""

import os
from unittest.mock import patch

import pytest
from accelerate.commands.config.config_args import ClusterConfig
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from launchers import SHARDED, accelerate

from restok_cli.errors import UsageError
from restok_cli.inference import coding
from restok_cli.settings.launcher import apply_to_options, asked, say_precision
from restok_cli.settings.precedence import layers_of, resolve
from restok_cli.settings.run_config import read_told

# What `accelerate launch` sets for two processes where nothing is asked for, and where FSDP2 is.
PLAIN = {
    "ACCELERATE_MIXED_PRECISION": "no",
    "ACCELERATE_DYNAMO_BACKEND": "NO",
    "ACCELERATE_DYNAMO_MODE": "default",
    "ACCELERATE_DYNAMO_USE_FULLGRAPH": "False",
    "ACCELERATE_DYNAMO_USE_DYNAMIC": "False",
    "ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION": "False",
}
FSDP = PLAIN | {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_SHARDING_STRATEGY": "FULL_SHARD",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_OFFLOAD_PARAMS": "false",
    "FSDP_MIN_NUM_PARAMS": "100000000",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_FORWARD_PREFETCH": "false",
    "FSDP_USE_ORIG_PARAMS": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "true",
    "FSDP_SYNC_MODULE_STATES": "true",
    "FSDP_ACTIVATION_CHECKPOINTING": "false",
    "FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD": "false",
}


@pytest.fixture
def launched(monkeypatch):
    """Set the environment of a process that `accelerate launch` started."""

    def set_environment(environment: dict[str, str]) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return set_environment


@pytest.mark.parametrize(
    ("kind", "environment", "key", "value", "place"),
    [
        ("tokenizer", {"ACCELERATE_MIXED_PRECISION": "fp16"}, "precision", "fp16", "mixed_precision: fp16"),
        ("har", {"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, "compile", True, "dynamo_backend: INDUCTOR"),
        ("har", FSDP, "sharding", "fsdp", "distributed_type: FSDP"),
        ("har", FSDP | {"FSDP_TRANSFORMER_CLS_TO_WRAP": "HarBlock"}, "sharding", "fsdp", "distributed_type: FSDP"),
        (
            "har",
            FSDP | {"FSDP_ACTIVATION_CHECKPOINTING": "true"},
            "memory",
            "small",
            "fsdp_activation_checkpointing: true",
        ),
    ],
)
def test_what_is_asked_for_goes_over_the_preset(launched, kind, environment, key, value, place):
    launched(PLAIN | environment)
    config, origins = resolve(kind, layers_of(kind, "sample", None))
    assert getattr(config.compute, key) == value
    assert origins[f"compute.{key}"] == f"accelerate launch ({place})"


def test_defaults_of_accelerate_ask_for_nothing(monkeypatch, launched):
    before = resolve("har", layers_of("har", "sample", None)).config
    launched(PLAIN)
    assert resolve("har", layers_of("har", "sample", None)).config == before


def test_no_precision_is_said_where_there_is_one(capsys, launched, monkeypatch):
    launched(PLAIN)
    setting, remedy = "compute.precision", "--set compute.precision=float32"
    say_precision(setting, "float32", remedy)
    assert capsys.readouterr().err == ""
    say_precision(setting, "bf16", remedy)
    [line] = capsys.readouterr().err.splitlines()
    assert "mixed_precision: no is its default and asks for nothing: compute.precision = bf16" in line
    assert remedy in line
    monkeypatch.setattr(coding, "chosen_dtype", lambda *_: "bf16")  # as on a GPU
    for dtype, said in (("auto", 1), ("bf16", 0)):
        coding.Computation("cpu", dtype, 1).open()
        assert capsys.readouterr().err.count("asks for nothing: --dtype = bf16; for float32, --dtype float32") == said


def test_a_config_file_and_options_may_say_as_much_but_not_otherwise(tmp_path, launched):
    launched(PLAIN | {"ACCELERATE_MIXED_PRECISION": "bf16"})
    file = tmp_path / "run.yaml"
    file.write_text("preset: sample\ncompute: {precision: bf16}\n")
    assert resolve("har", layers_of("har", None, file)).config.compute.precision == "bf16"
    file.write_text("preset: sample\ncompute:\n  precision: fp16\n")
    with pytest.raises(UsageError, match=r"run.yaml:3: compute.precision = fp16, but accelerate launch \(mixed_prec"):
        resolve("har", layers_of("har", None, file))
    # what goes over the file is what counts
    assert resolve("har", layers_of("har", None, file, ["compute.precision=bf16"])).config.compute.precision == "bf16"
    with pytest.raises(UsageError, match=r"--set: compute.precision = float32, but accelerate launch .* for bf16"):
        resolve("har", layers_of("har", "sample", None, ["compute.precision=float32"]))


def test_gradient_accumulation_is_the_number_of_micro_batches(monkeypatch, launched, tmp_path):
    launched({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4", "WORLD_SIZE": "2"})
    assignments = ["schedule.batch_size=48"]
    config, origins = resolve("har", layers_of("har", "sample", None, assignments))
    assert config.schedule.micro_batch_size == 6
    assert origins["schedule.micro_batch_size"] == "accelerate launch (gradient_accumulation_steps: 4)"
    with pytest.raises(UsageError, match=r"micro_batch_size = 8, but accelerate launch .* asks for 6"):
        resolve("har", layers_of("har", "sample", None, [*assignments, "schedule.micro_batch_size=8"]))
    told = ("har", tmp_path / "run", False, "sample", None, None, None, 44, None)
    with pytest.raises(UsageError, match=r"a batch of 44 cannot be cut into 8 micro-batches; make .* a multiple of 8"):
        read_told(*told)


@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "fp8"}, "mixed_precision: fp8 (take bf16, fp16 or no)"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"}, "distributed_type: DEEPSPEED: true"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "distributed_type: MEGATRON_LM: true"),
        ({"ACCELERATE_USE_SAGEMAKER": "true"}, "compute_environment: AMAZON_SAGEMAKER: true"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"}, "parallelism_config: true"),
        ({"ACCELERATE_DOWNCAST_BF16": "true"}, "downcast_bf16: true"),
        ({"ACCELERATE_USE_IPEX": "true"}, "ipex: true (take false)"),
        ({"ACCELERATE_TORCH_DEVICE": "cuda:1"}, "ACCELERATE_TORCH_DEVICE: cuda:1 (give --device)"),
        ({"ACCELERATE_DYNAMO_BACKEND": "AOT_EAGER"}, "dynamo_backend: AOT_EAGER (take INDUCTOR or NO)"),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "0"}, "gradient_accumulation_steps: 0"),
        *(
            ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR", name: value}, refused)
            for name, value, refused in (
                ("ACCELERATE_DYNAMO_MODE", "max-autotune", "dynamo_mode: max-autotune (take default)"),
                ("ACCELERATE_DYNAMO_USE_FULLGRAPH", "True", "dynamo_use_fullgraph: True"),
                ("ACCELERATE_DYNAMO_USE_DYNAMIC", "True", "dynamo_use_dynamic: True"),
            )
        ),
        *(
            (FSDP | {name: value}, refused)
            for name, value, refused in (
                ("FSDP_VERSION", "1", "fsdp_version: 1 (take 2)"),
                ("FSDP_SHARDING_STRATEGY", "HYBRID_SHARD", "fsdp_sharding_strategy: HYBRID_SHARD"),
                ("FSDP_RESHARD_AFTER_FORWARD", "false", "fsdp_reshard_after_forward: false (take true)"),
                ("FSDP_OFFLOAD_PARAMS", "true", "fsdp_offload_params: true (take false)"),
                ("FSDP_AUTO_WRAP_POLICY", "SIZE_BASED_WRAP", "fsdp_auto_wrap_policy: SIZE_BASED_WRAP"),
                ("FSDP_TRANSFORMER_CLS_TO_WRAP", "BertLayer", "fsdp_transformer_layer_cls_to_wrap: BertLayer"),
                ("FSDP_STATE_DICT_TYPE", "SHARDED_STATE_DICT", "fsdp_state_dict_type: SHARDED_STATE_DICT"),
                ("FSDP_BACKWARD_PREFETCH", "BACKWARD_POST", "fsdp_backward_prefetch: BACKWARD_POST"),
                ("FSDP_FORWARD_PREFETCH", "true", "fsdp_forward_prefetch: true"),
                ("FSDP_USE_ORIG_PARAMS", "false", "fsdp_use_orig_params: false"),
                ("FSDP_SYNC_MODULE_STATES", "false", "fsdp_sync_module_states: false"),
                ("FSDP_IGNORED_MODULES", "head", "fsdp_ignored_modules: head"),
                ("FSDP_ACTIVATION_CHECKPOINTING_OFFLOAD", "true", "fsdp_activation_checkpointing_offload: true"),
            )
        ),
    ],
    ids=str,
)
def test_what_restok_does_not_do_is_refused_by_name(launched, environment, refused):
    launched(PLAIN | environment)
    with pytest.raises(UsageError) as error:
        asked()
    assert str(error.value).startswith("accelerate launch asks for what restok does not do: ")
    assert refused in str(error.value)


def test_all_that_is_wrong_is_named_at_once(launched):
    launched(FSDP | {"FSDP_VERSION": "1", "FSDP_OFFLOAD_PARAMS": "true"})
    with pytest.raises(UsageError, match=r"fsdp_version: 1 \(take 2\); fsdp_offload_params: true \(take false\)$"):
        asked()


def test_a_tokenizer_is_not_sharded(launched):
    launched(FSDP)
    with pytest.raises(UsageError, match=r"distributed_type: FSDP, which train-har alone does; take .*: MULTI_GPU"):
        layers_of("tokenizer", "sample", None)


def test_other_commands_take_precision_and_compilation_as_their_options(launched):
    launched(PLAIN | {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"})
    options = {"device": "auto", "dtype": "auto", "compile_": "off"}
    apply_to_options("restok generate", options, set())
    assert options == {"device": "auto", "dtype": "bf16", "compile_": "on"}
    for name, value, said in (
        ("dtype", "float32", "--dtype float32, but accelerate launch asks for mixed_precision: bf16"),
        ("compile_", "off", "--compile off, but accelerate launch asks for dynamo_backend: INDUCTOR"),
    ):
        with pytest.raises(UsageError, match=said):
            apply_to_options("restok generate", options | {name: value}, {name})
        stated = options | {name: "auto"}
        apply_to_options("restok generate", stated, {name})
        assert stated[name] == options[name], "which auto leaves to others"


@pytest.mark.parametrize(
    ("environment", "refused"),
    [
        (FSDP, "distributed_type: FSDP"),
        ({"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "2"}, "gradient_accumulation_steps"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, "mixed_precision: bf16"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, "mixed_precision: fp16"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, "dynamo_backend: INDUCTOR"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_evaluate_refuses_what_it_does_not_do(launched, fails, environment, refused):
    """Its own precision is float32, and it compiles nothing."""
    launched(PLAIN | environment)
    assert f"accelerate launch asks for {refused}, which restok evaluate does not do" in fails(2, "evaluate", "x.npz")


def test_use_cpu_is_a_device(launched):
    launched(PLAIN | {"ACCELERATE_USE_CPU": "True"})
    options = {"device": "auto", "assignments": None, "num_processes": 1}
    apply_to_options("restok train-har", options, set())
    assert options["device"] == "cpu"
    with pytest.raises(UsageError, match="--device cuda, but accelerate launch asks for use_cpu: true"):
        apply_to_options("restok train-har", options | {"device": "cuda"}, {"device"})


def test_one_process_where_several_were_asked_for_is_said(launched, capsys):
    launched(PLAIN | {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"})
    options = {"device": "auto", "assignments": None, "num_processes": 1}
    apply_to_options("restok train-har", options, set())
    [line] = capsys.readouterr().err.splitlines()
    assert "has started one process, though it was asked for several" in line and "use_cpu: false" in line
    apply_to_options("restok train-har", options | {"num_processes": 2}, {"num_processes"})
    assert capsys.readouterr().err == ""


# Keys of a config file that say who starts which processes where, which are Accelerate's and torchrun's own; the next
# are TPUs', for which Accelerate needs torch_xla; the last are of what the tests below ask for.
STARTS = {"num_processes", "num_machines", "machine_rank", "gpu_ids", "main_process_ip", "main_process_port"}
STARTS |= {"rdzv_backend", "same_network", "mpirun_config", "debug", "enable_cpu_affinity", "compute_environment"}
TPU = {"main_training_function", "downcast_bf16", "command_file", "commands"}
TPU |= {"tpu_name", "tpu_zone", "tpu_use_cluster", "tpu_use_sudo", "tpu_vm", "tpu_env"}
ASKS = {"distributed_type", "mixed_precision", "use_cpu", "dynamo_config", "fsdp_config"}
ASKS |= {"deepspeed_config", "megatron_lm_config", "parallelism_config", "fp8_config"}  # refused as a whole
# Without effect on FSDP2 with blocks by name, in Accelerate as well.
NO_EFFECT = {"fsdp_min_num_params", "fsdp_cpu_ram_efficient_loading", "dynamo_use_regional_compilation"}
OTHERWISE = {  # than what is asked for already, or than the default
    "fsdp_version": 1,
    "fsdp_sharding_strategy": "HYBRID_SHARD",
    "fsdp_auto_wrap_policy": "SIZE_BASED_WRAP",
    "fsdp_transformer_layer_cls_to_wrap": "BertLayer",
    "fsdp_backward_prefetch": "BACKWARD_POST",
    "fsdp_state_dict_type": "SHARDED_STATE_DICT",
    "fsdp_reshard_after_forward": False,
    "fsdp_use_orig_params": False,
    "fsdp_sync_module_states": False,
    "dynamo_backend": "EAGER",
    "dynamo_mode": "max-autotune",
}


def environment_of(folder, **changes) -> dict[str, str]:
    """What `accelerate launch` itself tells the processes that it starts by a config file."""
    _, _, *options = accelerate(folder, **changes)
    arguments, *_ = _validate_launch_command(launch_command_parser().parse_args([*options, "-m", "restok_cli"]))
    told = prepare_multi_gpu_env(arguments)
    return {name: value for name, value in told.items() if os.environ.get(name) != value}


def test_every_key_of_a_config_file_is_known(tmp_path):
    """Also those of an Accelerate that is newer than this list."""
    assert set(ClusterConfig.__dataclass_fields__) <= STARTS | TPU | ASKS


@pytest.mark.parametrize("section", ["fsdp", "dynamo"])
def test_every_key_of_a_section_changes_what_is_asked_for_or_is_refused_by_its_name(tmp_path, section):
    own = {"fsdp": SHARDED["fsdp_config"] | {"fsdp_cpu_ram_efficient_loading": False}}
    own |= {"dynamo": {"dynamo_backend": "INDUCTOR"}}
    base = {"distributed_type": SHARDED["distributed_type"]} | {f"{name}_config": keys for name, keys in own.items()}
    with patch.dict(os.environ, environment_of(tmp_path, **base)):
        before = asked()
    assert before.sharded and before.compiled
    keys = {action.dest for action in launch_command_parser()._actions if action.dest.startswith(f"{section}_")}
    assert len(keys) >= 5 and OTHERWISE.keys() & keys
    for key in keys - NO_EFFECT:
        changed = base | {f"{section}_config": own[section] | {key: OTHERWISE.get(key, True)}}
        with patch.dict(os.environ, environment_of(tmp_path, **changed)):
            try:
                assert asked() != before, key
            except UsageError as error:
                assert f"{key}: " in str(error)


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"distributed_type": "MEGATRON_LM"}, "distributed_type: MEGATRON_LM"),
        (
            SHARDED | {"parallelism_config": {"parallelism_config_tp_size": 2}},
            "parallelism_config: true (leave it out)",
        ),
        ({"mixed_precision": "fp8", "fp8_config": {"backend": "TE"}}, "mixed_precision: fp8"),
    ],
    ids=["megatron", "parallelism", "fp8"],
)
def test_a_section_that_restok_has_no_part_of_is_refused_as_a_whole(tmp_path, monkeypatch, changes, refused):
    monkeypatch.setattr("accelerate.utils.launch.is_fp8_available", lambda: True)  # else Accelerate refuses it itself
    with patch.dict(os.environ, environment_of(tmp_path, **changes)), pytest.raises(UsageError) as error:
        asked()
    assert refused in str(error.value)
