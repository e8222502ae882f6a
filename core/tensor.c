/* tensor.c: shapes, element types, and the reference-counted arrays that live outside any tape. */
#include "core.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

struct wg_tensor {
    wg_memory *memory;
    _Atomic int64_t references;
    _Atomic uint64_t version;
    wg_dtype dtype;
    wg_shape shape;
    void *data; /* behind this struct, or the caller's */
    void (*release)(void *user, void *data);
    void *user;
};

const char *wg_dtype_name(wg_dtype dtype) {
    switch (dtype) {
    case WG_F32: return "f32";
    case WG_F64: return "f64";
    case WG_I32: return "i32";
    }
    return "?";
}

size_t wg_dtype_size(wg_dtype dtype) {
    return dtype == WG_F64 ? 8 : 4;
}

wg_status wg__shape_set(wg_shape *shape, int rank, const int64_t *dim) {
    if (rank < 0 || rank > WG_MAX_RANK)
        return WG_RANGE;
    wg_shape made = {.rank = rank}; /* dim may be the shape's own */
    bool empty = false;
    int64_t count = 1; /* of the sizes that are not zero, so that overflow shows beside a zero too */
    for (int i = 0; i < rank; i++) {
        if (dim[i] < 0)
            return WG_RANGE;
        made.dim[i] = dim[i];
        if (dim[i] == 0)
            empty = true;
        else if (__builtin_mul_overflow(count, dim[i], &count) || count > INT64_MAX / 16)
            return WG_RANGE;
    }
    made.count = empty ? 0 : count;
    *shape = made;
    return WG_OK;
}

bool wg__shape_same(const wg_shape *a, const wg_shape *b) {
    if (a->rank != b->rank || a->count != b->count)
        return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i])
            return false;
    return true;
}

void wg__dense_strides(const wg_shape *shape, int64_t *stride) {
    int64_t next = 1;
    for (int i = shape->rank - 1; i >= 0; i--) {
        stride[i] = next;
        next *= shape->dim[i];
    }
}

bool wg__row_step(const wg_shape *shape, const int64_t *stride, int64_t *step) {
    const int last = shape->rank - 1;
    int64_t next = 0; /* the stride of the next axis outward; 0: none had more than one row */
    *step = last >= 0 ? shape->dim[last] : 1;
    if (!stride || last < 0)
        return true;
    if (stride[last] != 1 && shape->dim[last] != 1)
        return false;
    for (int k = last - 1; k >= 0; k--) {
        if (shape->dim[k] == 1)
            continue;
        if (!next)
            *step = stride[k];
        else if (stride[k] != next)
            return false;
        next = stride[k] * shape->dim[k];
        if (!next) /* of one row, again and again */
            return k == 0;
    }
    return true;
}

bool wg__takes(const wg_op *op, const wg_shape *shape, const int64_t *stride) {
    int64_t step;
    return !stride || op->traits & WG_TAKES_STRIDES || (op->traits & WG_TAKES_ROWS && wg__row_step(shape, stride, &step));
}

int wg__axis(int axis, int rank) {
    if (axis < -rank || axis >= rank)
        return -1;
    return axis < 0 ? axis + rank : axis;
}

char *wg_shape_text(const wg_shape *shape, char *text, size_t size) {
    size_t used = 0;
    if (size)
        text[0] = 0;
    for (int i = 0; i <= shape->rank && used < size; i++) {
        int wrote = i == shape->rank
                        ? snprintf(text + used, size - used, shape->rank ? ")" : "()")
                        : snprintf(text + used, size - used, "%c%lld", i ? ',' : '(',
                                   (long long)shape->dim[i]);
        used += (size_t)wrote;
    }
    return text;
}

wg_shape_name wg__shape_name(const wg_shape *shape) {
    wg_shape_name name;
    wg_shape_text(shape, name.text, sizeof name.text);
    return name;
}

/* The struct, with room for `bytes` of data behind it. */
static wg_tensor *tensor_make(wg_memory *memory, wg_dtype dtype, int rank, const int64_t *dim,
                              bool with_data) {
    wg_shape shape;
    if (dtype < WG_F32 || dtype > WG_I32 || wg__shape_set(&shape, rank, dim) != WG_OK)
        return NULL;
    size_t head = (sizeof(wg_tensor) + 63) / 64 * 64;
    size_t bytes = with_data ? (size_t)shape.count * wg_dtype_size(dtype) : 0;
    wg_tensor *tensor = wg__take(memory, wg__size(1, head, bytes));
    if (!tensor)
        return NULL;
    memset(tensor, 0, head + bytes);
    tensor->memory = memory;
    tensor->references = 1;
    tensor->version = 1;
    tensor->dtype = dtype;
    tensor->shape = shape;
    tensor->data = (char *)tensor + head;
    return tensor;
}

wg_tensor *wg_tensor_new(wg_memory *memory, wg_dtype dtype, int rank, const int64_t *dim) {
    return tensor_make(memory, dtype, rank, dim, true);
}

wg_tensor *wg_tensor_wrap(wg_memory *memory, wg_dtype dtype, int rank, const int64_t *dim, void *data,
                          void (*release)(void *user, void *data), void *user) {
    bool aligned = (uintptr_t)data % wg_dtype_size(dtype) == 0;
    wg_tensor *tensor = aligned ? tensor_make(memory, dtype, rank, dim, false) : NULL;
    if (tensor) {
        tensor->data = data;
        tensor->release = release;
        tensor->user = user;
    }
    return tensor;
}

wg_tensor *wg_tensor_copy(wg_memory *memory, const wg_tensor *tensor) {
    wg_tensor *copy = wg_tensor_new(memory, tensor->dtype, tensor->shape.rank, tensor->shape.dim);
    if (copy && wg_tensor_bytes(tensor))
        memcpy(copy->data, tensor->data, wg_tensor_bytes(tensor));
    return copy;
}

wg_tensor *wg_tensor_retain(wg_tensor *tensor) {
    tensor->references++;
    return tensor;
}

void wg_tensor_free(wg_tensor *tensor) {
    if (!tensor || --tensor->references > 0)
        return;
    if (tensor->release)
        tensor->release(tensor->user, tensor->data);
    wg__give(tensor->memory, tensor);
}

wg_dtype wg_tensor_dtype(const wg_tensor *tensor) { return tensor->dtype; }
const wg_shape *wg_tensor_shape(const wg_tensor *tensor) { return &tensor->shape; }
const void *wg_tensor_data(const wg_tensor *tensor) { return tensor->data; }
uint64_t wg_tensor_version(const wg_tensor *tensor) { return tensor->version; }

size_t wg_tensor_bytes(const wg_tensor *tensor) {
    return (size_t)tensor->shape.count * wg_dtype_size(tensor->dtype);
}

void *wg_tensor_write(wg_tensor *tensor) {
    tensor->version++;
    return tensor->data;
}

intptr_t wg__tensor_point(wg_tensor *tensor, void *data) {
    intptr_t by = (intptr_t)data - (intptr_t)tensor->data;
    uint64_t version = atomic_load_explicit(&tensor->version, memory_order_relaxed);
    atomic_store_explicit(&tensor->version, version + 1, memory_order_relaxed); /* one owner: no other raises it */
    tensor->data = data;
    return by;
}

double wg_tensor_get(const wg_tensor *tensor, int64_t index) {
    if (index < 0 || index >= tensor->shape.count)
        return 0;
    switch (tensor->dtype) {
    case WG_F32: return ((const float *)tensor->data)[index];
    case WG_F64: return ((const double *)tensor->data)[index];
    case WG_I32: return ((const int32_t *)tensor->data)[index];
    }
    return 0;
}

int32_t wg__to_i32(double x) {
    if (x != x)
        return 0;
    return x <= INT32_MIN ? INT32_MIN : x >= INT32_MAX ? INT32_MAX : (int32_t)x;
}

static void put(wg_tensor *tensor, int64_t index, double value) {
    switch (tensor->dtype) {
    case WG_F32: ((float *)tensor->data)[index] = (float)value; break;
    case WG_F64: ((double *)tensor->data)[index] = value; break;
    case WG_I32: ((int32_t *)tensor->data)[index] = wg__to_i32(value); break;
    }
}

void wg_tensor_set(wg_tensor *tensor, int64_t index, double value) {
    tensor->version++;
    if (index >= 0 && index < tensor->shape.count)
        put(tensor, index, value);
}

void wg_tensor_fill(wg_tensor *tensor, double value) {
    tensor->version++;
    for (int64_t i = 0; i < tensor->shape.count; i++)
        put(tensor, i, value);
}
