/* Faults planted after each pass: what the comparison with evaluation on random graphs is worth. Every fault leaves a
 * program that runs, and must change what some graph computes. */
#include <string.h>

#include "plan.h"
#include "random_graph.h"
#include "taped.h"

typedef bool fault(wg_program *p);

/* Another value of the same type and shape takes the place of an operand, as if they were equal. */
static bool merge_unequal(wg_program *p) {
    for (int64_t id = p->count - 1; id > 0; id--)
        for (uint32_t k = 0; k < p->list[id].n; k++)
            for (uint32_t other = 1, *in = &wg__reads(&p->list[id])[k]; other < *in; other++)
                if (p->list[other].shape == p->list[*in].shape && p->list[other].dtype == p->list[*in].dtype &&
                    p->list[other].shape->count && p->list[*in].dtype != WG_I32) {
                    *in = other;
                    return true;
                }
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

/* An output's value is taken for dead, and another stands for it. */
static bool drop_output(wg_program *p) {
    uint32_t id = p->outputs[p->output_count - 1];
    for (uint32_t other = 1; other < p->count; other++)
        if (other != id && p->list[other].shape == p->list[id].shape && p->list[other].dtype == p->list[id].dtype &&
            p->list[id].shape->count) {
            p->outputs[p->output_count - 1] = other;
            return true;
        }
    return false;
}

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

static const struct {
    const char *after;
    fault *plant;
} faults[] = {{"simplify", merge_unequal}, {"accumulate", lose_sum},   {"prune", drop_output},
              {"layout", lose_strides},    {"inplace", take_too_early}, {"place", overlap}};

/* The plan with a fault after one pass; NULL if the graph has no place for it. */
static wg_plan *faulty(const wg_var *y, int n, int which) {
    wg_error error = {0};
    wg_program *p = wg__compile(NULL, "record", n, y, &error);
    bool planted = false;
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
    cr_assert_eq((int)(sizeof faults / sizeof *faults), wg__pass_count, "every pass has a fault");
    for (int which = 0; which < wg__pass_count; which++) {
        cr_assert_str_eq(faults[which].after, wg__passes[which].name);
        uint64_t seed = 1;
        while (seed <= 2000 && !shows(seed, which))
            seed++;
        cr_expect_leq(seed, 2000, "a fault after %s shows nowhere", faults[which].after);
    }
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
