/* recurrence.h: a recurrence recorded op by op, without marks of steps, so that no pass makes it a loop. */
#ifndef WG_TESTS_RECURRENCE_H
#define WG_TESTS_RECURRENCE_H

#include "taped.h"

#include "wengert/notation.h"

/* A tanh recurrence with a loss at every step (and, if asked, one of the squares of its weights) and all its gradients: y[0..4). The leaves hold f32
 * numbers in both types. */
static inline void recurrence(wg_tape *tape, wg_dtype dtype, int steps, bool squares, wg_var *y) {
    static const int64_t sizes[4][3] = {{32, 48}, {48, 48}, {17, 48}, {64, 32, 17}};
    wg_var leaf[4];
    for (int i = 0; i < 4; i++) {
        wg_tensor *t = taped_random(NULL, dtype, i == 3 ? 3 : 2, sizes[i], (uint64_t)i + 1);
        for (int64_t k = 0; k < wg_tensor_shape(t)->count; k++)
            wg_tensor_set(t, k, (float)(0.2 * wg_tensor_get(t, k)));
        leaf[i] = wg_leaf(tape, t);
        wg_tensor_free(t);
    }
    wg_var h = leaf[0], loss = wg_c(0);
    for (int i = 0; i < steps; i++) {
        wg_var now = wg_reshape(wg_slice(leaf[3], 0, i, 1), 2, (const int64_t[]){32, 17});
        h = tanh(add(wg_matmul(now, leaf[2], false, false), wg_matmul(h, leaf[1], false, false)));
        loss = add(loss, sum_to(square(h), 0, NULL));
    }
    if (squares)
        loss = add(loss, add(sum_to(square(leaf[1]), 0, NULL), sum_to(square(leaf[2]), 0, NULL)));
    y[0] = loss;
    wg_grad(loss, 3, leaf, y + 1);
    cr_assert_eq(wg_tape_status(tape), WG_OK, "%s", wg_tape_message(tape));
}

#endif
