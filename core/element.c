/* element.c: the element types of files and their conversion to the three of the library. Pure functions. */
#include "core.h"

#include <math.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are written from memory as it is");

/* What an element's bytes mean; the row of the table below. */
enum { F64, F32, F16, BF16, I32, I64 };

static const wg_element table[] = {
    [F64] = {"F64", 'f', 8, WG_F64}, [F32] = {"F32", 'f', 4, WG_F32}, [F16] = {"F16", 'f', 2, WG_F32},
    [BF16] = {"BF16", 0, 2, WG_F32}, [I32] = {"I32", 'i', 4, WG_I32}, [I64] = {"I64", 'i', 8, WG_I32},
};

const wg_element *wg__element_named(const char *name) {
    for (int i = 0; i < WG_LEN(table); i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

const wg_element *wg__element_sized(char kind, int size) {
    for (int i = 0; i < WG_LEN(table); i++)
        if (table[i].kind && table[i].kind == kind && table[i].size == size)
            return &table[i];
    return NULL;
}

static uint64_t load(const unsigned char *byte, int size, bool big_endian) {
    uint64_t bits = 0;
    for (int i = 0; i < size; i++)
        bits |= (uint64_t)byte[big_endian ? size - 1 - i : i] << (8 * i);
    return bits;
}

static float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* binary16: one bit of sign, five of exponent (bias 15), ten of fraction; every value is exact in f32. */
static float half(uint32_t bits) {
    uint32_t sign = (bits & 0x8000) << 16, exponent = bits >> 10 & 31, fraction = bits & 0x3FF;
    if (exponent == 0)
        return copysignf((float)fraction * 0x1p-24f, float_of(sign | 0x3F800000));
    if (exponent == 31)
        return float_of(sign | 0x7F800000 | fraction << 13);
    return float_of(sign | (exponent + 112) << 23 | fraction << 13);
}

/* Writes element i of `to`; false if the value does not fit. */
static bool convert(int row, uint64_t bits, int64_t i, void *to) {
    int64_t whole = (int64_t)bits;
    switch (row) {
    case F64: memcpy((double *)to + i, &bits, 8); break;
    case F32: ((float *)to)[i] = float_of((uint32_t)bits); break;
    case F16: ((float *)to)[i] = half((uint32_t)bits); break;
    case BF16: ((float *)to)[i] = float_of((uint32_t)bits << 16); break;
    case I32: ((int32_t *)to)[i] = (int32_t)(uint32_t)bits; break;
    case I64:
        if (whole < INT32_MIN || whole > INT32_MAX)
            return false;
        ((int32_t *)to)[i] = (int32_t)whole;
    }
    return true;
}

int64_t wg__element_decode(const wg_element *element, bool big_endian, int64_t count,
                           const void *from, void *to) {
    int row = (int)(element - table);
    const unsigned char *byte = from;
    if (!big_endian && (row == F64 || row == F32 || row == I32)) {
        if (count)
            memcpy(to, from, (size_t)count * (size_t)element->size);
        return -1;
    }
    for (int64_t i = 0; i < count; i++)
        if (!convert(row, load(byte + i * element->size, element->size, big_endian), i, to))
            return i;
    return -1;
}
