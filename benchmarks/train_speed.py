"""Seconds an epoch of the three trainings: stock Keras, PyTorch, ours, and the machine's limit.

stock-1: stock layers, model.fit, batch 1, RMSprop (windows as long as a section).
stock: stock layers, model.fit, our batch, Adam. torch: the same layers, batch and optimizer
(pip install -r requirements-bench.txt), fp32 and bf16 autocast. A few steps of each are timed, in turns,
and scaled to an epoch, which sees every frame once. The limit is the epoch's matrix products at
the speed of a 2048 x 2048 product. Only ours clips gradients, as in training.
"""

import common
import numpy as np

from joanna import settings, training
from joanna.backend import keras

try:
    import torch
except ImportError:
    torch = None


def dense_flops(pairs, first_needs_gradient=False) -> int:
    """Floating-point operations of a training step a frame, of trained layers (inputs, outputs)."""
    total = 6 * sum(inputs * outputs for inputs, outputs in pairs)
    return total if first_needs_gradient else total - 2 * pairs[0][0] * pairs[0][1]


def torch_steps(pairs, lstms, frozen, inputs, targets, size, autocast):
    """A function that trains steps of LSTM layers, then linear ones, in PyTorch."""
    units = inputs.shape[-1]
    parts = torch.nn.ModuleList([torch.nn.LSTM(units, units, batch_first=True) for _ in range(lstms)])
    for part in list(parts)[lstms - frozen :] if frozen else []:
        part.requires_grad_(False)
    for index, (i, o) in enumerate(pairs):
        parts.append(torch.nn.Linear(i, o))
        if not lstms and index < len(pairs) // 2:
            parts.extend([torch.nn.ELU(), torch.nn.Dropout(0.4)])
    optimizer = torch.optim.Adam([p for p in parts.parameters() if p.requires_grad], 1e-4, fused=True)
    inputs, targets = torch.from_numpy(inputs), torch.from_numpy(targets)

    def step(inputs, targets):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            values = inputs
            for part in parts:
                values = part(values)
                values = values[0] if isinstance(values, tuple) else values
        loss = torch.nn.functional.mse_loss(values.float(), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    slices = [slice(first, first + size) for first in range(0, len(inputs), size)]
    return lambda: [step(inputs[part], targets[part]) for part in slices]


def main() -> None:
    """Measure, print the table, write the figures."""
    options = common.parser(__doc__).parse_args()
    chosen = settings.load(options.settings)
    width, latent = chosen["frame-length"], settings.bottleneck(chosen)
    length, windows, batch = (chosen[k] for k in ("window-length", "window-batch", "batch-size"))
    blocks = chosen["block-count"] - chosen["overlap"] + 1
    frames = chosen["section-count"] * blocks
    widths = [width - i * chosen["dim-decrease"] for i in range(chosen["layer-count"] + 1)]
    down = list(zip(widths, widths[1:], strict=False))
    up = [(o, i) for i, o in reversed(down)]
    lstm, new = 8 * latent * latent, chosen["lstm-layers"]
    # forward, and back to weights and inputs; the first layer's input needs no gradient
    flops = {
        "autoencoder": dense_flops(down + up),
        "spliced": 2 * 6 * lstm - lstm + dense_flops(up, True),
        "generator": new * 6 * lstm - lstm + 2 * 4 * lstm,
    }
    rng = np.random.default_rng(0)

    def noise(*shape):
        return rng.normal(size=shape).astype("float32")

    def keras_steps(task, optimizer, inputs, targets, size):
        networks = common.build(chosen, stock=optimizer is not None)
        if task == "generator":
            networks["spliced-lstm"].trainable = False
        trained = networks[{"spliced": "spliced-tail"}.get(task, task)]
        if optimizer is not None:
            trained.compile(optimizer=optimizer, loss="mse")
            return lambda: trained.fit(inputs, targets, batch_size=size, verbose=0)
        training.compile_for(trained, 1000, 1e-4)
        parts = [slice(first, first + size) for first in range(0, len(inputs), size)]
        return lambda: [trained.train_on_batch(inputs[part], targets[part]) for part in parts]

    products = {dtype: common.matmul(dtype) for dtype in ("float32", "bfloat16")}
    figures = {}
    columns = ["ours", "stock_batch1", "stock_same_batch", "torch_fp32", "torch_bf16"]
    rows = [
        ["s an epoch", *columns, "limit_fp32", "limit_bf16", "ours/limit", "stock/ours", "torch/ours"]
    ]
    for task in flops:
        end = latent if task == "generator" else width
        start = width if task == "autoencoder" else latent
        # what a run sees, with batch 1 and with ours, and examples a step of ours
        one, many, size = (16,), (4 * batch,), batch
        if task != "autoencoder":
            one, many, size = (1, blocks), (windows, length), windows
        x, y, x1, y1 = noise(*many, start), noise(*many, end), noise(*one, start), noise(*one, end)
        runs = {
            "ours": keras_steps(task, None, x, y, size),
            "stock_batch1": keras_steps(task, "rmsprop", x1, y1, 1),
            "stock_same_batch": keras_steps(task, keras.optimizers.Adam(1e-4), x, y, size),
        }
        if torch:
            pairs = {"autoencoder": down + up, "spliced": up, "generator": []}[task]
            lstms, frozen = {"autoencoder": (0, 0), "spliced": (2, 0), "generator": (new + 2, 2)}[task]
            for name, autocast in (("torch_fp32", False), ("torch_bf16", True)):
                run = torch_steps(pairs, lstms, frozen, x, y, size, autocast)
                try:
                    run()
                except RuntimeError as error:  # not every CPU has bf16, nor every layer a fallback
                    print(f"{task}, {name}: left out, PyTorch says: {str(error).splitlines()[0]}")
                else:
                    runs[name] = run
        runs.update({dtype: run for dtype, (run, _) in products.items()})
        seconds = common.medians(runs, options.repeats)
        steps = {name: frames / np.prod(one if name == "stock_batch1" else many) for name in columns}
        found = {
            f"{name}_s": float(seconds[name] * steps[name]) if name in runs else None for name in columns
        }
        for dtype, name in (("float32", "limit_fp32_s"), ("bfloat16", "limit_bf16_s")):
            found[name] = flops[task] * frames * seconds[dtype] / products[dtype][1]
        figures[task] = found
        torches = [found[n] for n in ("torch_fp32_s", "torch_bf16_s") if found[n]]
        rows.append(
            [task]
            + ["-" if value is None else f"{value:.2f}" for value in found.values()]
            + [f"{found['ours_s'] / min(found['limit_fp32_s'], found['limit_bf16_s']):.2f}"]
            + [f"{found['stock_same_batch_s'] / found['ours_s']:.2f}"]
            + [f"{min(torches) / found['ours_s']:.2f}" if torches else "-"]
        )
    common.report(rows, options.json, figures)


if __name__ == "__main__":
    main()
