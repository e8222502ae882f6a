/* .npy: files made by hand are read or refused; what is saved has the bytes the format asks for. */
#include "suite.h"

#include "core.h"
#include "failing.h"
#include "scratch.h"

#include <math.h>

typedef struct made {
    unsigned char byte[1024];
    size_t size;
} made;

/* A file of the given version around a header's text. */
static made make(int major, const char *header, const void *data, size_t size) {
    made f = {.size = 0};
    size_t length = strlen(header);
    memcpy(f.byte, "\x93NUMPY", 6);
    f.byte[6] = (unsigned char)major;
    f.size = 8;
    for (int i = 0; i < (major == 1 ? 2 : 4); i++)
        f.byte[f.size++] = (unsigned char)(length >> (8 * i));
    memcpy(f.byte + f.size, header, length);
    f.size += length;
    memcpy(f.byte + f.size, data, size);
    f.size += size;
    return f;
}

static wg_tensor *parse(const made *f, wg_error *error) {
    *error = (wg_error){0};
    return wg_npy_parse(NULL, f->byte, f->size, "x", error);
}

static wg_tensor *reads(int major, const char *header, const void *data, size_t size) {
    made f = make(major, header, data, size);
    wg_error error;
    wg_tensor *tensor = parse(&f, &error);
    cr_assert_not_null(tensor, "%s: %s", header, error.text);
    return tensor;
}

static const unsigned char six[48] = {1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0,
                                      4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0};

static void refuses(const char *header, size_t size, wg_status status, const char *reason) {
    made f = make(1, header, six, size);
    wg_error error;
    cr_assert_null(parse(&f, &error), "%s was read", header);
    cr_assert_eq(error.status, status, "%s: %s", header, error.text);
    cr_assert_eq(strncmp(error.text, "cannot read 'x': ", 17), 0, "%s", error.text);
    cr_assert_not_null(strstr(error.text, reason), "%s: '%s' does not say: %s", header, error.text, reason);
}

static void holds(wg_tensor *tensor, wg_dtype dtype, int n, const double *wanted) {
    cr_assert_eq(wg_tensor_dtype(tensor), dtype);
    cr_assert_eq(wg_tensor_shape(tensor)->count, n);
    for (int i = 0; i < n; i++)
        cr_assert_eq(wg_tensor_get(tensor, i), wanted[i], "element %d", i);
    wg_tensor_free(tensor);
}

#define HEADER(descr, order, shape)                                                                \
    "{'descr': '" descr "', 'fortran_order': " order ", 'shape': " shape ", }\n"

Test(npy, all_versions_and_both_orders_are_read) {
    static const double rows[] = {1, 2, 3, 4, 5, 6}, columns[] = {1, 3, 5, 2, 4, 6};
    for (int major = 1; major <= 3; major++) {
        wg_tensor *tensor = reads(major, HEADER("<i4", "False", "(2, 3)"), six, 24);
        cr_assert_eq(wg_tensor_shape(tensor)->dim[1], 3);
        holds(tensor, WG_I32, 6, rows);
        holds(reads(major, HEADER("<i4", "True", "(2, 3)"), six, 24), WG_I32, 6, columns);
    }
    static const double cube[] = {1, 3, 5, 2, 4, 6};
    wg_tensor *tensor = reads(1, HEADER("<i4", "True", "(2, 1, 3)"), six, 24);
    cr_assert_eq(wg_tensor_shape(tensor)->rank, 3);
    holds(tensor, WG_I32, 6, cube);
    holds(reads(1, HEADER("<i4", "True", "(6,)"), six, 24), WG_I32, 6, rows);
}

/* A Fortran array of 2x3x4 whose elements are their own C indices. */
Test(npy, column_major_axes_are_all_turned) {
    unsigned char data[96] = {0};
    for (int i = 0, at = 0; i < 4; i++)
        for (int j = 0; j < 3; j++)
            for (int k = 0; k < 2; k++, at += 4)
                data[at] = (unsigned char)(k * 12 + j * 4 + i);
    double wanted[24];
    for (int i = 0; i < 24; i++)
        wanted[i] = i;
    holds(reads(1, HEADER("<i4", "True", "(2, 3, 4)"), data, 96), WG_I32, 24, wanted);
}

Test(npy, scalars_and_empty_arrays_are_read) {
    wg_tensor *tensor = reads(1, HEADER("<i4", "False", "()"), six, 4);
    cr_assert_eq(wg_tensor_shape(tensor)->rank, 0);
    holds(tensor, WG_I32, 1, (double[]){1});
    holds(reads(1, HEADER("<f8", "True", "(3, 0)"), six, 0), WG_F64, 0, NULL);
}

Test(npy, every_type_is_read_in_both_byte_orders) {
    static const struct {
        const char *descr;
        unsigned char data[8];
        size_t size;
        wg_dtype dtype;
        double wanted;
    } rows[] = {{"<f4", {0, 0, 0x20, 0xC0}, 4, WG_F32, -2.5},
                {"=f4", {0, 0, 0x20, 0xC0}, 4, WG_F32, -2.5},
                {">f4", {0xC0, 0x20, 0, 0}, 4, WG_F32, -2.5},
                {"<f8", {0, 0, 0, 0, 0, 0, 0x04, 0xC0}, 8, WG_F64, -2.5},
                {">f8", {0xC0, 0x04, 0, 0, 0, 0, 0, 0}, 8, WG_F64, -2.5},
                {"<f2", {0, 0xC1}, 2, WG_F32, -2.5},
                {">f2", {0xC1, 0}, 2, WG_F32, -2.5},
                {"<i4", {0xFE, 0xFF, 0xFF, 0xFF}, 4, WG_I32, -2},
                {">i4", {0xFF, 0xFF, 0xFF, 0xFE}, 4, WG_I32, -2},
                {"<i8", {0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}, 8, WG_I32, -2},
                {">i8", {0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE}, 8, WG_I32, -2}};
    for (int i = 0; i < WG_LEN(rows); i++) {
        char header[128];
        snprintf(header, sizeof header, HEADER("%s", "False", "(1,)"), rows[i].descr);
        holds(reads(1, header, rows[i].data, rows[i].size), rows[i].dtype, 1, &rows[i].wanted);
    }
}

Test(npy, the_dictionary_may_be_written_in_other_ways) {
    static const char *texts[] = {"{\"shape\":(6,),\"descr\":\"<i4\",\"fortran_order\":False}",
                                  "{'shape' : ( 6L , ) , 'fortran_order':False,'descr':'<i4' , } \n",
                                  "{'descr':'<i4','fortran_order':False,'shape':(2,3)}",
                                  "{'descr':'<i4','fortran_order':False,'shape':(2,3,)}"};
    for (int i = 0; i < WG_LEN(texts); i++)
        wg_tensor_free(reads(1, texts[i], six, 24));
}

Test(npy, types_that_are_not_read_are_named) {
    static const char *types[] = {"|b1", "<u4", "<i2", "|u1", "<c8", "|O", "<U8", "i4", "<f16", "<f", "", "|f4"};
    for (int i = 0; i < WG_LEN(types); i++) {
        char header[128], reason[64];
        snprintf(header, sizeof header, HEADER("%s", "False", "(1,)"), types[i]);
        snprintf(reason, sizeof reason, "its type '%s' is not read", types[i]);
        refuses(header, 4, WG_DTYPE, reason);
    }
    refuses("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}", 4, WG_DTYPE, "records");
}

Test(npy, dictionaries_that_are_wrong_are_refused) {
    refuses("", 4, WG_FORMAT, "no dictionary");
    refuses("()", 4, WG_FORMAT, "no dictionary");
    refuses("{}", 4, WG_FORMAT, "has no descr");
    refuses("{'descr': '<i4', 'shape': (1,)}", 4, WG_FORMAT, "has no fortran_order");
    refuses("{'descr': '<i4', 'fortran_order': False}", 4, WG_FORMAT, "has no shape");
    refuses("{'descr': '<i4', 'descr': '<i4'}", 4, WG_FORMAT, "'descr' twice");
    refuses("{'more': 1}", 4, WG_FORMAT, "'more', which is unknown");
    refuses("{'descr' '<i4'}", 4, WG_FORMAT, "without a colon");
    refuses("{'descr': '<i4' 'shape': (1,)}", 4, WG_FORMAT, "neither , nor }");
    refuses("{'descr': 1}", 4, WG_FORMAT, "descr is no short string");
    refuses("{'descr': '<\\i4'}", 4, WG_FORMAT, "descr is no short string");
    refuses("{'descr': '<i4", 4, WG_FORMAT, "descr is no short string");
    refuses("{'a very long key that does not fit into its place': 1}", 4, WG_FORMAT, "no key");
    refuses("{,}", 4, WG_FORMAT, "no key");
    refuses(HEADER("<i4", "0", "(1,)"), 4, WG_FORMAT, "neither True nor False");
    refuses(HEADER("<i4", "False", "1"), 4, WG_FORMAT, "shape is no tuple");
    refuses(HEADER("<i4", "False", "(1)"), 4, WG_FORMAT, "a number, not a tuple");
    refuses(HEADER("<i4", "False", "(1 1)"), 4, WG_FORMAT, "no tuple of whole numbers");
    refuses(HEADER("<i4", "False", "(,)"), 4, WG_FORMAT, "no tuple of whole numbers");
    refuses(HEADER("<i4", "False", "(-1,)"), 4, WG_FORMAT, "no tuple of whole numbers");
    refuses(HEADER("<i4", "False", "(1.5,)"), 4, WG_FORMAT, "no tuple of whole numbers");
    refuses(HEADER("<i4", "False", "(1,1,1,1,1,1,1,1,1)"), 4, WG_FORMAT, "more than 8 axes");
    refuses(HEADER("<i4", "False", "(1,"), 4, WG_FORMAT, "no tuple of whole numbers");
    refuses(HEADER("<i4", "False", "(1,)") "x", 4, WG_FORMAT, "something follows");
    refuses("__import__('os').system('true')", 4, WG_FORMAT, "no dictionary");
}

Test(npy, sizes_that_lie_are_refused) {
    refuses(HEADER("<i4", "False", "(2,)"), 4, WG_FORMAT, "need 8 bytes of data, it has 4");
    refuses(HEADER("<i4", "False", "(1,)"), 8, WG_FORMAT, "need 4 bytes of data, it has 8");
    refuses(HEADER("<i4", "False", "(9223372036854775807,)"), 4, WG_FORMAT, "too many elements");
    refuses(HEADER("<i4", "False", "(9223372036854775808,)"), 4, WG_FORMAT, "too large");
    refuses(HEADER("<i4", "False", "(4294967296, 4294967296)"), 4, WG_FORMAT, "too many elements");
    refuses(HEADER("<i4", "False", "(0, 4294967296, 4294967296)"), 0, WG_FORMAT, "too many elements");
    refuses(HEADER("<f8", "True", "(1000000, 1000000)"), 8, WG_FORMAT, "need 8000000000000 bytes");
}

Test(npy, wide_integers_must_fit) {
    unsigned char data[16] = {0};
    data[12] = 1;
    made f = make(1, HEADER("<i8", "False", "(2,)"), data, 16);
    wg_error error;
    cr_assert_null(parse(&f, &error));
    cr_assert_eq(error.status, WG_RANGE);
    cr_assert_str_eq(error.text, "cannot read 'x': element 1 does not fit in 32 bits");
}

Test(npy, every_truncation_and_other_versions_are_refused) {
    for (int major = 0; major <= 5; major++) {
        made f = make(major, HEADER("<i4", "False", "(2,)"), six, 8);
        wg_error error = {0};
        if (major < 1 || major > 3) {
            cr_assert_null(parse(&f, &error));
            cr_assert_eq(error.status, WG_VERSION);
            continue;
        }
        for (size_t size = 0; size < f.size; size++) {
            unsigned char *cut = malloc(size ? size : 1);
            memcpy(cut, f.byte, size);
            error = (wg_error){0};
            cr_assert_null(wg_npy_parse(NULL, cut, size, "x", &error), "cut to %zu", size);
            cr_assert_eq(error.status, WG_FORMAT);
            free(cut);
        }
    }
    made huge = make(2, HEADER("<i4", "False", "(2,)"), six, 8);
    memset(huge.byte + 8, 0xFF, 4);
    wg_error error;
    cr_assert_null(parse(&huge, &error));
    cr_assert_not_null(strstr(error.text, "beyond the limit"), "%s", error.text);
}

static wg_tensor *sample(wg_memory *memory, wg_dtype dtype, int rank) {
    wg_tensor *tensor = wg_tensor_new(memory, dtype, rank, (const int64_t[]){3, 2});
    for (int64_t i = 0; tensor && i < wg_tensor_shape(tensor)->count; i++)
        wg_tensor_set(tensor, i, dtype == WG_I32 ? i - 2 : 0.1 * i - 0.2);
    return tensor;
}

Test(npy, what_is_saved_has_the_bytes_of_the_format) {
    scratch s = scratch_new();
    const char *path = scratch_path(&s, "x.npy");
    static const char *const texts[] = {
        "{'descr': '<i4', 'fortran_order': False, 'shape': (), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }",
        "{'descr': '<i4', 'fortran_order': False, 'shape': (3, 2), }",
    };
    for (int rank = 0; rank <= 2; rank++) {
        wg_tensor *tensor = sample(NULL, WG_I32, rank);
        wg_error error = {0};
        cr_assert_eq(wg_npy_save(tensor, path, &error), WG_OK, "%s", error.text);
        size_t size, data = 128;
        unsigned char *byte = (unsigned char *)scratch_get(path, &size);
        cr_assert_eq(memcmp(byte, "\x93NUMPY\x01\x00\x76\x00", 10), 0);
        cr_assert_eq(memcmp(byte + 10, texts[rank], strlen(texts[rank])), 0);
        for (size_t i = 10 + strlen(texts[rank]); i < data - 1; i++)
            cr_assert_eq(byte[i], ' ');
        cr_assert_eq(byte[data - 1], '\n');
        cr_assert_eq(size, data + wg_tensor_bytes(tensor));
        static const unsigned char first[] = {0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0};
        cr_assert_eq(memcmp(byte + data, first, rank ? 12 : 4), 0);
        free(byte);
        wg_tensor_free(tensor);
    }
    scratch_free(&s);
}

Test(npy, what_is_saved_is_loaded_the_same) {
    scratch s = scratch_new();
    const char *path = scratch_path(&s, "x.npy");
    for (wg_dtype dtype = WG_F32; dtype <= WG_I32; dtype++)
        for (int rank = 0; rank <= 2; rank++) {
            wg_tensor *tensor = sample(NULL, dtype, rank);
            cr_assert_eq(wg_npy_save(tensor, path, NULL), WG_OK);
            wg_tensor *loaded = wg_npy_load(NULL, path, NULL);
            cr_assert_not_null(loaded);
            cr_assert_eq(wg_tensor_dtype(loaded), dtype);
            cr_assert(wg__shape_same(wg_tensor_shape(loaded), wg_tensor_shape(tensor)));
            cr_assert_eq(memcmp(wg_tensor_data(loaded), wg_tensor_data(tensor), wg_tensor_bytes(tensor)), 0);
            wg_tensor_free(loaded);
            wg_tensor_free(tensor);
        }
    scratch_free(&s);
}

Test(npy, every_allocation_may_fail) {
    scratch s = scratch_new();
    const char *path = scratch_path(&s, "x.npy");
    made f = make(1, HEADER("<i4", "True", "(2, 3)"), six, 24);
    scratch_put(path, f.byte, f.size);
    bool done = false;
    for (long k = 1; !done; k++) {
        failing a;
        wg_memory *memory = failing_memory(&a, k);
        wg_error error = {0};
        wg_tensor *tensor = wg_npy_load(memory, path, &error);
        done = tensor != NULL;
        cr_assert_eq(done, !failing_failed(&a), "call %ld", k);
        cr_assert_eq(error.status, done ? WG_OK : WG_MEMORY);
        wg_tensor_free(tensor);
        cr_assert_eq(a.live, 0, "call %ld leaks", k);
        wg_memory_free(memory);
    }
    scratch_free(&s);
}
