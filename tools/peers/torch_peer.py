"""PyTorch on one workload, beside `wengert bench`: it runs when told to, and tells how long it took.

    torch_peer.py KIND THREADS BATCH STEPS INPUT HIDDEN LAYERS VOCABULARY SECONDS

KIND: LSTM, GRU, RNN (torch.nn's own layers), norm_peephole (a custom cell from plain ops), characters (embedding, LSTM, linear,
cross-entropy, SGD). Float32, forward and backward with the gradients of all weights, of x and of the initial states. It
prints "ready VERSION COUNT"; then, for each line it reads, the seconds of one run, averaged over COUNT runs (as many as fit into
SECONDS). Needs Debian's python3-torch. The OpenMP build of OpenBLAS is taken where there is one: the threads of the other
build fight with OpenMP's, and PyTorch would be a slow and unfair peer. So it would be where OpenBLAS is older than the processor and
takes it for one of 2004: then it is told what the processor's flags say.
"""
import ctypes
import os
import sys
import sysconfig
import time

BLAS = f"/usr/lib/{sysconfig.get_config_var('MULTIARCH')}/openblas-openmp"
PATHS = os.environ.get("LD_LIBRARY_PATH", "")


def better_core():
    """OpenBLAS's name for this processor, if it takes it for the least of its family."""
    try:
        name = ctypes.CDLL(os.path.join(BLAS, "libopenblas.so.0")).openblas_get_corename
        name.restype = ctypes.c_char_p
        with open("/proc/cpuinfo", encoding="ascii") as file:
            flags = set(next(line for line in file if line.startswith("flags")).split())
        if name() != b"Prescott":
            return None
    except (OSError, AttributeError, StopIteration):
        return None
    if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= flags:
        return "SKYLAKEX"
    return "HASWELL" if {"avx2", "fma"} <= flags else None


if os.path.isdir(BLAS) and BLAS not in PATHS.split(":"):
    os.environ["LD_LIBRARY_PATH"] = f"{BLAS}:{PATHS}".rstrip(":")
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = sys.argv[2]
    if core := better_core():
        os.environ["OPENBLAS_CORETYPE"] = core
    os.execv(sys.executable, sys.orig_argv)

import torch  # noqa: E402  (after the library path is set)


def layers(kind, B, T, I, H, L):
    """A built-in recurrent layer."""
    net = getattr(torch.nn, kind)(I, H, num_layers=L)
    x = torch.randn(T, B, I, requires_grad=True)
    start = [torch.zeros(L, B, H, requires_grad=True) for _ in range(2 if kind == "LSTM" else 1)]
    cotangent = torch.randn(T, B, H)
    weights = list(net.parameters())

    def forward_backward():
        y, _ = net(x, tuple(start) if kind == "LSTM" else start[0])
        y.backward(cotangent)

    return forward_backward, weights + [x] + start, None


def norm_peephole(kind, B, T, I, H, L):
    """The custom cell: peepholes, and layer norm on every gate; the four products are one."""
    def weight(*shape):
        return torch.randn(*shape).mul_(0.06).requires_grad_()

    W, U, b = weight(4 * H, I), weight(4 * H, H), weight(4 * H)
    peep = [weight(H) for _ in range(3)]
    gain = [torch.ones(H, requires_grad=True) for _ in range(4)]
    shift = [torch.zeros(H, requires_grad=True) for _ in range(4)]
    x = torch.randn(T, B, I, requires_grad=True)
    h0, c0 = (torch.zeros(B, H, requires_grad=True) for _ in range(2))
    cotangent = torch.randn(T, B, H)

    def gate(k, v):
        return torch.nn.functional.layer_norm(v, (H,), gain[k], shift[k])

    def forward_backward():
        h, c, out = h0, c0, []
        for t in range(T):
            i, f, g, o = torch.addmm(b, x[t], W.t()).addmm(h, U.t()).chunk(4, dim=1)
            i = torch.sigmoid(gate(0, i + peep[0] * c))
            f = torch.sigmoid(gate(1, f + peep[1] * c))
            c = f * c + i * torch.tanh(gate(2, g))
            h = torch.sigmoid(gate(3, o + peep[2] * c)) * torch.tanh(c)
            out.append(h)
        torch.stack(out).backward(cotangent)

    return forward_backward, [W, U, b, x, h0, c0] + peep + gain + shift, None


def characters(kind, B, T, I, H, L, V):
    """A whole training step of a character model."""
    embed, net, readout = torch.nn.Embedding(V, I), torch.nn.LSTM(I, H, num_layers=L), torch.nn.Linear(H, V)
    tokens, label = torch.randint(V, (T, B)), torch.randint(V, (T * B,))
    weights = [w for part in (embed, net, readout) for w in part.parameters()]
    optimiser = torch.optim.SGD(weights, lr=1e-6)

    def forward_backward():
        logits = readout(net(embed(tokens))[0])
        torch.nn.functional.cross_entropy(logits.reshape(T * B, V), label).backward()

    return forward_backward, weights, optimiser


def main():
    kind, numbers, budget = sys.argv[1], [int(word) for word in sys.argv[2:9]], float(sys.argv[9])
    threads, *sizes, vocabulary = numbers
    torch.set_num_threads(threads)
    torch.manual_seed(1)
    if kind == "characters":
        work, leaves, optimiser = characters(kind, *sizes, vocabulary)
    else:
        work, leaves, optimiser = (norm_peephole if kind == "norm_peephole" else layers)(kind, *sizes)

    def run(count):
        start = time.perf_counter()
        for _ in range(count):
            for leaf in leaves:
                leaf.grad = None
            work()
            if optimiser:
                optimiser.step()
        return (time.perf_counter() - start) / count

    run(2)
    count = max(1, int(budget / run(1)))
    print("ready", torch.__version__, count, flush=True)
    for _ in sys.stdin:
        print(repr(run(count)), flush=True)


main()
