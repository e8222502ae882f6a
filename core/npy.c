/* npy.c: one array to and from NumPy's .npy: a magic, a header that is the text of a Python dictionary, the data. The
 * header is read by its own small grammar, never evaluated. Touches files through file.c only. */
#include "core.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define MAGIC "\x93NUMPY"

enum { MAGIC_SIZE = 6, HEADER_LIMIT = 65536, ALIGN = 64 };

typedef struct header {
    const wg_element *element;
    bool big_endian, fortran;
    wg_shape shape;
} header;

/* A place in the header's text. why: what is wrong there, once something is. */
typedef struct cursor {
    const char *at, *end;
    char why[160];
    wg_status status;
} cursor;

WG_PRINTF(3, 4)
static bool stop(cursor *c, wg_status status, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(c->why, sizeof c->why, format, arguments);
    va_end(arguments);
    c->status = status;
    return false;
}

/* ---- the dictionary ---- */

static void space(cursor *c) {
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t'))
        c->at++;
}

/* Takes a token after any space. */
static bool take(cursor *c, const char *token) {
    size_t length = strlen(token);
    space(c);
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, token, length) != 0)
        return false;
    c->at += length;
    return true;
}

/* A string in either quotes, without escapes, shorter than `size`. */
static bool string(cursor *c, char *text, size_t size) {
    char quote = take(c, "'") ? '\'' : take(c, "\"") ? '"' : 0;
    size_t length = 0;
    for (; quote && c->at < c->end && length < size - 1; c->at++) {
        if (*c->at == quote) {
            text[length] = 0;
            c->at++;
            return true;
        }
        if (*c->at == '\\' || (unsigned char)*c->at < 0x20 || (unsigned char)*c->at > 0x7E)
            break;
        text[length++] = *c->at;
    }
    return false;
}

static bool read_descr(cursor *c, header *h) {
    char text[32];
    space(c);
    if (c->at < c->end && *c->at == '[')
        return stop(c, WG_DTYPE, "its elements are records, which are not read");
    if (!string(c, text, sizeof text))
        return stop(c, WG_FORMAT, "its descr is no short string");
    bool order = text[0] && strchr("<>=", text[0]);
    bool sized = order && text[1] && text[2] >= '0' && text[2] <= '9' && !text[3];
    h->element = sized ? wg__element_sized(text[1], text[2] - '0') : NULL;
    h->big_endian = text[0] == '>';
    return h->element || stop(c, WG_DTYPE,
                              "its type '%s' is not read (f8, f4, f2, i8 and i4 are, < or >)", text);
}

static bool read_order(cursor *c, header *h) {
    h->fortran = take(c, "True");
    return h->fortran || take(c, "False") ||
           stop(c, WG_FORMAT, "its fortran_order is neither True nor False");
}

/* A size, with the L that Python 2 wrote. */
static bool size_of(cursor *c, int64_t *size) {
    const char *first = (space(c), c->at);
    *size = 0;
    for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
        if (__builtin_mul_overflow(*size, 10, size) ||
            __builtin_add_overflow(*size, *c->at - '0', size))
            return stop(c, WG_FORMAT, "a size in its shape is too large");
    if (c->at == first)
        return stop(c, WG_FORMAT, "its shape is no tuple of whole numbers");
    if (c->at < c->end && *c->at == 'L')
        c->at++;
    return true;
}

/* () or (n,) or (n, m) or (n, m,). */
static bool read_shape(cursor *c, header *h) {
    int64_t dim[WG_MAX_RANK];
    int rank = 0;
    bool comma = true;
    if (!take(c, "("))
        return stop(c, WG_FORMAT, "its shape is no tuple");
    while (!take(c, ")")) {
        if (!comma)
            return stop(c, WG_FORMAT, "its shape is no tuple of whole numbers");
        if (rank == WG_MAX_RANK)
            return stop(c, WG_FORMAT, "its shape has more than %d axes", WG_MAX_RANK);
        if (!size_of(c, &dim[rank++]))
            return false;
        comma = take(c, ",");
    }
    if (rank == 1 && !comma)
        return stop(c, WG_FORMAT, "its shape is a number, not a tuple");
    return wg__shape_set(&h->shape, rank, dim) == WG_OK ||
           stop(c, WG_FORMAT, "its shape has too many elements");
}

static const struct {
    const char *key;
    bool (*read)(cursor *c, header *h);
} keys[] = {{"descr", read_descr}, {"fortran_order", read_order}, {"shape", read_shape}};

/* One `key: value`. seen: a bit for every key that was there. */
static bool read_member(cursor *c, header *h, unsigned *seen) {
    char key[32];
    if (!string(c, key, sizeof key))
        return stop(c, WG_FORMAT, "its header has no key where one belongs");
    int k = 0;
    while (k < WG_LEN(keys) && strcmp(key, keys[k].key) != 0)
        k++;
    if (k == WG_LEN(keys) || (*seen & 1u << k))
        return stop(c, WG_FORMAT, "its header has the key '%s'%s", key,
                    k == WG_LEN(keys) ? ", which is unknown" : " twice");
    *seen |= 1u << k;
    return take(c, ":") ? keys[k].read(c, h) : stop(c, WG_FORMAT, "a key without a colon");
}

static bool read_dictionary(cursor *c, header *h) {
    unsigned seen = 0;
    bool comma = true;
    if (!take(c, "{"))
        return stop(c, WG_FORMAT, "its header is no dictionary");
    while (!take(c, "}")) {
        if (!comma)
            return stop(c, WG_FORMAT, "its header has neither , nor } after a value");
        if (!read_member(c, h, &seen))
            return false;
        comma = take(c, ",");
    }
    space(c);
    if (c->at != c->end)
        return stop(c, WG_FORMAT, "something follows its header");
    for (int k = 0; k < WG_LEN(keys); k++)
        if (!(seen & 1u << k))
            return stop(c, WG_FORMAT, "its header has no %s", keys[k].key);
    return true;
}

/* ---- the file ---- */

/* Finds the dictionary in the file; c->end is where the data begin. */
static bool find_header(cursor *c, const unsigned char *byte, size_t size) {
    if (size < MAGIC_SIZE + 4 || memcmp(byte, MAGIC, MAGIC_SIZE) != 0)
        return stop(c, WG_FORMAT, "it is no .npy file");
    int major = byte[MAGIC_SIZE], minor = byte[MAGIC_SIZE + 1];
    if (major < 1 || major > 3 || minor != 0)
        return stop(c, WG_VERSION, "its .npy version is %d.%d; 1.0 to 3.0 are known", major, minor);
    size_t width = major == 1 ? 2 : 4, length = 0, before = MAGIC_SIZE + 2 + width;
    if (size < before)
        return stop(c, WG_FORMAT, "it ends within its header");
    for (size_t i = 0; i < width; i++)
        length |= (size_t)byte[MAGIC_SIZE + 2 + i] << (8 * i);
    if (length > HEADER_LIMIT)
        return stop(c, WG_FORMAT, "its header of %zu bytes is beyond the limit of %d", length,
                    HEADER_LIMIT);
    if (length > size - before)
        return stop(c, WG_FORMAT, "it ends within its header");
    c->at = (const char *)byte + before;
    c->end = c->at + length;
    return true;
}

/* Copies a column-major array to row-major order. */
static void reorder(const wg_shape *shape, size_t width, const char *from, char *to) {
    int64_t index[WG_MAX_RANK] = {0}, stride[WG_MAX_RANK], at = 0, next = 1;
    for (int k = 0; k < shape->rank; k++) {
        stride[k] = next;
        next *= shape->dim[k];
    }
    for (int64_t i = 0; i < shape->count; i++) {
        memcpy(to + (size_t)i * width, from + (size_t)at * width, width);
        for (int k = shape->rank - 1; k >= 0; k--) {
            at += stride[k];
            if (++index[k] < shape->dim[k])
                break;
            at -= stride[k] * index[k];
            index[k] = 0;
        }
    }
}

static wg_tensor *decode(wg_memory *memory, const header *h, const void *data, cursor *c) {
    bool turn = h->fortran && h->shape.rank > 1;
    wg_dtype dtype = h->element->dtype;
    wg_tensor *read = wg_tensor_new(memory, dtype, h->shape.rank, h->shape.dim);
    wg_tensor *turned = turn ? wg_tensor_new(memory, dtype, h->shape.rank, h->shape.dim) : NULL;
    int64_t misfit = -1;
    if (read && (turned || !turn))
        misfit = wg__element_decode(h->element, h->big_endian, h->shape.count, data,
                                    wg_tensor_write(read));
    else
        c->status = wg__refusal(memory);
    if (misfit >= 0)
        stop(c, WG_RANGE, "element %" PRId64 "%s does not fit in 32 bits", misfit,
             turn ? " of the file" : "");
    if (turn && c->status == WG_OK) {
        reorder(&h->shape, wg_dtype_size(dtype), wg_tensor_data(read), wg_tensor_write(turned));
        wg_tensor *swap = read;
        read = turned, turned = swap;
    }
    wg_tensor_free(turned);
    if (c->status == WG_OK)
        return read;
    wg_tensor_free(read);
    return NULL;
}

wg_tensor *wg_npy_parse(wg_memory *memory, const void *bytes, size_t size, const char *name,
                        wg_error *error) {
    cursor c = {0};
    header h = {0};
    wg_tensor *tensor = NULL;
    if (find_header(&c, bytes, size) && read_dictionary(&c, &h)) {
        size_t there = (size_t)((const char *)bytes + size - c.end);
        size_t wanted = (size_t)h.shape.count * (size_t)h.element->size; /* count < 2^59 */
        if (there == wanted)
            tensor = decode(memory, &h, c.end, &c);
        else
            stop(&c, WG_FORMAT, "its shape and type need %zu bytes of data, it has %zu", wanted, there);
    }
    if (!tensor)
        wg__file_error(error, c.status, "read", name, "%s",
                       c.why[0] ? c.why : wg_status_sentence(c.status));
    return tensor;
}

wg_tensor *wg_npy_load(wg_memory *memory, const char *path, wg_error *error) {
    size_t size;
    char *bytes = wg__file_read(memory, path, &size, error);
    wg_tensor *tensor = bytes ? wg_npy_parse(memory, bytes, size, path, error) : NULL;
    wg__give(memory, bytes);
    return tensor;
}

/* Version 1.0; space and a line's end fill the header up to a boundary. */
wg_status wg_npy_save(const wg_tensor *tensor, const char *path, wg_error *error) {
    const wg_shape *shape = wg_tensor_shape(tensor);
    wg_dtype dtype = wg_tensor_dtype(tensor);
    char text[512] = MAGIC "\x01";
    size_t start = MAGIC_SIZE + 4, used = start;
    used += (size_t)snprintf(text + used, sizeof text - used,
                             "{'descr': '<%c%zu', 'fortran_order': False, 'shape': (",
                             dtype == WG_I32 ? 'i' : 'f', wg_dtype_size(dtype));
    for (int k = 0; k < shape->rank; k++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%" PRId64, k ? ", " : "",
                                 shape->dim[k]);
    used += (size_t)snprintf(text + used, sizeof text - used, shape->rank == 1 ? ",), }" : "), }");
    while ((used + 1) % ALIGN)
        text[used++] = ' ';
    text[used++] = '\n';
    text[MAGIC_SIZE + 2] = (char)((used - start) & 0xFF);
    text[MAGIC_SIZE + 3] = (char)((used - start) >> 8);
    const wg_part parts[] = {{text, used}, {wg_tensor_data(tensor), wg_tensor_bytes(tensor)}};
    return wg__file_write(path, WG_LEN(parts), parts, error);
}
