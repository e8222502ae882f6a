/* Arrays outside any tape: what an i32 takes, wrapped memory. */
#include "suite.h"

#include <math.h>
#include <string.h>

#include "core.h"

Test(tensor, an_i32_takes_what_it_can_hold) {
    static const struct {
        double given;
        int32_t held;
    } cases[] = {{2.9, 2}, {-2.9, -2}, {1e300, INT32_MAX}, {-1e300, INT32_MIN}, {INFINITY, INT32_MAX},
                 {2147483648., INT32_MAX}, {-2147483648., INT32_MIN}, {NAN, 0}};
    wg_tensor *t = wg_tensor_new(NULL, WG_I32, 1, (const int64_t[]){2});
    for (int i = 0; i < WG_LEN(cases); i++) {
        wg_tensor_set(t, 0, cases[i].given);
        cr_assert_eq(wg_tensor_get(t, 0), cases[i].held, "%g", cases[i].given);
        wg_tensor_fill(t, cases[i].given);
        cr_assert_eq(wg_tensor_get(t, 1), cases[i].held, "%g", cases[i].given);
    }
    wg_tensor_free(t);
}

Test(tensor, memory_out_of_line_with_its_elements_is_not_wrapped) {
    _Alignas(8) char bytes[64] = {0};
    const int64_t dim = 3;
    for (int offset = 0; offset < 9; offset++)
        for (wg_dtype type = WG_F32; type <= WG_I32; type++) {
            wg_tensor *t = wg_tensor_wrap(NULL, type, 1, &dim, bytes + offset, NULL, NULL);
            cr_assert_eq(t != NULL, (size_t)offset % wg_dtype_size(type) == 0, "%s at %d", wg_dtype_name(type), offset);
            wg_tensor_free(t);
        }
}

/* Vectors are wider than the alignment: every stretch of wrapped memory gives what an aligned copy gives. */
Test(tensor, wrapped_memory_need_be_aligned_to_an_element_alone) {
    _Alignas(64) double bytes[200];
    wg_error error = {0};
    for (wg_dtype type = WG_F32; type <= WG_F64; type++)
        for (int offset = 0; offset < 5; offset++) {
            const int64_t dim[2] = {9, 11};
            wg_tensor *x = wg_tensor_wrap(NULL, type, 2, dim, (char *)bytes + (size_t)offset * wg_dtype_size(type), NULL, NULL);
            for (int64_t i = 0; i < 99; i++)
                wg_tensor_set(x, i, 0.01 * (double)i - 0.5);
            wg_tensor *copy = wg_tensor_copy(NULL, x), *out[12];
            wg_tape *tape = wg_tape_new(NULL);
            wg_var y[12];
            for (int k = 0; k < 2; k++) {
                wg_var v = wg_leaf(tape, k ? copy : x);
                wg_var *to = y + 6 * k;
                to[0] = wg_tanh(v), to[1] = wg_sum(v, 1, (const int[]){0}, false), to[2] = wg_softmax(v, -1);
                to[3] = wg_matmul(v, v, true, false), to[4] = wg_layer_norm(v, 1e-5), to[5] = wg_norm(v, 0, NULL, false);
            }
            cr_assert_eq(wg_eval(12, y, out, &error), WG_OK, "%s", error.text);
            for (int k = 0; k < 6; k++)
                cr_assert(memcmp(wg_tensor_data(out[k]), wg_tensor_data(out[6 + k]), wg_tensor_bytes(out[k])) == 0,
                          "output %d, offset %d", k, offset);
            for (int k = 0; k < 12; k++)
                wg_tensor_free(out[k]);
            wg_tape_free(tape);
            wg_tensor_free(copy);
            wg_tensor_free(x);
        }
}
