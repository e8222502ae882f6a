/* fuzz_main.c: drives a fuzzer without libFuzzer: the seeds, then a fixed number of mutations of them. Run k is made
 * from the seed number and k alone, so a failure is repeated by its number.
 *
 *   fuzz_NAME [--runs N] [--seed S] [--only K]    mutate (20,000 runs, seed 1)
 *   fuzz_NAME --write FOLDER                      the seeds as files: a corpus for libFuzzer
 *   fuzz_NAME FILE…                               run on these files */
#include "fuzz.h"

#include "core.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { LARGEST = 4096 };

typedef struct input {
    uint8_t data[LARGEST];
    size_t size;
    wg_random random;
} input;

static volatile long running;

static size_t below(input *in, size_t n) { return (size_t)wg_random_below(&in->random, n); }

static int count(const fuzz_text *list) {
    int n = 0;
    while (list[n].data)
        n++;
    return n;
}

/* ---- mutations: each changes in->data and in->size ---- */

/* Opens a gap of `size` bytes at `at`; false if there is no room. */
static bool gap(input *in, size_t at, size_t size) {
    if (size > LARGEST - in->size)
        return false;
    memmove(in->data + at + size, in->data + at, in->size - at);
    in->size += size;
    return true;
}

static void insert(input *in, const void *data, size_t size) {
    size_t at = below(in, in->size + 1);
    if (size && gap(in, at, size))
        memcpy(in->data + at, data, size);
}

static void flip_bit(input *in) {
    if (in->size)
        in->data[below(in, in->size)] ^= (uint8_t)(1u << below(in, 8));
}

static void set_byte(input *in) {
    static const uint8_t values[] = {0, 1, 0x7F, 0x80, 0xFF, '0', '9', '"', '{', '}', '[', ',', '-', '\n'};
    if (in->size)
        in->data[below(in, in->size)] = values[below(in, sizeof values)];
}

static void drop_range(input *in) {
    if (!in->size)
        return;
    size_t at = below(in, in->size), size = 1 + below(in, wg__min((int64_t)(in->size - at), 16));
    memmove(in->data + at, in->data + at + size, in->size - at - size);
    in->size -= size;
}

static void cut(input *in) { in->size = below(in, in->size + 1); }

static void repeat_range(input *in) {
    uint8_t copy[64];
    if (!in->size)
        return;
    size_t at = below(in, in->size), size = 1 + below(in, wg__min((int64_t)(in->size - at), 64));
    memcpy(copy, in->data + at, size);
    insert(in, copy, size);
}

static void insert_word(input *in) {
    int n = count(fuzz_words);
    const fuzz_text *word = n ? &fuzz_words[below(in, (size_t)n)] : &fuzz_seeds[0];
    insert(in, word->data, word->size);
}

/* The head of this and the tail of another seed. */
static void splice(input *in) {
    const fuzz_text *other = &fuzz_seeds[below(in, (size_t)count(fuzz_seeds))];
    size_t from = below(in, other->size + 1), tail = other->size - from;
    cut(in);
    if (tail <= LARGEST - in->size) {
        memcpy(in->data + in->size, other->data + from, tail);
        in->size += tail;
    }
}

static void number(input *in) {
    static const char *const values[] = {"0", "1", "7", "8", "64", "255", "65536", "2147483648",
                                         "4294967296", "9007199254740993", "9223372036854775807",
                                         "18446744073709551616", "1e999", "-1", "0.5"};
    const char *value = values[below(in, WG_LEN(values))];
    insert(in, value, strlen(value));
}

static void (*const mutations[])(input *in) = {flip_bit, set_byte,     drop_range,  cut,   repeat_range,
                                               insert_word, insert_word, splice, number};

/* ---- runs ---- */

static void mutate(input *in, uint64_t seed, long run) {
    in->random = (wg_random){.seed = seed, .stream = (uint64_t)run};
    const fuzz_text *start = &fuzz_seeds[below(in, (size_t)count(fuzz_seeds))];
    in->size = start->size < LARGEST ? start->size : LARGEST;
    memcpy(in->data, start->data, in->size);
    for (size_t n = 1 + below(in, 1 + below(in, 6)); n; n--)
        mutations[below(in, WG_LEN(mutations))](in);
}

/* In a block of the exact size, so that a sanitizer sees a read beyond it. */
static void execute(const void *data, size_t size) {
    uint8_t *exact = malloc(size ? size : 1);
    if (!exact)
        abort();
    memcpy(exact, data, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

/* Says which run failed; only calls that a signal handler may make. */
static void report(void) {
    char text[64] = "fuzz: it was --only ", digits[20];
    size_t used = strlen(text);
    int n = 0;
    for (long k = running; n == 0 || k; k /= 10)
        digits[n++] = (char)('0' + k % 10);
    while (n)
        text[used++] = digits[--n];
    text[used++] = '\n';
    if (write(STDERR_FILENO, text, used) < 0)
        return;
}

static void on_signal(int number_of) {
    report();
    signal(number_of, SIG_DFL);
    raise(number_of);
}

extern void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static int run_files(int n, char **paths) {
    for (int i = 0; i < n; i++) {
        size_t size;
        wg_error error = {0};
        char *data = wg__file_read(NULL, paths[i], &size, &error);
        if (!data)
            return fprintf(stderr, "%s\n", error.text), 1;
        execute(data, size);
        wg__give(NULL, data);
    }
    return 0;
}

static int write_seeds(const char *folder) {
    for (int i = 0; fuzz_seeds[i].data; i++) {
        char path[4096];
        wg_error error = {0};
        wg_part part = {fuzz_seeds[i].data, fuzz_seeds[i].size};
        snprintf(path, sizeof path, "%s/seed-%d", folder, i);
        if (wg__file_write(path, 1, &part, &error) != WG_OK)
            return fprintf(stderr, "%s\n", error.text), 1;
    }
    return 0;
}

int main(int argc, char **argv) {
    static input in;
    long runs = 20000, only = -1;
    uint64_t seed = 1;
    int i = 1;
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        long value = strtol(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--runs") == 0)
            runs = value;
        else if (strcmp(argv[i], "--only") == 0)
            only = value;
        else if (strcmp(argv[i], "--seed") == 0)
            seed = (uint64_t)value;
        else if (strcmp(argv[i], "--write") == 0)
            return write_seeds(argv[i + 1]);
        else
            return fprintf(stderr, "fuzz: there is no %s\n", argv[i]), 2;
    }
    if (i < argc)
        return run_files(argc - i, argv + i);
    signal(SIGABRT, on_signal);
    signal(SIGSEGV, on_signal);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(report);
    for (int k = 0; fuzz_seeds[k].data && only < 0; k++) {
        execute(fuzz_seeds[k].data, fuzz_seeds[k].size);
        if (fuzz_accepted != k + 1)
            return fprintf(stderr, "fuzz: seed %d was refused\n", k), 1;
    }
    for (running = only < 0 ? 0 : only; running < (only < 0 ? runs : only + 1); running++) {
        mutate(&in, seed, running);
        execute(in.data, in.size);
    }
    if (only < 0)
        printf("%ld runs, %ld inputs accepted\n", runs, fuzz_accepted);
    return 0;
}
