#!/usr/bin/python3
"""compare_training.py: trains a one-layer LSTM on a text with `wengert train` and with PyTorch, from the same initial weights,
on the same batches, with the same optimiser's constants, and compares the two loss curves.

    tools/compare_training.py [--steps 500] [--hidden 256] [--batch 32] [--length 64] [--embed 64] [--rate 0.001] [--clip 1]
                              [--threads 1] [--program build/tools/wengert] [TEXT…]      (default text: core ops graph cells)

Prints the largest relative difference over the first 100 steps, and the difference of the last 20 steps' mean; fails above
1e-3 and 2 %. Needs PyTorch and NumPy (Debian: python3-torch)."""
import argparse
import json
import os
import struct
import subprocess
import sys
import tempfile
import time

import numpy
import torch

TOP = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
GATES = "ifgo"  # PyTorch's order


def read_model(path):
    """The arrays and the metadata of a safetensors file of f32."""
    with open(path, "rb") as file:
        data = file.read()
    size, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + size])
    meta = header.pop("__metadata__")
    arrays = {name: numpy.frombuffer(data[8 + size:][entry["data_offsets"][0]:entry["data_offsets"][1]], "<f4")
              .reshape(entry["shape"]).copy() for name, entry in header.items() if entry["dtype"] == "F32"}
    return arrays, meta


def text_of(paths):
    """All files under the paths, those that hold no NUL."""
    found = []
    for path in paths:
        if os.path.isfile(path):
            found.append(path)
        for folder, _, names in sorted(os.walk(path)):
            found += [os.path.join(folder, name) for name in sorted(names)]
    texts = [open(path, "rb").read() for path in found]
    return b"".join(text for text in texts if b"\0" not in text)


def windows(text, vocabulary, batch, length, steps):
    """The batches that `wengert train` makes: streams side by side, 5 % of the end held out."""
    code = numpy.zeros(256, numpy.int64)
    code[numpy.frombuffer(bytes.fromhex(vocabulary), numpy.uint8)] = numpy.arange(len(vocabulary) // 2)
    token = code[numpy.frombuffer(text, numpy.uint8)][:len(text) - int(len(text) * 0.05)]
    stride = (len(token) - 1) // batch
    streams = numpy.stack([token[row * stride:row * stride + stride + 1] for row in range(batch)], 1)
    for step in range(steps):
        at = step % (stride // length) * length
        yield at == 0, torch.from_numpy(streams[at:at + length]), torch.from_numpy(streams[at + 1:at + length + 1])


def network(arrays):
    embedding = torch.nn.Embedding(*arrays["embedding"].shape)
    lstm = torch.nn.LSTM(arrays["embedding"].shape[1], arrays["layer0.U_i"].shape[0])
    output = torch.nn.Linear(*reversed(arrays["output.W"].shape))
    joined = {kind: torch.from_numpy(numpy.concatenate([arrays[f"layer0.{kind}_{gate}"] for gate in GATES]))
              for kind in "WUb"}
    with torch.no_grad():
        embedding.weight.copy_(torch.from_numpy(arrays["embedding"]))
        lstm.weight_ih_l0.copy_(joined["W"])
        lstm.weight_hh_l0.copy_(joined["U"])
        lstm.bias_ih_l0.copy_(joined["b"])
        lstm.bias_hh_l0.zero_()
        output.weight.copy_(torch.from_numpy(arrays["output.W"]))
        output.bias.copy_(torch.from_numpy(arrays["output.b"]))
    lstm.bias_hh_l0.requires_grad_(False)  # one bias a gate
    return embedding, lstm, output


def train_there(arrays, batches, rate, clip):
    """The loss of every step in bits per character, and the seconds it took."""
    embedding, lstm, output = network(arrays)
    weights = [weight for part in (embedding, lstm, output) for weight in part.parameters() if weight.requires_grad]
    adam = torch.optim.Adam(weights, lr=rate)
    losses, state, began = [], None, time.monotonic()
    for first, x, y in batches:
        hidden, state = lstm(embedding(x), None if first else state)
        state = tuple(part.detach() for part in state)
        loss = torch.nn.functional.cross_entropy(output(hidden).flatten(0, 1), y.flatten())
        adam.zero_grad()
        loss.backward()
        if clip > 0:
            torch.nn.utils.clip_grad_norm_(weights, clip)
        adam.step()
        losses.append(loss.item() / numpy.log(2))
    return numpy.array(losses), time.monotonic() - began


def train_here(options, text, start, output):
    sizes = [] if start else ["--hidden", str(options.hidden), "--embed", str(options.embed)]
    subprocess.run([options.program, "train", text, *sizes, *(["--weights", start] if start else []),
                    "--batch", str(options.batch), "--length", str(options.length), "--lr", str(options.rate),
                    "--clip", str(options.clip), "--steps", str(options.steps if start else 0), "--seed", "1",
                    "--validate-every", "1000000", "--save-seconds", "0", "--threads", str(options.threads),
                    "--output", output], check=True, stdout=subprocess.DEVNULL)


def main():
    parser = argparse.ArgumentParser()
    for name, value in (("steps", 500), ("hidden", 256), ("batch", 32), ("length", 64), ("embed", 64), ("threads", 1)):
        parser.add_argument("--" + name, type=int, default=value)
    parser.add_argument("--rate", type=float, default=0.001)
    parser.add_argument("--clip", type=float, default=1)
    parser.add_argument("--program", default=os.path.join(TOP, "build", "tools", "wengert"))
    parser.add_argument("text", nargs="*", default=[os.path.join(TOP, name) for name in ("core", "ops", "graph", "cells")])
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        text = os.path.join(folder, "text")
        with open(text, "wb") as file:
            file.write(text_of(options.text))
        start, end = os.path.join(folder, "start.safetensors"), os.path.join(folder, "end.safetensors")
        train_here(options, text, None, start)
        train_here(options, text, start, end)
        with open(end[:-len(".safetensors")] + ".jsonl", encoding="utf-8") as file:
            lines = [line for line in map(json.loads, file) if "loss" in line]
        arrays, meta = read_model(start)
        with open(text, "rb") as file:
            batches = windows(file.read(), meta["vocabulary"], options.batch, options.length, options.steps)
            theirs, seconds = train_there(arrays, batches, options.rate, options.clip)
    ours = numpy.array([line["loss"] for line in lines])
    difference = numpy.abs(ours - theirs) / theirs
    for step in (1, 10, 100, 200, 300, 400, 500):
        if step <= options.steps:
            print(f"step {step:4}: {ours[step - 1]:.6f} here, {theirs[step - 1]:.6f} there (bits per character)")
    early = difference[:100].max()
    late = abs(ours[-20:].mean() - theirs[-20:].mean()) / theirs[-20:].mean()
    print(f"largest relative difference over the first {min(100, options.steps)} steps: {early:.2e} (at most 1e-3)")
    print(f"difference of the last 20 steps' mean, at step {options.steps}: {late:.2e} (at most 2e-2)")
    print(f"seconds: {lines[-1]['seconds']:.1f} here, {seconds:.1f} there")
    return 0 if early <= 1e-3 and late <= 2e-2 else 1


if __name__ == "__main__":
    sys.exit(main())
