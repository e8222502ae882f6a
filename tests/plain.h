/* plain.h: what the suites use of Criterion, without Criterion: tests run one after another in one process, so that a
 * sanitizer sees every access, every thread and every leak. One suite file makes one program. Stands alone. */
#ifndef WG_PLAIN_H
#define WG_PLAIN_H

#include <math.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct plain_test {
    const char *suite, *name;
    void (*body)(void);
    struct plain_test *next;
} plain_test;

static plain_test *plain_first, **plain_last = &plain_first;
static jmp_buf plain_leave;
static bool plain_failed;

static inline void plain_add(plain_test *test) {
    *plain_last = test;
    plain_last = &test->next;
}

/* Declares a test: the body follows. Registered before main, in the order of the file. */
#define Test(suite_, name_)                                                                        \
    static void suite_##_##name_##_body(void);                                                     \
    __attribute__((constructor)) static void suite_##_##name_##_add(void) {                        \
        static plain_test test = {#suite_, #name_, suite_##_##name_##_body, NULL};                 \
        plain_add(&test);                                                                          \
    }                                                                                              \
    static void suite_##_##name_##_body(void)

/* Says where and what failed; then, if `leave`, the test is over. */
#define PLAIN_CHECK(leave, condition, ...)                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            plain_failed = true;                                                                   \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                \
            fprintf(stderr, " " __VA_ARGS__);                                                      \
            fputc('\n', stderr);                                                                   \
            if (leave)                                                                             \
                longjmp(plain_leave, 1);                                                           \
        }                                                                                          \
    } while (0)
#define PLAIN_NEAR(a, b, e) (fabs((double)(a) - (double)(b)) <= (double)(e))
#define PLAIN_SAME(a, b) (strcmp(a, b) == 0)

#define cr_assert(condition, ...) PLAIN_CHECK(1, condition, __VA_ARGS__)
#define cr_assert_not(condition, ...) PLAIN_CHECK(1, !(condition), __VA_ARGS__)
#define cr_assert_fail(...) PLAIN_CHECK(1, 0, __VA_ARGS__)
#define cr_assert_eq(a, b, ...) PLAIN_CHECK(1, (a) == (b), __VA_ARGS__)
#define cr_assert_neq(a, b, ...) PLAIN_CHECK(1, (a) != (b), __VA_ARGS__)
#define cr_assert_lt(a, b, ...) PLAIN_CHECK(1, (a) < (b), __VA_ARGS__)
#define cr_assert_leq(a, b, ...) PLAIN_CHECK(1, (a) <= (b), __VA_ARGS__)
#define cr_assert_gt(a, b, ...) PLAIN_CHECK(1, (a) > (b), __VA_ARGS__)
#define cr_assert_geq(a, b, ...) PLAIN_CHECK(1, (a) >= (b), __VA_ARGS__)
#define cr_assert_null(a, ...) PLAIN_CHECK(1, (a) == NULL, __VA_ARGS__)
#define cr_assert_not_null(a, ...) PLAIN_CHECK(1, (a) != NULL, __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) PLAIN_CHECK(1, PLAIN_SAME(a, b), __VA_ARGS__)
#define cr_assert_str_neq(a, b, ...) PLAIN_CHECK(1, !PLAIN_SAME(a, b), __VA_ARGS__)
#define cr_assert_float_eq(a, b, e, ...) PLAIN_CHECK(1, PLAIN_NEAR(a, b, e), __VA_ARGS__)
#define cr_assert_float_neq(a, b, e, ...) PLAIN_CHECK(1, !PLAIN_NEAR(a, b, e), __VA_ARGS__)
#define cr_assert_arr_eq(a, b, n, ...) PLAIN_CHECK(1, memcmp(a, b, n) == 0, __VA_ARGS__)

#define cr_expect(condition, ...) PLAIN_CHECK(0, condition, __VA_ARGS__)
#define cr_expect_not(condition, ...) PLAIN_CHECK(0, !(condition), __VA_ARGS__)
#define cr_expect_eq(a, b, ...) PLAIN_CHECK(0, (a) == (b), __VA_ARGS__)
#define cr_expect_neq(a, b, ...) PLAIN_CHECK(0, (a) != (b), __VA_ARGS__)
#define cr_expect_lt(a, b, ...) PLAIN_CHECK(0, (a) < (b), __VA_ARGS__)
#define cr_expect_leq(a, b, ...) PLAIN_CHECK(0, (a) <= (b), __VA_ARGS__)
#define cr_expect_gt(a, b, ...) PLAIN_CHECK(0, (a) > (b), __VA_ARGS__)
#define cr_expect_geq(a, b, ...) PLAIN_CHECK(0, (a) >= (b), __VA_ARGS__)
#define cr_expect_null(a, ...) PLAIN_CHECK(0, (a) == NULL, __VA_ARGS__)
#define cr_expect_not_null(a, ...) PLAIN_CHECK(0, (a) != NULL, __VA_ARGS__)
#define cr_expect_str_eq(a, b, ...) PLAIN_CHECK(0, PLAIN_SAME(a, b), __VA_ARGS__)
#define cr_expect_str_neq(a, b, ...) PLAIN_CHECK(0, !PLAIN_SAME(a, b), __VA_ARGS__)
#define cr_expect_float_eq(a, b, e, ...) PLAIN_CHECK(0, PLAIN_NEAR(a, b, e), __VA_ARGS__)
#define cr_expect_float_neq(a, b, e, ...) PLAIN_CHECK(0, !PLAIN_NEAR(a, b, e), __VA_ARGS__)
#define cr_expect_arr_eq(a, b, n, ...) PLAIN_CHECK(0, memcmp(a, b, n) == 0, __VA_ARGS__)

/* Whether it passed. Nothing of the caller's lives across the jump. */
static bool plain_run(void (*body)(void)) {
    plain_failed = false;
    if (setjmp(plain_leave) == 0)
        body();
    return !plain_failed;
}

/* Runs them all; an argument runs only those whose "suite/name" contains it. Closes with Criterion's line. */
int main(int argc, char **argv) {
    int tested = 0, failing = 0;
    for (plain_test *test = plain_first; test; test = test->next) {
        char full[512];
        snprintf(full, sizeof full, "%s/%s", test->suite, test->name);
        if (argc > 1 && !strstr(full, argv[1]))
            continue;
        bool passed = plain_run(test->body);
        if (!passed)
            printf("[FAIL] %s\n", full);
        tested++;
        failing += !passed;
    }
    printf("[====] Synthesis: Tested: %d | Passing: %d | Failing: %d | Crashing: 0\n", tested, tested - failing,
           failing);
    return failing > 0 || tested == 0;
}

#endif
