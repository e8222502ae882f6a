/* Faults planted after each pass: what the comparison with evaluation on random graphs is worth. Every fault leaves a
 * program that runs, and must change what some graph computes. */
#include <math.h>
#include <string.h>

#include "loop.h"
#include "make.h"
#include "plan.h"
#include "random_graph.h"
#include "taped.h"

extern const wg_op wg__op_tanh;

typedef bool fault(wg_program *p);

/* An earlier value of the same type and shape takes the place of an operand. */
static bool read_another(wg_program *p, int64_t id) {
    for (uint32_t k = 0; k < p->list[id].n; k++)
        for (uint32_t other = 1, *in = &wg__reads(&p->list[id])[k]; other < *in; other++)
            if (p->list[other].shape == p->list[*in].shape && p->list[other].dtype == p->list[*in].dtype &&
                p->list[other].shape->count && p->list[*in].dtype != WG_I32) {
                *in = other;
                return true;
            }
    return false;
}

/* As if they were equal. */
static bool merge_unequal(wg_program *p) {
    for (int64_t id = p->count - 1; id > 0; id--)
        if (read_another(p, id))
            return true;
    return false;
}

/* The product forgets what it adds to. */
static bool lose_sum(wg_program *p) {
    for (int64_t id = 1; id < p->count; id++) {
        wg_instruction *i = &p->list[id];
        if ((i->op->traits & WG_ADDS_TO_LAST) && i->shape->count) {
            i->op = wg_op_find("matmul")->op;
            uint32_t a = i->more[0], b = i->more[1];
            i->n = 2;
            i->in[0] = a, i->in[1] = b;
            return true;
        }
    }
    return false;
}

/* ---- in loops ---- */

static const void *own_attr(wg_program *p, const void *attr, size_t size) {
    return memcpy(wg__arena_take(&p->arena, size), attr, size);
}

static int64_t times_of(const wg_program *p, uint32_t id) { return p->list[id].loop ? p->loops[p->list[id].loop - 1].times : 0; }

static uint32_t unroll_of(const wg_program *p, uint32_t id) { return p->list[id].step ? p->steps[p->list[id].step].unroll : 0; }

/* Whether all that read a value stand in steps of other unrolls, and some do. */
static bool is_for_another(const wg_program *p, uint32_t id) {
    bool any = false;
    for (uint32_t j = id + 1; j < p->count; j++)
        for (uint32_t k = 0; k < p->list[j].n; k++)
            if (wg__reads_const(&p->list[j])[k] == id) {
                if (!unroll_of(p, j) || unroll_of(p, j) == unroll_of(p, id))
                    return false;
                any = true;
            }
    return any;
}

/* What a step makes for a derivative is made of another value. */
static bool make_of_another(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++)
        if (p->list[id].op->kind == WG_REDUCTION && unroll_of(p, id) && is_for_another(p, id) && read_another(p, id))
            return true;
    return false;
}

/* What a step of a derivative makes again, since `simplify` left no two that are equal, is made of another value. */
static bool make_again_of_another(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++)
        for (uint32_t other = 1; other < id; other++) {
            const wg_instruction *i = &p->list[id], *o = &p->list[other];
            if (i->op == o->op && i->op->kind == WG_POINTWISE && i->n == o->n && memcmp(i->in, o->in, i->n * sizeof *i->in) == 0 &&
                p->steps[i->step].step < 0 && o->step && p->steps[o->step].step >= 0 && read_another(p, id))
                return true;
        }
    return false;
}

/* What is added to make steps alike is not nothing. */
static bool add_something(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++)
        for (uint32_t k = 0; p->list[id].op == &wg__op_add && p->list[id].step && p->list[id].shape->count && k < 2; k++) {
            wg_instruction *zero = &p->list[p->list[id].in[k]];
            if (zero->op == &wg__op_constant && zero->value == 0 && signbit(zero->value)) {
                zero->value = 1;
                return true;
            }
        }
    return false;
}

/* A step reads what another step draws. */
static bool exchange_draws(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++)
        if (p->list[id].op == &wg__op_slice && p->list[p->list[id].in[0]].op == &wg__op_draws && p->list[id].shape->count) {
            ((int64_t *)(uintptr_t)p->list[id].attr)[1] ^= 1; /* of two at least */
            if (((const int64_t *)p->list[id].attr)[1] < p->list[p->list[id].in[0]].shape->dim[0])
                return true;
            ((int64_t *)(uintptr_t)p->list[id].attr)[1] ^= 1;
        }
    return false;
}

/* What is handed on from the step before is not that. */
static bool hand_on_another(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++) {
        const wg_instruction *i = &p->list[id], *from = &p->list[i->op == &wg__op_add ? i->in[0] : 0];
        if (i->op == &wg__op_add && i->step && from->step && from->step != i->step && p->list[i->in[1]].op == &wg__op_constant && i->shape->count)
            for (uint32_t other = i->in[0] - 1; other > 0; other--)
                if (p->list[other].shape == i->shape && p->list[other].dtype == i->dtype && p->list[other].step == from->step) {
                    p->list[id].in[0] = other;
                    return true;
                }
    }
    return false;
}

/* An element stands one step off: the first iteration reads what belongs to the second, the last what belongs to the one
 * before it. */
static bool shift_element(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++) {
        const wg_element_attr *e = p->list[id].attr;
        if (p->list[id].op != &wg__op_element || times_of(p, id) < 2 || !p->list[id].shape->count)
            continue;
        int64_t last = e->from + e->step * (times_of(p, id) - 1 - e->fewer), n = p->list[p->list[id].in[0]].shape->dim[0];
        bool room = wg__max(e->from, last) + 1 < n;
        wg_element_attr off = room ? (wg_element_attr){e->from + 1, e->step, e->late, e->fewer} : (wg_element_attr){last, -e->step, e->late, e->fewer};
        p->list[id].attr = own_attr(p, &off, sizeof off);
        return true;
    }
    return false;
}

/* Two carries exchange what they bring from the iteration before. */
static bool confuse_carries(wg_program *p) {
    for (uint32_t a = 1; a < p->count; a++)
        for (uint32_t b = a + 1; wg__is_carry(&p->list[a]) && b < p->count && p->list[b].loop == p->list[a].loop; b++)
            if (wg__is_carry(&p->list[b]) && p->list[b].shape == p->list[a].shape && p->list[b].shape->count && times_of(p, a) > 1) {
                uint32_t next = p->list[a].in[1];
                p->list[a].in[1] = p->list[b].in[1];
                p->list[b].in[1] = next;
                return true;
            }
    return false;
}

/* The last iteration reads another value from outside. */
static bool confuse_ending(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++)
        for (uint32_t other = 1; p->list[id].op == &wg__op_ending && other < p->list[id].in[1]; other++)
            if (!p->list[other].loop && p->list[other].shape == p->list[id].shape && p->list[other].dtype == p->list[id].dtype &&
                p->list[id].shape->count) {
                p->list[id].in[1] = other;
                return true;
            }
    return false;
}

/* A piece is made of another piece's operand. */
static bool exchange_pieces(wg_program *p) {
    for (uint32_t a = 1; a < p->count; a++)
        for (uint32_t b = a + 1; p->list[a].op == &wg__op_tanh && p->list[a].loop && b < p->count; b++)
            if (p->list[b].op == &wg__op_tanh && p->list[b].loop == p->list[a].loop && p->list[b].shape == p->list[a].shape &&
                p->list[b].in[0] != p->list[a].in[0]) {
                p->list[b].in[0] = p->list[a].in[0];
                return true;
            }
    return false;
}

/* A slice of a merged product begins where another gate's does. */
static bool slice_another_gate(wg_program *p) {
    for (uint32_t a = 1; a < p->count; a++)
        for (uint32_t b = a + 1; p->list[a].op == &wg__op_slice && p->list[a].loop && b < p->count; b++)
            if (p->list[b].op == &wg__op_slice && p->list[b].in[0] == p->list[a].in[0] && p->list[b].loop == p->list[a].loop &&
                p->list[a].attr != p->list[b].attr && p->list[a].shape == p->list[b].shape &&
                p->list[p->list[a].in[0]].op == &wg__op_matmul) {
                p->list[b].attr = p->list[a].attr;
                return true;
            }
    return false;
}

/* A sum of merged products has their matrices in another order than their left operands. */
static bool exchange_matrices(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++) {
        const wg_instruction *i = &p->list[id];
        wg_instruction *b = i->op == &wg__op_matmul && i->loop ? &p->list[i->in[1]] : NULL;
        if (!b || b->op != &wg__op_concat || b->n != 2 || p->list[b->in[0]].shape != p->list[b->in[1]].shape || b->in[0] == b->in[1])
            continue;
        uint32_t first = b->in[0];
        b->in[0] = b->in[1], b->in[1] = first;
        return true;
    }
    return false;
}

/* A stack is taken the other way round. */
static bool turn_stack(wg_program *p) {
    for (uint32_t id = (uint32_t)p->count - 1; id > 0; id--) {
        const wg_stacked_attr *s = p->list[id].attr;
        if (p->list[id].op != &wg__op_stacked || s->times < 2 || !p->list[id].shape->count)
            continue;
        wg_stacked_attr turned = {s->times, !s->backward};
        p->list[id].attr = own_attr(p, &turned, sizeof turned);
        return true;
    }
    return false;
}

/* A matrix is packed as if it stood transposed. */
static bool pack_transposed(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++) {
        const int64_t *a = p->list[id].attr; /* k, n, transposed, parts */
        if (strcmp(p->list[id].op->name, "pack") != 0 || a[0] != a[1] || a[0] < 2)
            continue;
        const int64_t turned[4] = {a[0], a[1], !a[2], a[3]};
        p->list[id].attr = own_attr(p, turned, sizeof turned);
        return true;
    }
    return false;
}

/* A region takes in the one after it, of rows longer than its own. */
static bool join_longer_rows(wg_program *p) {
    for (uint32_t id = 1; id + 1 < p->count; id++) {
        wg_instruction *a = &p->list[id], *b = a + 1;
        if (!a->region || !b->region || a->loop != b->loop || a->region == b->region || a->dtype != b->dtype || a->shape->rank != 2 ||
            b->shape->rank != 2 || a->shape->dim[0] != b->shape->dim[0] || a->shape->dim[1] >= b->shape->dim[1])
            continue;
        for (uint32_t number = b->region, k = id + 1; k < p->count && p->list[k].region == number; k++)
            p->list[k].region = a->region;
        return true;
    }
    return false;
}

/* Two places in a tile, of values alive together, are one. */
static bool overlap_in_tile(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++)
        for (uint32_t other = 1; other < id; other++) {
            wg_value *v = &p->values[id], *o = &p->values[other];
            if (v->space == WG_IN_TILE && o->space == WG_IN_TILE && p->list[id].loop == p->list[other].loop && v->base == id && o->base == other &&
                o->last > id && o->offset < v->offset && p->list[id].shape == p->list[other].shape) {
                v->offset = o->offset;
                return true;
            }
        }
    return false;
}

/* What the next iteration reads is written over in this one. */
static bool forget_twice(wg_program *p) {
    bool any = false;
    for (uint32_t id = 1; id < p->count; id++)
        if (p->values[id].space == WG_IN_TILE && p->values[id].twice)
            p->values[id].twice = false, any = true;
    return any;
}

/* ---- storage ---- */

/* A view forgets its strides. */
static bool lose_strides(wg_program *p) {
    for (int64_t id = 1; id < p->count; id++)
        if (p->values[id].stride && p->list[id].op->view && p->list[p->values[id].base].shape->count >= p->list[id].shape->count) {
            p->values[id].stride = NULL;
            return true;
        }
    return false;
}

/* A result takes over an operand that is read again. */
static bool take_too_early(wg_program *p) {
    for (int64_t id = 1; id < p->count; id++)
        for (uint32_t k = 0; p->list[id].op->run == wg__pointwise_run && wg__computes(p, id) && k < p->list[id].n; k++) {
            uint32_t in = wg__reads(&p->list[id])[k], last = p->values[in].last;
            if (p->values[in].base == in && wg__computes(p, in) && last > id && last != WG_AT_END && !p->values[id].over &&
                p->list[in].shape == p->list[id].shape && p->list[id].shape->count) {
                p->values[id].over = in;
                return true;
            }
        }
    return false;
}

/* A buffer lies where one lies that is still alive. */
static bool overlap(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++)
        for (uint32_t other = 1; other < id; other++)
            if (wg__computes(p, id) && wg__computes(p, other) && p->values[id].space == WG_IN_ARENA &&
                p->values[other].space == WG_IN_ARENA && p->values[other].last > id && p->values[id].last != id &&
                wg__instruction_bytes(&p->list[id]) >= wg__instruction_bytes(&p->list[other]) &&
                wg__instruction_bytes(&p->list[other]) && p->values[id].offset > p->values[other].offset) {
                p->values[id].offset = p->values[other].offset;
                return true;
            }
    return false;
}

/* One function's partial derivative is the other's. */
static bool exchange_functions(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++)
        if (p->list[id].op == &wg__op_tanh_partial || p->list[id].op == &wg__op_sigmoid_partial) {
            p->list[id].op = p->list[id].op == &wg__op_tanh_partial ? &wg__op_sigmoid_partial : &wg__op_tanh_partial;
            return true;
        }
    return false;
}

/* Two values that a loop keeps side by side exchange their columns. */
static bool exchange_parts(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++) {
        const wg_instruction *stack = &p->list[id];
        if (stack->op != &wg__op_stacked || p->list[stack->in[0]].op != &wg__op_concat || !stack->shape->count)
            continue;
        uint32_t *in = wg__reads(&p->list[stack->in[0]]), first = in[0];
        bool made = p->list[first].region && p->list[in[1]].region && p->list[first].shape == p->list[in[1]].shape;
        for (uint32_t k = stack->in[0] + 1; k < id && made; k++)
            made = p->list[k].loop == 0; /* the last of its loop, as `join` makes it */
        if (!made)
            continue;
        in[0] = in[1];
        in[1] = first;
        return true;
    }
    return false;
}

/* A stack takes over an array that its loop has not read yet. */
static bool stack_too_early(wg_program *p) {
    for (int64_t k = 0; k < p->loop_count; k++)
        for (uint32_t stack = p->loops[k].edges; stack; stack = p->values[stack].edge)
            for (uint32_t id = p->loops[k].from; id < p->loops[k].to; id++) {
                uint32_t array = p->values[id].base;
                if (p->list[id].op != &wg__op_element || p->values[stack].over || p->list[stack].op != &wg__op_stacked ||
                    p->loops[k].times < 2 || p->list[array].loop || array >= p->loops[k].from || !wg__buffered(p, array) ||
                    wg__instruction_bytes(&p->list[array]) != wg__instruction_bytes(&p->list[stack]) ||
                    p->list[array].dtype != p->list[stack].dtype || wg__stacks_over(p, stack, array))
                    continue;
                p->values[stack].over = array;
                return true;
            }
    return false;
}

/* What a step keeps is another value of its region. */
static bool keep_another(wg_program *p) {
    for (uint32_t id = 1; id < p->count; id++)
        for (uint32_t of = id - 1; p->list[id].op == &wg__op_bypass && p->list[of].region == p->list[id].region; of--)
            if (of != p->list[id].in[0] && p->list[of].op != &wg__op_bypass) {
                p->list[id].in[0] = of;
                return true;
            }
    return false;
}

static const struct {
    const char *after;
    fault *plant;
} faults[] = {{"simplify", merge_unequal}, {"draws", exchange_draws}, {"early", make_of_another}, {"even", add_something}, {"again", make_again_of_another}, {"relay", hand_on_another}, {"roll", shift_element},
              {"roll", confuse_carries}, {"roll", confuse_ending},
              {"columns", exchange_pieces}, {"gates", slice_another_gate}, {"gates", exchange_matrices}, {"time", turn_stack},
              {"accumulate", lose_sum},    {"pack", pack_transposed},   {"partials", exchange_functions}, {"fuse", join_longer_rows},  {"join", exchange_parts},     {"bypass", keep_another},
              {"layout", lose_strides},    {"inplace", take_too_early}, {"inplace", stack_too_early},   {"place", overlap},
              {"schedule", overlap_in_tile}, {"schedule", forget_twice}};

/* The plan with a fault after one pass; NULL if the graph has no place for it. */
static wg_plan *faulty(const wg_var *y, int n, int which) {
    wg_error error = {0};
    wg_program *p = wg__compile(NULL, "record", n, y, &error);
    bool planted = false;
    p->threads = 2, p->far_bytes = 1, p->parts = false;
    for (int i = 0; i < wg__pass_count; i++) {
        cr_assert_eq(wg__passes[i].run(p, &error), WG_OK, "%s", error.text);
        if (strcmp(wg__passes[i].name, faults[which].after) == 0)
            planted = faults[which].plant(p);
    }
    if (planted)
        return wg__plan_new(p, NULL, &error);
    wg__program_free(p);
    return NULL;
}

/* Whether a graph shows the fault. */
static bool shows(uint64_t seed, int which) {
    char text[512];
    wg_var y[RANDOM_OUTPUTS], z[RANDOM_OUTPUTS];
    wg_tensor *single[RANDOM_OUTPUTS] = {0}, *exact[RANDOM_OUTPUTS] = {0};
    wg_tape *tape = wg_tape_new(NULL), *fine = wg_tape_new(NULL);
    int n = random_graph(tape, seed, WG_F32, 16, y, NULL);
    random_graph(fine, seed, WG_F64, 16, z, NULL);
    wg_plan *plan = faulty(y, n, which);
    bool shown = false;
    if (plan && wg_eval(n, y, single, NULL) == WG_OK && wg_eval(n, z, exact, NULL) == WG_OK) {
        shown = wg_run(plan, NULL) != WG_OK;
        for (int i = 0; i < n && !shown; i++)
            shown = !random_graph_agree(exact[i], single[i], wg_plan_output(plan, i), text, sizeof text);
    }
    for (int i = 0; i < n; i++) {
        wg_tensor_free(single[i]);
        wg_tensor_free(exact[i]);
    }
    wg_plan_free(plan);
    wg_tape_free(tape);
    wg_tape_free(fine);
    return shown;
}

Test(passes, a_fault_after_any_pass_shows_on_random_graphs) {
    int pass = 0;
    for (int which = 0; which < (int)(sizeof faults / sizeof *faults); which++) {
        pass += pass < wg__pass_count && strcmp(faults[which].after, wg__passes[pass].name) != 0;
        cr_assert(pass < wg__pass_count && strcmp(faults[which].after, wg__passes[pass].name) == 0, "a pass before %s has no fault", faults[which].after);
        uint64_t seed = 1, most = faults[which].plant == join_longer_rows ? 8000 : 2000; /* few graphs have a place for that one */
        while (seed <= most && !shows(seed, which))
            seed++;
        cr_expect_leq(seed, most, "fault %d, after %s, shows nowhere", which, faults[which].after);
    }
    cr_assert_eq(pass, wg__pass_count - 1, "every pass has a fault");
}

Test(passes, equal_attributes_are_equal_bytes_whatever_the_stack_held) {
    wg_tape *tape = wg_tape_new(NULL);
    wg_tensor *t = taped_random(NULL, WG_F32, 2, (const int64_t[]){3, 4}, 1), *k = wg_tensor_new(NULL, WG_I32, 1, (const int64_t[]){2});
    wg_var x = wg_leaf(tape, t), i = wg_leaf(tape, k), recorded[2][6];
    for (int round = 0; round < 2; round++) {
        volatile char dirt[4096];
        for (size_t at = 0; at < sizeof dirt; at++)
            dirt[at] = (char)(round ? 0xff : 0x11);
        recorded[round][0] = wg_slice(x, 1, 1, 2);
        recorded[round][1] = wg_gather(x, i, 0);
        recorded[round][2] = wg_one_hot(i, 4, WG_F32);
        recorded[round][3] = wg_reshape(x, 1, (const int64_t[]){12});
        recorded[round][4] = wg_scatter_add(recorded[0][1], i, 0, 3);
        recorded[round][5] = taped_sum(x);
    }
    for (int at = 0; at < 6; at++) {
        const wg_node *a = wg__of(recorded[0][at]), *b = wg__of(recorded[1][at]);
        cr_expect(memcmp(a->attr, b->attr, a->op->attr_size) == 0, "%s", a->op->name);
    }
    wg_tape_free(tape);
    wg_tensor_free(t);
    wg_tensor_free(k);
}
