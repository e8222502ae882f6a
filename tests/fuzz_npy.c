/* Fuzzes wg_npy_parse. An input is a file; or, if it begins with a digit, that version of one: the header to the last
 * newline and its data, to which magic and true length are put. */
#include "fuzz.h"

#include "core.h"

#include <string.h>

enum { LIMIT = 1 << 20 };

long fuzz_accepted;

const fuzz_text fuzz_seeds[] = {
    FUZZ("\x93NUMPY\x01\0\x3e\0{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }    \nabcd"),
    FUZZ("\x93NUMPY\x02\0\x3e\0\0\0{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }    \nabcd"),
    FUZZ("1{'descr': '<i4', 'fortran_order': False, 'shape': (), }\nabcd"),
    FUZZ("2{'descr': '>f2', 'fortran_order': True, 'shape': (2, 3), }\nabcdefghijkl"),
    FUZZ("3{'descr': '<i8', 'fortran_order': False, 'shape': (0, 3L), }\n"),
    FUZZ("1{'descr': '>f8', 'fortran_order': True, 'shape': (1, 1, 1, 1, 1, 1, 2, 1), }\nabcdefghijklmnop"),
    {0}};

const fuzz_text fuzz_words[] = {FUZZ("'descr': "), FUZZ("'fortran_order': "), FUZZ("'shape': "),
                                FUZZ("True"),      FUZZ("False"),             FUZZ("'<f4'"),
                                FUZZ("'>i8'"),     FUZZ("(2, 3)"),            FUZZ("()"),
                                FUZZ("(1,)"),      FUZZ("L, "),               FUZZ("[('a', '<f4')]"),
                                FUZZ("\n"),        FUZZ("}"),                 FUZZ("\x93NUMPY"),
                                {0}};

static void parse(const void *data, size_t size) {
    wg_memory *memory = wg_memory_new(NULL, LIMIT);
    wg_error error = {0};
    if (!memory)
        return;
    wg_tensor *tensor = wg_npy_parse(memory, data, size, "fuzz", &error);
    FUZZ_LAW((tensor != NULL) == (error.status == WG_OK));
    if (tensor) {
        fuzz_accepted++;
        volatile double sink = wg_tensor_get(tensor, wg_tensor_shape(tensor)->count - 1);
        (void)sink;
    } else {
        FUZZ_LAW(error.text[0] && !strpbrk(error.text, "\n\r"));
    }
    wg_tensor_free(tensor);
    FUZZ_LAW(wg_memory_used(memory) == 0);
    wg_memory_free(memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0 || data[0] < '1' || data[0] > '3') {
        parse(data, size);
        return 0;
    }
    size_t width = data[0] == '1' ? 2 : 4, start = 8 + width;
    const uint8_t *line = memrchr(data, '\n', size);
    size_t header = line ? (size_t)(line - data) : size - 1; /* with its newline */
    uint8_t *file = malloc(start + size);
    if (!file)
        return 0;
    memcpy(file, "\x93NUMPY", 6);
    file[6] = (uint8_t)(data[0] - '0');
    file[7] = 0;
    for (size_t i = 0; i < width; i++)
        file[8 + i] = (uint8_t)(header >> (8 * i));
    memcpy(file + start, data + 1, size - 1);
    parse(file, start + size - 1);
    free(file);
    return 0;
}
