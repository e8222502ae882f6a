/* The named set: order, uniqueness, references, metadata, and every allocation failing. */
#include "suite.h"

#include "core.h"
#include "failing.h"

#include <stdio.h>
#include <string.h>

static wg_tensor *scalar(wg_memory *memory, double value) {
    wg_tensor *tensor = wg_tensor_new(memory, WG_F64, 0, NULL);
    if (tensor)
        wg_tensor_set(tensor, 0, value);
    return tensor;
}

static wg_status add(wg_params *params, const char *name, double value) {
    wg_tensor *tensor = scalar(NULL, value);
    wg_status status = wg_params_add(params, name, tensor);
    wg_tensor_free(tensor);
    return status;
}

Test(params, tensors_keep_their_order_and_are_found_by_name) {
    wg_params *params = wg_params_new(NULL);
    char name[16];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "W_%d", 99 - i);
        cr_assert_eq(add(params, name, i), WG_OK);
    }
    cr_assert_eq(wg_params_count(params), 100);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "W_%d", 99 - i);
        cr_assert_str_eq(wg_params_name(params, i), name);
        cr_assert_eq(wg_params_find(params, name), wg_params_tensor(params, i));
        cr_assert_eq(wg_tensor_get(wg_params_tensor(params, i), 0), i);
    }
    cr_assert_null(wg_params_find(params, "W_100"));
    cr_assert_null(wg_params_tensor(params, 100));
    cr_assert_null(wg_params_name(params, -1));
    wg_params_free(params);
}

Test(params, a_name_is_taken_once_and_must_be_utf8) {
    wg_params *params = wg_params_new(NULL);
    cr_assert_eq(add(params, "W", 1), WG_OK);
    cr_assert_eq(add(params, "W", 2), WG_CONFLICT);
    cr_assert_eq(wg_tensor_get(wg_params_find(params, "W"), 0), 1);
    cr_assert_eq(add(params, "", 2), WG_ARGUMENT);
    cr_assert_eq(add(params, NULL, 2), WG_ARGUMENT);
    cr_assert_eq(add(params, "\xC3(", 2), WG_ARGUMENT);
    cr_assert_eq(wg_params_add(params, "n", NULL), WG_ARGUMENT);
    cr_assert_eq(add(params, "w\xC3\xA9", 2), WG_OK);
    cr_assert_eq(wg_params_count(params), 2);
    wg_params_free(params);
}

Test(params, the_set_holds_a_reference_of_its_own) {
    wg_memory *memory = wg_memory_new(NULL, 0);
    wg_params *params = wg_params_new(NULL);
    wg_tensor *tensor = scalar(memory, 3);
    wg_params_add(params, "a", tensor);
    wg_params_add(params, "b", tensor);
    wg_tensor_free(tensor);
    cr_assert_eq(wg_tensor_get(wg_params_find(params, "b"), 0), 3);
    wg_params_free(params);
    cr_assert_eq(wg_memory_used(memory), 0);
    wg_memory_free(memory);
}

Test(params, fixed_is_a_mark_of_one_tensor) {
    wg_params *params = wg_params_new(NULL);
    add(params, "a", 1), add(params, "b", 2);
    wg_params_set_fixed(params, 1, true);
    wg_params_set_fixed(params, 2, true);
    cr_assert(!wg_params_fixed(params, 0));
    cr_assert(wg_params_fixed(params, 1));
    cr_assert(!wg_params_fixed(params, 2));
    wg_params_free(params);
}

Test(params, many_names_are_all_found_in_their_order) {
    enum { MANY = 3000 };
    wg_params *params = wg_params_new(NULL);
    wg_tensor *tensor = wg_tensor_new(NULL, WG_F32, 0, NULL), *last = wg_tensor_new(NULL, WG_F32, 0, NULL);
    char name[32];
    for (int i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "layer%d.W_%d", i / 12, i % 12);
        cr_assert_null(wg_params_find(params, name));
        cr_assert_eq(wg_params_add(params, name, i == MANY - 1 ? last : tensor), WG_OK);
        cr_assert_eq(wg_params_add(params, name, tensor), WG_CONFLICT);
        cr_assert_str_eq(wg_params_name(params, i), name);
    }
    cr_assert_eq(wg_params_find(params, name), last);
    cr_assert_eq(wg_params_find(params, "layer0.W_0"), tensor);
    cr_assert_null(wg_params_find(params, "layer0.W_12"));
    cr_assert_null(wg_params_find(params, NULL));
    wg_params_free(params);
    wg_tensor_free(tensor);
    wg_tensor_free(last);
}

Test(params, metadata_is_set_replaced_and_listed) {
    wg_params *params = wg_params_new(NULL);
    cr_assert_null(wg_params_meta(params, "step"));
    cr_assert_eq(wg_params_set_meta(params, "step", "1"), WG_OK);
    cr_assert_eq(wg_params_set_meta(params, "", ""), WG_OK);
    cr_assert_eq(wg_params_set_meta(params, "step", "22"), WG_OK);
    cr_assert_str_eq(wg_params_meta(params, "step"), "22");
    cr_assert_eq(wg_params_meta_count(params), 2);
    cr_assert_str_eq(wg_params_meta_key(params, 0), "step");
    cr_assert_null(wg_params_meta_key(params, 2));
    cr_assert_eq(wg_params_set_meta(params, "bad", "\xFF"), WG_ARGUMENT);
    cr_assert_eq(wg_params_set_meta(params, "bad", NULL), WG_ARGUMENT);
    wg_params_free(params);
}

/* Adds eleven tensors and notes, as far as memory goes; what was there stays right at every step. */
static wg_status fill(wg_params *params, wg_tensor *tensor) {
    char name[8];
    wg_status status = WG_OK;
    for (int i = 0; i < 11 && status == WG_OK; i++) {
        snprintf(name, sizeof name, "n%d", i);
        status = wg_params_add(params, name, tensor);
        cr_assert_eq(wg_params_count(params), i + (status == WG_OK));
        if (status == WG_OK) {
            status = wg_params_set_meta(params, name, "old");
            cr_assert_eq(wg_params_meta_count(params), i + (status == WG_OK));
        }
        if (status == WG_OK) {
            status = wg_params_set_meta(params, name, "new");
            cr_assert_str_eq(wg_params_meta(params, name), status == WG_OK ? "new" : "old");
        }
    }
    return status;
}

Test(params, every_allocation_may_fail) {
    bool done = false;
    for (long k = 1; !done; k++) {
        failing f;
        wg_memory *memory = failing_memory(&f, k);
        wg_params *params = wg_params_new(memory);
        wg_tensor *tensor = scalar(memory, 1);
        wg_status status = params && tensor ? fill(params, tensor) : WG_MEMORY;
        done = status == WG_OK;
        cr_assert(done || status == WG_MEMORY);
        cr_assert_eq(done, !failing_failed(&f), "call %ld", k);
        wg_tensor_free(tensor);
        wg_params_free(params);
        cr_assert_eq(f.live, 0, "call %ld leaks", k);
        wg_memory_free(memory);
    }
}
