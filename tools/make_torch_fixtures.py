"""Write the small `torch.save` files that the tests read without PyTorch.

Needs PyTorch; the files are committed, so run it only to add cases:

    python tools/make_torch_fixtures.py tests/data
"""

import sys
from pathlib import Path

import torch


def state_dict() -> dict[str, object]:
    """Return tensors of every type and layout; all values follow a rule that the tests repeat."""
    base = torch.arange(24, dtype=torch.float32)
    return {
        "f32": base.reshape(2, 3, 4) / 8,
        "f16": base.to(torch.float16) / 8,
        "bf16": (base / 8).to(torch.bfloat16),
        "f64": base.to(torch.float64) / 3,
        "i64": torch.arange(5) - 2**40,
        "i32": torch.arange(5, dtype=torch.int32) - 2,
        "i16": torch.arange(5, dtype=torch.int16) - 2,
        "i8": torch.arange(5, dtype=torch.int8) - 2,
        "u8": torch.arange(5, dtype=torch.uint8) + 250,
        "bool": torch.arange(5) % 2 == 0,
        "transposed": base.reshape(4, 6).T,
        "shared.slice": base[5:17].reshape(3, 4)[:, 1:3],
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base[:3].clone()),
        "not_a_tensor": 7,
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    linear = torch.nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.arange(6.0).reshape(2, 3))
        linear.bias.copy_(torch.tensor([-1.0, 1.0]))
    wrapped = {"epoch": 3, "state_dict": {"module": state_dict()}, "best": 0.5}
    torch.save(wrapped, folder / "torch_zip.bin")
    torch.save(wrapped, folder / "torch_legacy.bin", _use_new_zipfile_serialization=False)
    torch.save(linear.state_dict(), folder / "torch_module.bin")
    torch.serialization.set_crc32_options(False)
    torch.save(linear.state_dict(), folder / "torch_no_crc.bin")
