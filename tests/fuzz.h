/* fuzz.h: what a fuzzer gives: the target, sound inputs to begin from, and words that mean something in its format.
 * libFuzzer drives the same file as fuzz_main.c does. */
#ifndef WG_FUZZ_H
#define WG_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct fuzz_text {
    const char *data;
    size_t size;
} fuzz_text;
#define FUZZ(text) {text, sizeof(text) - 1}

/* Both end with a NULL. The seeds are sound: the target takes each of them. */
extern const fuzz_text fuzz_seeds[], fuzz_words[];

/* How many inputs the target took as sound so far. */
extern long fuzz_accepted;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A law of the target; broken, it ends the program as a crash does. */
#define FUZZ_LAW(condition)                                                                        \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
