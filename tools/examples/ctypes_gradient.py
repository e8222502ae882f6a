#!/usr/bin/env python3
"""ctypes_gradient: the library from Python, with nothing but ctypes: a tape, a gradient, a compiled plan, and a Python function as an op.

    ctypes_gradient.py [/path/to/libwengert.so.0]
"""
import ctypes as c
import math
import sys


class Var(c.Structure):
    _fields_ = [("tape", c.c_void_p), ("id", c.c_int64)]


class Error(c.Structure):
    _fields_ = [("status", c.c_int), ("text", c.c_char * 1024)]


class Binding(c.Structure):
    _fields_ = [("prototype", c.c_char_p), ("library", c.c_char_p), ("function", c.c_void_p), ("name", c.c_char_p),
                ("derivative", c.c_char_p), ("vjp", c.c_char_p), ("derivative_function", c.c_void_p), ("vjp_function", c.c_void_p),
                ("from_", c.c_double), ("to", c.c_double), ("serial", c.c_bool), ("nan", c.c_bool), ("user", c.c_void_p), ("after", c.c_char_p)]


F64 = 2
wg = c.CDLL(sys.argv[1] if len(sys.argv) > 1 else "libwengert.so.0")


def declare(name, result, *arguments):
    function = getattr(wg, "wg_" + name)
    function.restype, function.argtypes = result, arguments
    return function


pointer, vars_, error_ = c.c_void_p, c.POINTER(Var), c.POINTER(Error)
tape_new = declare("tape_new", pointer, pointer)
tensor_new = declare("tensor_new", pointer, pointer, c.c_int, c.c_int, c.POINTER(c.c_int64))
tensor_set = declare("tensor_set", None, pointer, c.c_int64, c.c_double)
tensor_get = declare("tensor_get", c.c_double, pointer, c.c_int64)
leaf = declare("leaf", Var, pointer, pointer)
mul = declare("mul", Var, Var, Var)
sum_to = declare("sum_to", Var, Var, c.c_int, pointer)
grad = declare("grad", c.c_int, Var, c.c_int, vars_, vars_)
compile_ = declare("compile", pointer, c.c_int, vars_, pointer, error_)
run = declare("run", c.c_int, pointer, error_)
plan_output = declare("plan_output", pointer, pointer, c.c_int)
foreign_new = declare("foreign_new", pointer, pointer, pointer)
bind = declare("bind", pointer, pointer, c.POINTER(Binding), error_)
call_op = declare("call_op", Var, pointer, c.c_int, vars_)
for free in ("foreign_free", "tape_free", "plan_free", "tensor_free"):
    declare(free, None, pointer)


def main():
    error = Error()
    # A Python function and its derivative as C function pointers; they stay referenced as long as the op is used.
    callback = c.CFUNCTYPE(c.c_double, c.c_double)
    bump, slope = callback(lambda x: math.exp(-x * x)), callback(lambda x: -2 * x * math.exp(-x * x))
    foreign = foreign_new(None, None)
    op = bind(foreign, Binding(prototype=b"double bump(double)", function=c.cast(bump, c.c_void_p), name=b"bump",
                               derivative=b"double slope(double)", derivative_function=c.cast(slope, c.c_void_p), serial=True), error)
    assert op, error.text.decode()

    tape = tape_new(None)
    tensor = tensor_new(None, F64, 1, (c.c_int64 * 1)(3))
    point = [0.5, -1.0, 2.0]
    for i, value in enumerate(point):
        tensor_set(tensor, i, value)
    x, gradient = leaf(tape, tensor), Var()
    y = sum_to(mul(x, call_op(op, 1, c.byref(x))), 0, None)  # the sum of x exp(-x^2)
    assert grad(y, 1, c.byref(x), c.byref(gradient)) == 0
    plan = compile_(2, (Var * 2)(y, gradient), None, error)
    assert plan and run(plan, error) == 0, error.text.decode()

    value = tensor_get(plan_output(plan, 0), 0)
    found = [tensor_get(plan_output(plan, 1), i) for i in range(3)]
    wanted = [(1 - 2 * p * p) * math.exp(-p * p) for p in point]
    print("value %.6f, gradient %s" % (value, ", ".join("%.6f" % g for g in found)))
    assert abs(value - sum(p * math.exp(-p * p) for p in point)) < 1e-14
    assert all(abs(f - w) < 1e-14 for f, w in zip(found, wanted)), (found, wanted)
    wg.wg_plan_free(plan), wg.wg_tape_free(tape), wg.wg_tensor_free(tensor), wg.wg_foreign_free(foreign)


main()
