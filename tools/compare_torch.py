#!/usr/bin/python3
"""compare_torch.py: runs `wengert run` and PyTorch on the same arrays in f64: rnn, lstm and gru, with and without lengths,
from zero and other initial states; and compares outputs, final states and the gradients of every array.

    tools/compare_torch.py [PROGRAM]     (default: build/tools/wengert)

Prints the largest difference of each array, relative to the array's largest element (at least 1); fails above 1e-10.
Needs PyTorch and NumPy (Debian: python3-torch)."""
import json
import os
import struct
import subprocess
import sys
import tempfile

import numpy
import torch

LIMIT = 1e-10
STEPS, BATCH, INPUT, HIDDEN = 13, 5, 4, 7

# Of each cell: our gates in PyTorch's order, our states, and how our biases lie in theirs.
CELLS = {
    "rnn": (torch.nn.RNN, [""], ["h"]),
    "lstm": (torch.nn.LSTM, ["_i", "_f", "_g", "_o"], ["h", "c"]),
    "gru": (torch.nn.GRU, ["_r", "_z", "_n"], ["h"]),
}
TYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4"}


def write_safetensors(path, arrays):
    header, data = {}, b""
    for name, array in arrays.items():
        array = numpy.ascontiguousarray(array)
        kind = next(kind for kind, code in TYPES.items() if numpy.dtype(code) == array.dtype)
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


def read_safetensors(path):
    with open(path, "rb") as file:
        size, = struct.unpack("<Q", file.read(8))
        header, data = json.loads(file.read(size)), file.read()
    header.pop("__metadata__", None)
    return {name: numpy.frombuffer(data[slice(*entry["data_offsets"])], TYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in header.items()}


def make_arrays(cell, gates, states, with_lengths, with_states, random):
    """What both are given, under our names. Beyond the lengths stands NaN."""
    arrays = {"x": random.standard_normal((STEPS, BATCH, INPUT))}
    for gate in gates:
        arrays["W" + gate] = random.standard_normal((HIDDEN, INPUT)) / INPUT**0.5
        arrays["U" + gate] = random.standard_normal((HIDDEN, HIDDEN)) / HIDDEN**0.5
        arrays["b" + gate] = random.standard_normal(HIDDEN)
    if cell == "gru":
        arrays["c_n"] = random.standard_normal(HIDDEN)
    for state in states:
        if with_states:
            arrays[state] = random.standard_normal((BATCH, HIDDEN))
        arrays[state + ".grad"] = random.standard_normal((BATCH, HIDDEN))
    arrays["y.grad"] = random.standard_normal((STEPS, BATCH, HIDDEN))
    if with_lengths:
        lengths = random.permutation([STEPS, 1, 6, STEPS - 1, 3]).astype("<i8")
        arrays["lengths"] = lengths
        for row, length in enumerate(lengths):
            arrays["x"][length:, row] = numpy.nan
            arrays["y.grad"][length:, row] = numpy.nan
    return arrays


def run_ours(program, cell, arrays, threads):
    with tempfile.TemporaryDirectory() as folder:
        given, result = os.path.join(folder, "in.safetensors"), os.path.join(folder, "out.safetensors")
        write_safetensors(given, arrays)
        subprocess.run([program, "run", cell, "--input", given, "--output", result, "--threads", str(threads)], check=True)
        return read_safetensors(result)


def run_torch(cell, arrays):
    kind, gates, states = CELLS[cell]
    net = kind(INPUT, HIDDEN).double()
    with torch.no_grad():
        stack = lambda letter: torch.from_numpy(numpy.concatenate([arrays[letter + gate] for gate in gates]))
        net.weight_ih_l0.copy_(stack("W"))
        net.weight_hh_l0.copy_(stack("U"))
        net.bias_ih_l0.copy_(stack("b"))
        net.bias_hh_l0.zero_()
        if cell == "gru":
            net.bias_hh_l0[2 * HIDDEN:] = torch.from_numpy(arrays["c_n"])
    x = torch.from_numpy(numpy.nan_to_num(arrays["x"], nan=0.0)).requires_grad_()
    start = [torch.from_numpy(arrays.get(state, numpy.zeros((BATCH, HIDDEN))))[None].requires_grad_() for state in states]
    given = x
    if "lengths" in arrays:
        given = torch.nn.utils.rnn.pack_padded_sequence(x, torch.from_numpy(arrays["lengths"]), enforce_sorted=False)
    y, final = net(given, tuple(start) if len(start) > 1 else start[0])
    final = final if isinstance(final, tuple) else (final,)
    if "lengths" in arrays:
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, total_length=STEPS)
    loss = (y * torch.from_numpy(numpy.nan_to_num(arrays["y.grad"], nan=0.0))).sum()
    for state, value in zip(states, final):
        loss = loss + (value[0] * torch.from_numpy(arrays[state + ".grad"])).sum()
    loss.backward()

    results = {"y": y, "x.grad": x.grad}
    for state, value, first in zip(states, final, start):
        results[state] = value[0]
        if state in arrays:
            results[state + ".grad"] = first.grad[0]
    for letter, theirs in ("W", net.weight_ih_l0), ("U", net.weight_hh_l0), ("b", net.bias_ih_l0):
        for gate, part in zip(gates, theirs.grad.chunk(len(gates))):
            results[letter + gate + ".grad"] = part
    if cell == "gru":
        results["c_n.grad"] = net.bias_hh_l0.grad[2 * HIDDEN:]
    return {name: value.detach().numpy() for name, value in results.items()}


def compare(ours, theirs):
    """The largest difference of each array; infinite where names, shapes or NaN differ."""
    differences = {}
    for name in sorted(set(ours) | set(theirs)):
        if name not in ours or name not in theirs or ours[name].shape != theirs[name].shape:
            differences[name] = float("inf")
            continue
        gap = numpy.abs(ours[name] - theirs[name]).max() / max(1.0, numpy.abs(theirs[name]).max())
        differences[name] = gap if gap == gap else float("inf")
    return differences


def main():
    program = sys.argv[1] if len(sys.argv) > 1 else "build/tools/wengert"
    worst = 0.0
    for cell, (_, gates, states) in CELLS.items():
        for with_lengths in False, True:
            for with_states in False, True:
                random = numpy.random.default_rng(1)
                arrays = make_arrays(cell, gates, states, with_lengths, with_states, random)
                differences = compare(run_ours(program, cell, arrays, 2), run_torch(cell, arrays))
                worst = max(worst, *differences.values())
                print(f"{cell}{', lengths' * with_lengths}{', initial states' * with_states}:")
                print("  " + "  ".join(f"{name} {gap:.1e}" for name, gap in differences.items()))
    print(f"largest difference: {worst:.1e} ({'within' if worst <= LIMIT else 'ABOVE'} {LIMIT:.0e})")
    return 0 if worst <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
