"""Runs MaxText's trainer as users run it: by its own entry point, in a process of its own."""

import dataclasses
import json
import os
import subprocess
import sys
import typing as tp
from pathlib import Path

ENTRY_POINT = "maxtext.trainers.pre_train.train"

# How Linen and NNX are mixed. Each flag is an argument of MaxText.
WIRINGS = {
    # a Linen model whose layers are ToLinen classes, under nn.scan and nn.remat
    "linen": {"enable_nnx": False, "pure_nnx": False, "pure_nnx_decoder": False},
    # ToLinen around ToNNX around ToLinen
    "hybrid": {"enable_nnx": True, "pure_nnx": False, "pure_nnx_decoder": False},
    # one ToLinen around the NNX model
    "tolinen": {"enable_nnx": True, "pure_nnx": False, "pure_nnx_decoder": True},
    # an NNX model that holds the Linen decoder through ToNNX
    "bridge": {"enable_nnx": True, "pure_nnx": True, "pure_nnx_decoder": False},
}

MODELS: dict[str, dict[str, tp.Any]] = {
    "llama2": {"decoder_block": "llama2"},
    "deepseek": {  # a mixture of experts with multi-head latent attention
        "decoder_block": "deepseek",
        "attention_type": "mla",
        "base_num_kv_heads": 4,
        "first_num_dense_layers": 1,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "base_moe_mlp_dim": 64,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_nope_head_dim": 16,
        "qk_rope_head_dim": 8,
        "v_head_dim": 16,
        "sparse_matmul": False,
    },
}

# Tiny, and without the cloud.
SMALL: dict[str, tp.Any] = {
    "dataset_type": "synthetic",
    "hardware": "cpu",
    "skip_jax_distributed_system": True,
    "enable_checkpointing": False,
    "enable_tensorboard": False,
    "enable_goodput_recording": False,
    "monitor_goodput": False,
    "enable_checkpoint_cloud_logger": False,
    "jax_cache_dir": "",
    "per_device_batch_size": 2,
    "max_target_length": 32,
    "attention": "dot_product",
    "dtype": "float32",
    "weight_dtype": "float32",
    "sharding_tolerance": 1.0,
    "base_emb_dim": 64,
    "base_mlp_dim": 128,
    "base_num_query_heads": 4,
    "base_num_kv_heads": 2,
    "head_dim": 16,
    "base_num_decoder_layers": 2,
    "vocab_size": 256,
    "steps": 6,
}

Side = tp.Literal["upstream", "ours"]
SIDES: tuple[Side, Side] = ("upstream", "ours")


@dataclasses.dataclass(frozen=True)
class Model:
    """What is trained: the same for both sides."""

    wiring: str
    block: str
    scan: bool

    @property
    def arguments(self) -> dict[str, tp.Any]:
        own = {**WIRINGS[self.wiring], **MODELS[self.block], "scan_layers": self.scan}
        return SMALL | own

    def __str__(self) -> str:
        return f"{self.wiring}-{self.block}-{'scanned' if self.scan else 'unscanned'}"


@dataclasses.dataclass
class Training:
    """One process that trains; `folder` is where it writes everything."""

    process: subprocess.Popen[bytes]
    folder: Path

    def wait(self) -> None:
        """Raises with the end of the log unless the training ended well."""
        code = self.process.wait()
        if code != 0:
            log = (self.folder / "log.txt").read_text(errors="replace")
            raise AssertionError(f"{self.process.args} ended with {code}:\n{log[-4000:]}")

    def metrics(self) -> list[dict[str, float]]:
        """What MaxText wrote for each step, without times."""
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return [
            {key: value for key, value in json.loads(line).items() if key.startswith("learning/")}
            for line in lines
        ]

    def report(self) -> list[dict[str, tp.Any]]:
        """What `python -m nnx_wrappers run --report-file` wrote."""
        rows: list[dict[str, tp.Any]] = json.loads((self.folder / "report.json").read_text())
        return rows


def start(side: Side, model: Model, folder: Path, *program: str, **arguments: tp.Any) -> Training:
    """Starts a training. `program` stands before the entry point's name instead of what
    the side needs; `arguments` are MaxText's own, in place of those of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    if not program and side == "ours":
        program = ("-m", "nnx_wrappers", "run", "--report-file", str(folder / "report.json"))
    given = {
        "run_name": "run",
        "base_output_directory": folder,
        "metrics_file": folder / "metrics.jsonl",
        **model.arguments,
        **arguments,
    }
    text = [
        f"{key}={str(value).lower() if isinstance(value, bool) else value}"
        for key, value in given.items()
    ]
    with open(folder / "log.txt", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, *program, "-m", ENTRY_POINT, *text],
            env={**os.environ, "JAX_PLATFORMS": "cpu", "DECOUPLE_GCLOUD": "TRUE"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    return Training(process, folder)
